"""Guestpass, what stands before it, and the apps with their recipes from deploy/frameworks."""

import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlencode

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parents[1] / "deploy/frameworks"
WORK = pathlib.Path(tempfile.mkdtemp())
# Longer than anything takes on the busiest machine: it ends a test that would hang, and decides nothing else.
TIMEOUT = 120


class Program:
    """A program that listens until it is told to end."""

    def __init__(self, name, command, directory=None, **settings):
        self.command, self.directory, self.settings = command, directory, settings
        self.log, self.process = WORK / f"{name}.log", None

    def start(self):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=os.environ | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def until_it_listens(self):
        deadline = time.monotonic() + TIMEOUT
        while not listens(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text(errors="replace"))
            time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Guestpass(Program):
    """The real binary. Its issuer is the address of what stands before it."""

    def __init__(self, program, issuer):
        self.program, self.port = program, free_port()
        self.data = WORK / "data"
        self.environment = {"GUESTPASS_TOKENS__ALGORITHM": "ES256", "GUESTPASS_LIMITS__MODE": "off"}
        command = [program, "--data-dir", self.data, "serve", "--listen", f"127.0.0.1:{self.port}"]
        super().__init__("guestpass", command, **self.environment, GUESTPASS_ISSUER=issuer)

    def tell(self, *arguments):
        command = [self.program, "--data-dir", self.data, *arguments]
        told = subprocess.run(command, capture_output=True, text=True, env=os.environ | self.environment)
        assert told.returncode == 0, (arguments, told.stderr)


class Front(http.server.ThreadingHTTPServer):
    """Passes requests on to Guestpass, unless it has another answer, and counts them by path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Passing)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.guestpass, self.instead, self.counted = None, None, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A client that has gone is no news; what it doesn't get shows in its tests."""

    def count(self, path):
        return self.counted.count(path)


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        front = self.server
        front.counted.append(self.path.partition("?")[0])
        if front.instead:
            front.instead(self)
            return
        connection = http.client.HTTPConnection("127.0.0.1", front.guestpass.port, timeout=TIMEOUT)
        connection.putrequest("GET", self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        self.answer(answer.status, answer.getheaders(), answer.read())
        connection.close()

    def answer(self, status, fields, body):
        self.send_response_only(status)
        for name, value in fields:
            if name not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_unavailable(self):
        self.answer(503, [], b"")

    def says_nothing(self):
        self.close_connection = True

    def shows_a_page(self):
        self.answer(200, [("Content-Type", "text/html")], b"<p>Please log in to this network.")

    def log_message(self, *_):
        pass


class App(Program):
    """The smallest app of a framework, beside a copy of the recipe."""

    strict, builds, files = "/account", None, {}

    def __init__(self, cache, front):
        self.port, self.cache, self.answers = free_port(), cache, []
        self.home = cache / "apps" / self.name
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(HERE / self.name, self.home)
        for file in (DEPLOY / self.name).iterdir():
            copy = self.home / self.files.get(file.name, file.name)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        settings = {
            "GUESTPASS_COOKIE": "guest",
            "GUESTPASS_ISSUER": front.address,
            "GUESTPASS_SERVER": front.address,
            "PORT": str(self.port),
        }
        super().__init__(self.name, self.run(), self.home, **settings | self.environment())

    def environment(self):
        return {}

    def build(self):
        """Does what takes long, before anything is tested."""
        if self.builds:
            environment = os.environ | self.settings
            built = subprocess.run(
                self.builds, cwd=self.home, env=environment, capture_output=True, text=True, timeout=600
            )
            assert built.returncode == 0, built.stdout + built.stderr

    def ask(self, path, cookies=None, headers=(), method="GET", body=None):
        """Sends a request with fields as they are given, and keeps the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.putrequest(method, path, skip_accept_encoding=True)
        fields = [] if cookies is None else [cookies] if isinstance(cookies, str) else cookies
        for name, value in [*(("Cookie", field) for field in fields), *headers]:
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        answer = Answer(response.status, response.getheaders(), response.read())
        connection.close()
        self.answers.append(answer)
        return answer


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.body = status, body
        self.fields = [(name.lower(), value) for name, value in fields]

    def values(self, name):
        return [value for known, value in self.fields if known == name]

    def claims(self):
        """The headers that the app takes for Guestpass'."""
        assert self.status == 200, self
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.fields} {self.body[:500]}"


class Node(App):
    def run(self):
        return ["node", "app.mjs"]


class Express(Node):
    name = "express"


class Fastify(Node):
    name = "fastify"


class Hono(Node):
    name = "hono"


class Nextjs(App):
    name = "nextjs"

    def run(self):
        self.next = str(self.cache / "node_modules/next/dist/bin/next")
        self.builds = ["node", self.next, "build"]
        return ["node", self.next, "start", "--hostname", "127.0.0.1", "--port", str(self.port)]

    def environment(self):
        return {"NEXT_TELEMETRY_DISABLED": "1"}


class Python(App):
    def run(self):
        return [sys.executable, "app.py"]


class Django(Python):
    name = "django"


class Flask(Python):
    name = "flask"


class FastAPI(Python):
    name, strict = "fastapi", "/account/orders"


class Rack(App):
    name = "rack"

    def run(self):
        return ["puma", "--bind", f"tcp://127.0.0.1:{self.port}", "--threads", "2:2", "config.ru"]


class Go(App):
    name, files = "go", {"guestpass.go": "guestpass/guestpass.go"}

    def run(self):
        self.builds = ["go", "build", "-o", "shop", "."]
        return [self.home / "shop"]

    def environment(self):
        return {"GOCACHE": str(self.cache / "go"), "GOFLAGS": "-mod=mod", "GOPROXY": "off"}


NOT_RUN = {"spring"}
RECIPES = [Express, Fastify, Nextjs, Hono, Django, Flask, FastAPI, Rack, Go]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def session(guestpass, client, origin):
    """A new guest in cookies, as a page gets one: after the first answer it asks once more, with the cookie."""
    jar = {}
    for expected in (202, 200):
        connection = http.client.HTTPConnection("127.0.0.1", guestpass.port, timeout=TIMEOUT)
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Cookie": cookies}
        connection.request("POST", "/oauth/session", urlencode({"client_id": client}), headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status == expected, (response.status, body)
        for field in response.headers.get_all("set-cookie", []):
            name, _, value = field.partition(";")[0].partition("=")
            jar[name] = value
        connection.close()
    return jar, json.loads(body)["sub"]
