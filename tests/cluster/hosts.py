"""Three database hosts, HAProxy and two Guestpass nodes, all on 127.0.0.1, with the files of deploy/cluster.

A host stands for one machine: etcd, Patroni and the PostgreSQL that Patroni starts.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request

from programs import (
    ROOT,
    STATE,
    Program,
    Trouble,
    children,
    command_line,
    fetch,
    is_free,
    postgresql_programs,
    prepare_state,
    send,
    surroundings,
    tail,
)

DEPLOY = ROOT / "deploy/cluster"
GUESTPASS = ROOT / "target/debug/guestpass"
HOSTS = {"db1": "10.0.0.11", "db2": "10.0.0.12", "db3": "10.0.0.13"}
NODES = {"a": "10.0.0.21", "b": "10.0.0.22"}
PATRONI = "/usr/bin/patroni"
CLIENT = "shop"
# Below the ephemeral ports: a host that restarts must find its port free.
FIRST_PORT, LAST_PORT = 21000, 32000
STARTING = 60


class Host:
    """A database host: etcd, Patroni, and the PostgreSQL that Patroni starts."""

    def __init__(self, name, layout, user, patroni):
        self.name, self.address, self.layout, self.user = name, HOSTS[name], layout, user
        self.home = layout.home / name
        self.data = self.home / "postgresql"
        self.home.mkdir(mode=0o700)
        environment = self.variables("etcd", ETCD_DATA_DIR=self.home / "etcd")
        self.etcd = Program(f"{name}-etcd", ["/usr/bin/etcd"], self.home, user, **environment)
        written = {
            "/var/lib/postgresql/15/guestpass": str(self.data),
            "/usr/lib/postgresql/15/bin": str(postgresql_programs()),
            # No Unix socket: the length of its path is limited, and ours may exceed it.
            "/var/run/postgresql": "''",
            "shared_buffers: 1GB": "shared_buffers: 64MB",
            "mode: automatic": "mode: 'off'",
        }
        layout.write(DEPLOY / "patroni.yml", self.home / "patroni.yml", written)
        environment = self.variables("patroni_env.conf", HOME=self.home)
        command = [patroni, self.home / "patroni.yml"]
        self.patroni = Program(f"{name}-patroni", command, self.home, user, **environment)
        if user:
            shutil.chown(self.home, user, user)

    def variables(self, recipe, **others):
        """Reads a file of environment variables from deploy/cluster, filled in for this host."""
        lines = self.layout.filled((DEPLOY / recipe).read_text(), self).splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | others

    def postmaster(self):
        """Returns the pid of the running PostgreSQL, or None."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
            if os.readlink(f"/proc/{pid}/cwd") == str(self.data.resolve()):
                return pid
        return None

    def database_processes(self):
        postmaster = self.postmaster()
        return [postmaster, *children(postmaster)] if postmaster else []

    def wal_senders(self):
        return [pid for pid in self.database_processes() if b"walsender" in command_line(pid)]

    def processes(self, with_etcd=False):
        programs = [self.patroni] + ([self.etcd] if with_etcd else [])
        return [program.pid for program in programs if program.runs()] + self.database_processes()

    def freeze(self, with_etcd=False):
        # Parents first, for they would restart their children.
        send(signal.SIGSTOP, self.processes(with_etcd))
        frozen = self.processes(with_etcd)
        send(signal.SIGSTOP, frozen)
        return frozen

    def thaw(self, with_etcd=False):
        send(signal.SIGCONT, self.processes(with_etcd))

    def kill(self, with_etcd=False):
        """Kills all processes of the host at once, as a power failure would."""
        send(signal.SIGKILL, self.freeze(with_etcd))
        for program in [self.patroni] + ([self.etcd] if with_etcd else []):
            if program.process:
                program.process.wait()

    def come_back(self):
        for program in (self.etcd, self.patroni):
            if not program.runs():
                program.start()

    def status(self, path="/patroni"):
        return fetch(f"http://{self.layout.at(self.address, 8008)}{path}")[1]


