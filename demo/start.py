"""Starts Guestpass, the shop's back end and nginx in front of both, and ends them together."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

DEMO = pathlib.Path(__file__).resolve().parent
ROOT = DEMO.parent
# Leaves nothing behind in the source tree.
sys.dont_write_bytecode = True
sys.path.insert(0, str(DEMO / "shop"))

import server  # noqa: E402

# Is longer than any start takes on a busy machine.
DEADLINE_SECONDS = 60


def main(guestpass, nginx, port):
    check_port(port)
    origin = f"http://www.shop.localhost:{port}"
    home = pathlib.Path(tempfile.mkdtemp(prefix="guestpass-demo-"))
    programs = []
    # A second signal must not interrupt the cleaning up after the first.
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    try:
        data = home / "guests"
        api_key = add_clients(guestpass, data, origin)
        programs.append(
            start(
                home / "guestpass.log",
                [guestpass, "--data-dir", data, "serve", "--listen", f"unix:{home}/guestpass.sock", "--issuer", origin],
            )
        )
        server.start(f"{home}/shop.sock", f"{home}/guestpass.sock", api_key, origin)
        await_ready(programs, socket.AF_UNIX, f"{home}/guestpass.sock")

        configuration = write_configuration(home, port)
        programs.append(start(home / "nginx.log", [nginx, "-p", home, "-e", "stderr", "-c", configuration]))
        await_ready(programs, socket.AF_INET, ("127.0.0.1", port))

        print(WHAT_TO_CLICK.format(origin=origin, home=home, guestpass=guestpass, data=data), flush=True)
        while not ended.wait(0.5):
            check_running(programs)
        print("\nEnded. Everything that was kept is gone.")
    finally:
        for program in reversed(programs):
            program.process.terminate()
        for program in programs:
            try:
                program.process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                program.process.kill()
        shutil.rmtree(home, ignore_errors=True)


WHAT_TO_CLICK = """
  The shop is open: {origin}

    1. Accept          the page asks Guestpass for a guest, who gets a number: `sub`
    2. Reload          the server greets you before any script has run
    3. Add to basket   the shop keeps the basket under that number
    4. Log in          any name will do: the guest becomes a customer's, the basket follows
    5. Wait 20 s       the next access token names the customer
    6. Log out         the guest stays, and is nobody's login
    7. Withdraw        you are nobody again

  What Guestpass knows of a guest, by the number that the page shows:
    {guestpass} --data-dir {data} profile show SUB

  Guestpass' log: {home}/guestpass.log
  Ctrl-C ends it, and removes {home}.
"""


def check_port(port):
    with socket.socket() as listener:
        # As nginx does: what a former run has left in TIME_WAIT is no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"Port {port} can't be had ({error.strerror}): choose another, for example make demo PORT={port + 1}")


def add_clients(guestpass, data, origin):
    """Adds the page's client and the back end's, and returns the API key of the latter."""

    def add(*options):
        command = [guestpass, "--data-dir", data, "--json", "client", "add", *options]
        added = subprocess.run(command, capture_output=True, text=True)
        if added.returncode != 0:
            sys.exit(added.stderr)
        return json.loads(added.stdout)

    # Twenty seconds in place of a day, so that one can watch a token being renewed.
    add("shop-web", "--origin", origin, "--cookies", "guest", "--claims", "customer", "--access-ttl", "20s")
    return add("shop-backend", "--confidential", "--may", "link", "--claims", "customer")["api_key"]


def write_configuration(home, port):
    text = (DEMO / "nginx.conf").read_text()
    for name, value in {
        # As root, nginx would give its workers a user that can't enter the directory.
        "USER": "user root;" if os.geteuid() == 0 else "",
        "HOME": str(home),
        "PORT": str(port),
        "STATIC": str(DEMO / "static"),
        "IDENTITY": str(ROOT / "deploy/nginx/guestpass_identity.conf"),
    }.items():
        text = text.replace(f"@{name}@", value)
    configuration = home / "nginx.conf"
    configuration.write_text(text)
    return configuration


class Program:
    def __init__(self, process, log):
        self.process, self.log = process, log


def start(log, command):
    # In sessions of their own, lest Ctrl-C reach them before their order has come.
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Program(process, log)


def check_running(programs):
    for program in programs:
        if program.process.poll() is not None:
            sys.exit(f"{program.process.args[0]} has ended:\n" + "\n".join(program.log.read_text().splitlines()[-10:]))


def await_ready(programs, family, address):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        check_running(programs)
        with socket.socket(family) as connection:
            try:
                return connection.connect(address)
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"Nothing listens on {address} after {DEADLINE_SECONDS} s.")
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
