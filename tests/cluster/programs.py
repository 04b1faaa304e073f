"""Long-running programs, the record of their pids, and the directory of their state."""

import contextlib
import fcntl
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = ROOT / "target/cluster"
ENDING = 20
LOCKS = []


class Trouble(Exception):
    """Raised when something did not happen in time, or a program ended unexpectedly."""


class Program:
    """A long-running program and its log."""

    def __init__(self, name, command, home=STATE, user=None, **environment):
        self.name, self.command, self.environment = name, [str(part) for part in command], environment
        self.home, self.user, self.process = home, user, None
        self.log = STATE / "log" / f"{name}.log"

    def start(self):
        entry = pwd.getpwnam(self.user) if self.user else None
        groups = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if entry else {}
        with self.log.open("ab") as log:
            # A session of its own, so that Ctrl-C reaches only this process, which ends it in order.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,
                env=surroundings() | {name: str(value) for name, value in self.environment.items()},
                **groups,
            )
        remember(self.process.pid)

    @property
    def pid(self):
        return self.process.pid

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def end(self, deadline=ENDING):
        if not self.runs():
            return
        send(signal.SIGTERM, [self.pid])
        try:
            self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        send(signal.SIGKILL, [self.pid])
        self.process.wait()


def prepare_state(say):
    """Empties target/cluster, and returns the directory in it that the user postgres may enter."""
    take_turns()
    end_leftovers(say)
    if STATE.is_symlink() or STATE.exists():
        home = STATE / "hosts"
        if home.is_symlink():
            shutil.rmtree(home.resolve(), ignore_errors=True)
        shutil.rmtree(STATE)
    STATE.joinpath("log").mkdir(parents=True)
    home = STATE / "hosts"
    if os.geteuid() != 0 or all(path.stat().st_mode & 0o001 for path in STATE.parents):
        home.mkdir()
    else:
        home.symlink_to(tempfile.mkdtemp(prefix="guestpass-cluster-", dir="/var/tmp"))
    home = home.resolve()
    home.chmod(0o755)
    return home


def take_turns():
    """Takes the lock that allows one run at a time. Child processes don't inherit it."""
    STATE.parent.mkdir(exist_ok=True)
    lock = STATE.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Trouble("make cluster or make drill runs already, on the same target directory") from None
    LOCKS.append(lock)


def remember(pid):
    """Records a pid, so that the next run can end the process if this one is killed."""
    with STATE.joinpath("pids").open("a") as pids:
        pids.write(f"{pid}\n")


def end_leftovers(say):
    """Ends the processes that a killed run has left: those recorded, if their pid hasn't been reused."""
    listed = STATE / "pids"
    pids = [int(line) for line in listed.read_text().split()] if listed.exists() else []
    for data in STATE.glob("hosts/*/postgresql/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pids.append(int(data.read_text().split("\n")[0]))
    for pid in pids:
        with contextlib.suppress(OSError):
            directory = os.readlink(f"/proc/{pid}/cwd")
            if directory == str(STATE) or directory.startswith(str((STATE / "hosts").resolve())):
                say(f"ending {pid}, which an earlier run has left")
                send(signal.SIGKILL, [*children(pid), pid])


def surroundings():
    """Returns the environment without variables that would configure the programs."""
    ours = ("GUESTPASS_", "PATRONI_", "ETCD_", "PG", "LC_", "LANG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {"LANG": "C.UTF-8"}


def postgresql_programs():
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise Trouble("There is no PostgreSQL in /usr/lib/postgresql")
    return versions[-1]


def send(number, pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def children(pid):
    with contextlib.suppress(OSError):
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command_line(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def tail(path, lines=15):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def is_free(port):
    try:
        socket.create_server(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


def fetch(url, timeout=3):
    """Fetches a URL, and returns its status and JSON, if any; (None, None) without an answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(url, timeout=timeout) as answer:
                return answer.status, as_json(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, as_json(refusal.read())
    except OSError:
        return None, None


def as_json(body):
    try:
        return json.loads(body)
    except ValueError:
        return None