class Layout:
    """Maps the addresses of deploy/cluster to local ports, and its placeholders to passwords."""

    def __init__(self, home):
        self.home, self.ports, self.words = home, {}, {}
        self.candidates = (port for port in range(FIRST_PORT, LAST_PORT) if is_free(port))

    def at(self, address, port):
        if (address, port) not in self.ports:
            self.ports[address, port] = next(self.candidates)
        return f"127.0.0.1:{self.ports[address, port]}"

    def port(self, address, port):
        return int(self.at(address, port).split(":")[1])

    def word(self, placeholder):
        return self.words.setdefault(placeholder, secrets.token_hex(16))

    def filled(self, text, host=None):
        """Fills a file of deploy/cluster in for this host, with local ports and passwords."""
        if host:
            lines = text.splitlines(keepends=True)
            for number, line in enumerate(lines):
                if not line.startswith("ETCD_INITIAL_CLUSTER="):
                    lines[number] = line.replace("10.0.0.11", host.address).replace("=db1", f"={host.name}")
            text = "".join(lines)
        address = r"((?:10\.0\.0|127\.0\.0)\.\d+)"
        text = re.sub(rf"addr {address} port (\d+)", lambda m: f"port {self.port(m[1], int(m[2]))}", text)
        text = re.sub(rf"{address}:(\d+)", lambda m: self.at(m[1], int(m[2])), text)
        text = text.replace("10.0.0.0/24", "127.0.0.1/32")
        return re.sub(r"change-me-\w+", lambda m: self.word(m[0]), text)

    def write(self, recipe, path, others):
        text = recipe.read_text()
        for old, new in others.items():
            if text.count(old) != 1:
                raise Trouble(f"{recipe} has {old!r} {text.count(old)} times, not once")
            text = text.replace(old, new)
        path.write_text(self.filled(text))
        path.chmod(0o644)


