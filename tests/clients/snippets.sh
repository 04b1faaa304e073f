# The shell of snippets.py: reads the names of files, runs each, and says `done`. A command that fails ends it. API_KEY is
# the last one that was shown.
#
# Four programs are other than a reader's. `guestpass serve` goes on in the background once it listens. `guestpass key
# rotate` is a patient operator's: told to wait, it waits. `systemctl` ends and starts that server. `curl` tries again
# for a while after a client was allowed something, which takes a server a moment to know.
set -eu

guestpass() {
    case " $* " in
    *" serve "*)
        serve_with="$*"
        systemctl start guestpass
        ;;
    *" --may "*)
        "$BINARY" "$@"
        changed=yes
        ;;
    *" --force "*) "$BINARY" "$@" ;;
    *" key rotate "*)
        tries=0
        until said=$("$BINARY" "$@" 2>&1); do
            case $said in *'for another '*) ;; *) tries=600 ;; esac
            if [ "$tries" -ge 600 ]; then echo "$said" && return 1; fi
            tries=$((tries + 1))
            sleep 0.1
        done
        echo "$said"
        ;;
    *) "$BINARY" "$@" ;;
    esac
}

curl() {
    tries=0
    until command curl "$@"; do
        if [ -z "$changed" ] || [ "$tries" -ge 600 ]; then return 22; fi
        tries=$((tries + 1))
        sleep 0.1
    done
    changed=
}

systemctl() {
    case $1 in
    stop)
        kill -TERM "$server"
        wait "$server"
        server=
        ;;
    start)
        # The server before said so as well.
        rm -f listening
        # shellcheck disable=SC2086 # No argument has a space.
        GUESTPASS_ADMIN_LISTEN=$ADMIN "$BINARY" $serve_with >listening 2>>log &
        server=$!
        tries=0
        until grep -qs '^listening on ' listening; do
            if [ "$tries" -ge 600 ] || ! kill -0 "$server"; then cat log && return 1; fi
            tries=$((tries + 1))
            sleep 0.1
        done
        ;;
    esac
}

changed=
server=
trap 'if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || :; fi' EXIT

exec 3>&1
while read -r snippet; do
    if [ -e api_key ]; then API_KEY=$(cat api_key); fi
    # shellcheck disable=SC1090 # It has just been written.
    . "./$snippet" </dev/null >output 2>&1
    echo done >&3
done
