"""An upstream and Guestpass, the gateways with their recipes from deploy/, and a plain reader of HTTP messages.

Client and upstream are bare sockets: they send and show what an HTTP library would have put right.
"""

import json
import os
import pathlib
import re
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
WORK = pathlib.Path(tempfile.mkdtemp())
# Longer than anything takes on the busiest machine: it ends a test that would hang, and decides nothing else.
TIMEOUT = 60


# The issuer, which decides what the cookies of its pages are called, and the origin of these pages.
ISSUER = "https://shop.example"


class Upstream:
    """Records each request and answers it with a 200."""

    def __init__(self, fields=""):
        self.fields = fields
        self.arrived, self.connections = [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection:
            while request := receive(connection, is_answer=False):
                self.arrived.append(request)
                body = b"" if request.method == "HEAD" else b"yes"
                connection.sendall(f"HTTP/1.1 200 OK\r\n{self.fields}Content-Length: 3\r\n\r\n".encode() + body)


class Program:
    """A program that runs until it is told to end."""

    def __init__(self, *command):
        self.command, self.process = command, None
        self.log = WORK / f"{pathlib.Path(command[0]).name}.log"

    def start(self, **settings):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | settings
            )
        try:
            self.wait_for(self.is_ready)
        except BaseException:
            self.kill()
            raise

    def is_ready(self):
        return listens(self.port)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        # Not killed: nginx has processes of its own to end.
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait_for(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text())
            time.sleep(0.05)


class Guestpass(Program):
    def __init__(self, program, name):
        data = WORK / f"{name}-data"
        self.port, self.database = free_port(), data / "guestpass.db"
        self.url = f"http://127.0.0.1:{self.port}"
        add = [program, "--data-dir", data, "--json", "client", "add"]
        subprocess.run([*add, "shop-app", "--claims", "customer"], check=True, capture_output=True)
        page = [*add, "shop-web", "--origin", ISSUER, "--cookies", "guest", "--claims", "customer"]
        subprocess.run(page, check=True, capture_output=True)
        back_end = [*add, "shop-backend", "--confidential", "--may", "link"]
        added = subprocess.run(back_end, check=True, capture_output=True, text=True)
        self.api_key = json.loads(added.stdout)["api_key"]
        super().__init__(program, "--data-dir", data, "serve", "--listen", f"127.0.0.1:{self.port}")

    def start(self, **settings):
        super().start(**{"GUESTPASS_ISSUER": ISSUER} | settings)

    def call(self, target, data=None, headers={}):
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(self.url + target, data, headers), timeout=TIMEOUT) as answer:
            return json.loads(answer.read() or "null")

    def post(self, path, **parameters):
        return self.call(path, urlencode(parameters).encode())

    def link(self, base, access_token, customer):
        link = {"client_id": "shop-backend", "token": access_token, "customer": customer}
        self.call(f"{base}/oauth/link", urlencode(link).encode(), {"x-api-key": self.api_key})

    def lose_the_database(self):
        """Makes the list of ended grants unreadable."""
        database = sqlite3.connect(self.database, timeout=TIMEOUT)
        database.execute("drop table tombstones")
        database.close()