class Cluster:
    """The whole cluster. Leaving its `with` ends everything that it has started."""

    def __init__(self, say, settings=None, patroni=PATRONI):
        self.say = say
        self.layout = Layout(prepare_state(say))
        self.user = "postgres" if os.geteuid() == 0 else None
        self.hosts = {name: Host(name, self.layout, self.user, patroni) for name in HOSTS}
        logged = {"log /dev/log local0": "log stdout format raw local0"}
        self.layout.write(DEPLOY / "haproxy.cfg", STATE / "haproxy.cfg", logged)
        self.haproxy = Program("haproxy", ["/usr/sbin/haproxy", "-db", "-f", STATE / "haproxy.cfg"])
        self.nodes = {name: self.node(name, settings or {}) for name in NODES}

    def node(self, name, settings):
        home = STATE / f"node-{name}"
        home.mkdir(mode=0o700)
        others = {
            'node = "a"': f'node = "{name}"',
            '"10.0.0.21:8080"': f'"{NODES[name]}:8080"',
            "/etc/guestpass/master.key": str(STATE / "master.key"),
            "/var/lib/guestpass": str(home),
        }
        self.layout.write(DEPLOY / "guestpass.toml", home / "guestpass.toml", others)
        command = [GUESTPASS, "--config", home / "guestpass.toml"]
        return Program(f"node-{name}", [*command, "serve"], **settings)

    def __enter__(self):
        try:
            self.start_database()
            self.start_guestpass()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # A second Ctrl-C would leave processes running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for program in [*self.nodes.values(), self.haproxy]:
            program.end()
        for host in self.hosts.values():
            host.thaw(with_etcd=True)
            if host.patroni.runs():
                send(signal.SIGTERM, [host.patroni.pid])
        for host in self.hosts.values():
            host.patroni.end()
            host.kill(with_etcd=True)
        STATE.joinpath("pids").unlink(missing_ok=True)

    def programs(self):
        of_hosts = [program for host in self.hosts.values() for program in (host.etcd, host.patroni)]
        return [*of_hosts, self.haproxy, *self.nodes.values()]

    def start_database(self):
        self.say("etcd on three hosts")
        for host in self.hosts.values():
            host.etcd.start()
        self.wait("etcd to choose its leader", self.etcd_is_healthy)
        self.say("PostgreSQL on three hosts, under Patroni")
        for host in self.hosts.values():
            host.patroni.start()
        self.haproxy.start()
        self.wait("a primary and two standbys", self.is_whole, 2 * STARTING)
        self.wait("HAProxy to find the primary", lambda: self.sql("select 1") == "1")
        self.sql(f"create role guestpass login password '{self.layout.word('change-me-guestpass')}'")
        self.sql("create database guestpass owner guestpass")

    def start_guestpass(self):
        self.say("two Guestpass nodes")
        key = STATE / "master.key"
        key.touch(mode=0o600)
        key.write_bytes(base64.b64encode(secrets.token_bytes(32)))
        self.guestpass("db", "migrate")
        self.guestpass("client", "add", CLIENT)
        for node in self.nodes.values():
            node.start()
        self.wait("both nodes to be ready", lambda: all(self.is_ready(name) for name in NODES))
        self.wait("HAProxy to find them", lambda: fetch(f"{self.public()}/up")[0] == 200)

    def guestpass(self, *arguments):
        """Runs a command of the operator's on node a."""
        command = self.nodes["a"].command[:3] + list(arguments)
        done = subprocess.run(command, capture_output=True, text=True, cwd=STATE, timeout=STARTING, env=surroundings())
        if done.returncode:
            raise Trouble(f"guestpass {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def sql(self, statement, database="postgres"):
        """Runs a statement on the primary through HAProxy, and returns its output; None if there is no primary."""
        host, port = self.layout.at("127.0.0.1", 5000).split(":")
        environment = surroundings() | {"PGPASSWORD": self.layout.word("change-me-superuser"), "PGCONNECT_TIMEOUT": "3"}
        command = [postgresql_programs() / "psql", "-XAtqw", "-h", host, "-p", port, "-U", "postgres", "-d", database]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, env=environment, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else None

    def public(self):
        return f"http://{self.layout.at(NODES['a'], 80)}"

    def url(self, node):
        return f"http://{self.layout.at(NODES[node], 8080)}"

    def is_ready(self, node):
        return fetch(f"{self.url(node)}/readyz")[0] == 200

    def etcd_is_healthy(self):
        addresses = [self.layout.at(host.address, 2379) for host in self.hosts.values()]
        return all((fetch(f"http://{address}/health")[1] or {}).get("health") == "true" for address in addresses)

    def roles(self):
        """Asks any Patroni for the role and state of each host: {"db1": ("leader", "running"), …}."""
        for host in self.hosts.values():
            answer = host.status("/cluster")
            if answer and answer.get("members"):
                return {member["name"]: (member["role"], member["state"]) for member in answer["members"]}
        return {}

    def primary(self):
        """Returns the host that passes HAProxy's health check as primary, or None."""
        for host in self.hosts.values():
            if fetch(f"http://{self.layout.at(host.address, 8008)}/primary")[0] == 200:
                return host
        return None

    def is_whole(self):
        """Returns whether there is a primary with two standbys, one of them synchronous if replication is."""
        roles = self.roles()
        states = {state for _, state in roles.values()}
        kinds = sorted(role for role, _ in roles.values())
        replica = "sync_standby" if self.is_synchronous() else "replica"
        return kinds == sorted(["leader", "replica", replica]) and states <= {"running", "streaming"}

    def settings(self):
        for host in self.hosts.values():
            answer = host.status("/config")
            if answer:
                return answer
        return {}

    def is_synchronous(self):
        return bool(self.settings().get("synchronous_mode"))

    def set_synchronous(self, wanted):
        """Changes the mode of replication, as `patronictl edit-config` does."""
        host = self.primary() or next(iter(self.hosts.values()))
        change = json.dumps({"synchronous_mode": wanted}).encode()
        url = f"http://{self.layout.at(host.address, 8008)}/config"
        password = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        password.add_password(None, url, "patroni", self.layout.word("change-me-restapi"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(password)
        )
        opener.open(urllib.request.Request(url, change, method="PATCH"), timeout=10).close()
        self.wait("the kind of replication to change", self.is_whole)

    def wait(self, what, condition, deadline=STARTING):
        """Waits until a condition holds. A failure to connect counts as false."""
        end = time.monotonic() + deadline
        while not condition():
            for program in self.programs():
                if program.process is not None and not program.runs() and program.process.returncode != -signal.SIGKILL:
                    raise Trouble(f"{program.name} has ended: see {program.log}\n{tail(program.log)}")
            if time.monotonic() > end:
                raise Trouble(f"waited {deadline} s for {what}: see {STATE}/log")
            time.sleep(0.2)