class Nginx(Program):
    # The configuration before the recipe in the same nginx, and the base path of Guestpass.
    before, base = "", ""
    # Whether paths arrive in one spelling instead of being refused; whether of the cookies only Guestpass's own are asked
    # about; which fields a check has beside those of the recipe; what a strict path says while Guestpass is gone; how many
    # fields of a request are taken.
    normalises, picks_cookies, own_fields, gone, max_fields = False, True, set(), {503}, 1000

    def __init__(self, program, guestpass, upstream):
        self.port, home = free_port(), pathlib.Path(tempfile.mkdtemp())
        ports = {"listen 80;": f"listen 127.0.0.1:{self.port};", ":8080;": f":{guestpass};", ":3000;": f":{upstream};"}
        recipe = with_ports(DEPLOY / "nginx/guestpass.conf", ports)
        (home / "guestpass.conf").write_text(recipe.replace("/oauth/verify", f"{self.base}/oauth/verify"))
        (home / "guestpass_identity.conf").write_text((DEPLOY / "nginx/guestpass_identity.conf").read_text())
        write_nginx_conf(home, f"{self.before.format(port=self.port)} include guestpass.conf;")
        command = (program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf"))
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0 and "[warn]" not in checked.stderr, checked.stderr
        super().__init__(*command)


def write_nginx_conf(home, http):
    """Writes nginx.conf, which keeps all that nginx writes in its directory; `http` is the inside of that block."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    # As root, nginx would give its workers a user that can't enter the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"daemon off; {user} pid {home}/pid; events {{}}\nhttp {{ access_log off; {temporary} {http} }}\n"
    )


class NginxBesideAnother(Nginx):
    """A first server of the port, which decides which names of headers are accepted: here the most lenient one."""

    before = (
        "server {{ listen 127.0.0.1:{port} default_server; server_name other.example; underscores_in_headers on; }}"
    )


class NginxThatCaches(Program):
    """A shared cache in front of Guestpass, told to keep whatever may be kept, for any browser."""

    def __init__(self, program, guestpass):
        self.port, home = free_port(), pathlib.Path(tempfile.mkdtemp())
        write_nginx_conf(
            home,
            f"proxy_cache_path {home}/cache keys_zone=all:1m;\n"
            f"server {{ listen 127.0.0.1:{self.port}; location / {{ proxy_pass http://127.0.0.1:{guestpass};\n"
            "proxy_set_header Host $http_host; proxy_cache all; proxy_cache_methods GET HEAD POST;\n"
            "proxy_cache_key $request_method$request_uri; proxy_cache_valid any 1h;\n"
            "add_header X-Cache $upstream_cache_status always; } }",
        )
        super().__init__(program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf"))

    def send(self, method, path, fields, body=b""):
        """As a shop does: the answer, and what has arrived at an upstream, which there is none of."""
        return ask(self.port, method, path, fields, body), None


class Envoy(Program):
    base = ""
    normalises, picks_cookies, gone, max_fields = True, True, {503}, 100
    own_fields = {"x-envoy-internal", "x-envoy-expected-rq-timeout-ms"}

    def __init__(self, program, guestpass, upstream):
        self.port = free_port()
        ports = {
            "{address: 0.0.0.0, port_value: 80}": f"{{address: 127.0.0.1, port_value: {self.port}}}",
            "port_value: 8080}": f"port_value: {guestpass}}}",
            "port_value: 3000}": f"port_value: {upstream}}}",
        }
        recipe = WORK / "envoy.yaml"
        text = with_ports(DEPLOY / "envoy/envoy.yaml", ports)
        recipe.write_text(text.replace("/oauth/verify", f"{self.base}/oauth/verify"))
        super().__init__(program, "-c", str(recipe), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn")


class Traefik(Program):
    base = ""
    normalises, picks_cookies, gone, max_fields = True, False, {500, 503}, 1000
    own_fields = {f"x-forwarded-{name}" for name in ("for", "host", "method", "port", "proto", "uri", "server")}
    own_fields |= {"x-real-ip", "user-agent", "accept-encoding"}

    def __init__(self, program, guestpass, upstream):
        self.port, checks, home = free_port(), free_port(), pathlib.Path(tempfile.mkdtemp())
        ports = {
            "http://127.0.0.1:8080/": f"http://127.0.0.1:{guestpass}/",
            "http://127.0.0.1:8080\"": f"http://127.0.0.1:{guestpass}\"",
            ":8081": f":{checks}",
            ":3000": f":{upstream}",
        }
        recipe = with_ports(DEPLOY / "traefik/guestpass.yaml", ports)
        (home / "guestpass.yaml").write_text(recipe.replace("/oauth/verify", f"{self.base}/oauth/verify"))
        ports = {
            '":80"': f'"127.0.0.1:{self.port}"',
            ":8081": f":{checks}",
            "filename: guestpass.yaml": f"filename: {home}/guestpass.yaml",
        }
        (home / "traefik.yaml").write_text(with_ports(DEPLOY / "traefik/traefik.yaml", ports))
        super().__init__(program, f"--configFile={home}/traefik.yaml")

    def is_ready(self):
        # It listens before it has read its routes, and has another text for its 404 until then.
        return super().is_ready() and ask(self.port, "GET", "/oauth/", []).body != b"404 page not found\n"


class HAProxy(Program):
    """The public side of the cluster's recipe, with one node that is ready and one that isn't there."""

    def __init__(self, program, guestpass, _):
        self.port = free_port()
        ports = {
            "    log /dev/log local0\n": "",
            "    bind 10.0.0.21:80\n": f"    bind 127.0.0.1:{self.port}\n",
            "    server a 10.0.0.21:8080": f"    server a 127.0.0.1:{guestpass}",
            "    server b 10.0.0.22:8080": f"    server b 127.0.0.1:{free_port()}",
            "a-unready 10.0.0.21:8080": f"a-unready 127.0.0.1:{guestpass}",
            "b-unready 10.0.0.22:8080": f"b-unready 127.0.0.1:{free_port()}",
            "127.0.0.1:5000": f"127.0.0.1:{free_port()}",
            "127.0.0.1:8404": f"127.0.0.1:{free_port()}",
        }
        recipe = WORK / "haproxy.cfg"
        recipe.write_text(with_ports(DEPLOY / "cluster/haproxy.cfg", ports))
        super().__init__(program, "-db", "-f", str(recipe))


RECIPES = {
    "haproxy": {"haproxy": HAProxy},
    "nginx": {"nginx": Nginx, "nginx_beside_another": NginxBesideAnother},
    "envoy": {"envoy": Envoy},
    "traefik": {"traefik": Traefik},
}


def with_ports(recipe, ports):
    """A recipe with other ports. They are all that differs from what an operator reads."""
    text = recipe.read_text()
    for old, new in ports.items():
        assert text.count(old) == 1, (recipe, old)
        text = text.replace(old, new)
    return text


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
        return True
    except ConnectionRefusedError:
        return False


class Message:
    """A request or an answer, as it is on the wire."""

    def __init__(self, head):
        self.raw, self.body = head, b""
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self.method, self.path = start.split(" ")[:2]
        self.status = int(self.path) if self.path.isdigit() else None

    def __repr__(self):
        return repr(self.raw[:2000])

    def values(self, name):
        return [value for other, value in self.fields if other.lower() == name]

    def identity(self):
        """Returns the fields that the most lenient upstream could take for identity headers. Empty ones don't count."""
        found = {}
        for name, value in self.fields:
            plain = re.sub("[^a-z0-9]", "-", name.strip().lower())
            if plain.startswith("x-guestpass") and value:
                assert plain not in found, f"twice: {self}"
                found[plain] = value
        return found


def ask(port, method, path, fields, body=b""):
    names = [field.partition(":")[0].lower() for field in fields]
    closing = [] if "connection" in names else ["Connection: close"]
    # Host comes last: until then, nginx reads with the rules of the port's first server.
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *closing, *fields, "Host: shop.example"])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode("latin-1") + body)
        return receive(connection, is_answer=True, has_body=method != "HEAD")


def receive(connection, is_answer, has_body=True):
    """One message. None if the other side closes instead."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        part = connection.recv(65536)
        if not part:
            return None
        buffer += part
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    message = Message(head + b"\r\n\r\n")
    if not has_body or (is_answer and message.status in (204, 304)):
        return message
    chunked = message.values("transfer-encoding") == ["chunked"]
    length = int((message.values("content-length") or ["0"])[0])
    while (body := unchunked(buffer) if chunked else buffer) is None or len(body) < length:
        part = connection.recv(65536)
        assert part, f"cut short: {message}"
        buffer += part
    message.raw, message.body = message.raw + buffer, body
    return message


def unchunked(rest):
    """The body of chunks, if they are all there, with the trailer."""
    body = b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body if rest.endswith(b"\r\n") else None
        body, rest = body + rest[:length], rest[length + 2 :]
    return None
