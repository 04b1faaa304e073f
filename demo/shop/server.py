"""The shop's back end. It knows its visitors by what nginx was told by Guestpass, and says to Guestpass who has logged in.

Everything is kept in memory. The log-in is a toy: it asks for a name and believes it.
"""

import base64
import collections
import dataclasses
import http
import http.client
import http.server
import json
import os
import re
import secrets
import socket
import socketserver
import threading
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pages

CONSENT_COOKIE, SESSION_COOKIE, GUEST_COOKIE = "shop_consent", "shop_session", "guest"


@dataclasses.dataclass
class Login:
    name: str
    # The shop's own number of the customer. It never changes, as a name might.
    customer: str
    # The guest that Guestpass was told about at this log-in.
    linked_sub: str = ""


@dataclasses.dataclass
class Visitor:
    # What nginx was told by Guestpass. Empty for nobody.
    sub: str
    customer: str
    # Where it is missing and the guest is known all the same, the refresh token was enough.
    access_token: str
    # The names of the guest's cookies that came.
    cookies: "list[str]"
    consent: str
    login: "Login | None"

    @property
    def basket_owner(self):
        if self.login:
            return f"customer {self.login.customer}"
        return f"guest {self.sub}" if self.sub else ""


class Shop:
    def __init__(self, guestpass, origin):
        self.guestpass, self.origin = guestpass, origin
        self.lock = threading.Lock()
        self.customers, self.logins = {}, {}
        self.baskets = collections.defaultdict(collections.Counter)

    def customer_named(self, name):
        with self.lock:
            return self.customers.setdefault(name.casefold(), f"c{1001 + len(self.customers)}")

    def basket(self, visitor):
        with self.lock:
            return dict(self.baskets.get(visitor.basket_owner, {}))

    def add(self, visitor, glaze):
        with self.lock:
            self.baskets[visitor.basket_owner][glaze] += 1

    def empty(self, visitor):
        with self.lock:
            self.baskets.pop(visitor.basket_owner, None)

    def forget_guest(self, sub):
        with self.lock:
            self.baskets.pop(f"guest {sub}", None)

    def log_in(self, visitor, name):
        """Logs in, and links the guest of this browser. Returns the session, or None, and what came of the link."""
        login = Login(name, self.customer_named(name))
        outcome = "unknown"
        if visitor.access_token:
            outcome = self.guestpass.link(visitor.access_token, login.customer)
        if outcome == "another":
            # Somebody else's guest must not be taken over, nor its basket.
            return None, outcome
        if outcome in ("linked", "already"):
            login.linked_sub = visitor.sub
        session = secrets.token_urlsafe(32)
        with self.lock:
            self.logins[session] = login
            if visitor.sub:
                self.baskets[f"customer {login.customer}"] += self.baskets.pop(f"guest {visitor.sub}", {})
        return session, outcome

    def log_out(self, session):
        with self.lock:
            self.logins.pop(session, None)


class Guestpass:
    """Calls Guestpass as the confidential client that the shop's back end is."""

    def __init__(self, path, api_key):
        self.path = path
        self.authorization = "Basic " + base64.b64encode(f"shop-backend:{api_key}".encode()).decode()

    def link(self, access_token, customer):
        """Says which customer a guest is. Returns `linked`, `already`, `another`, `unknown` or `unavailable`."""
        headers = {"Authorization": self.authorization, "Content-Type": "application/x-www-form-urlencoded"}
        connection = UnixConnection(self.path)
        try:
            connection.request("POST", "/oauth/link", urlencode({"token": access_token, "customer": customer}), headers)
            answer = connection.getresponse()
            if answer.status == http.HTTPStatus.OK:
                return json.load(answer)["outcome"]
            # Somebody else has logged in on this device before.
            if answer.status == http.HTTPStatus.CONFLICT:
                return "another"
            return "unknown" if answer.status < 500 else "unavailable"
        except (OSError, http.client.HTTPException):
            return "unavailable"
        finally:
            connection.close()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Handler(http.server.BaseHTTPRequestHandler):
    shop: Shop

    def do_GET(self):
        url = urlsplit(self.path)
        happened = {name: values[0] for name, values in parse_qs(url.query).items()}
        visitor = self.visitor()
        if url.path == "/":
            self.answer(pages.product(visitor, self.shop.basket(visitor), happened.get("did", "")))
        elif url.path == "/login":
            self.answer(pages.log_in(visitor, happened.get("did", ""), happened.get("name", "")))
        elif url.path == "/whoami":
            self.answer(json.dumps({"sub": visitor.sub, "customer": visitor.customer}), kind="application/json")
        else:
            self.answer(pages.missing(visitor), http.HTTPStatus.NOT_FOUND)

    def do_POST(self):
        form = parse_qs(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 4096)).decode("utf-8", "replace"))
        given = {name: values[0] for name, values in form.items()}
        # Browsers send it with every POST. A form on another site must not log anybody in, nor out.
        if self.headers.get("Origin") != self.shop.origin:
            return self.answer("This form wasn't on a page of ours.", http.HTTPStatus.FORBIDDEN, "text/plain")
        visitor = self.visitor()
        if self.path == "/basket":
            if not visitor.basket_owner:
                return self.redirect("/?did=no-basket")
            glaze = given.get("glaze", "")
            self.shop.add(visitor, glaze if glaze in pages.GLAZES else "sage")
            self.redirect("/?did=added")
        elif self.path == "/basket/empty":
            self.shop.empty(visitor)
            self.redirect("/?did=emptied")
        elif self.path == "/login":
            self.log_in(visitor, re.sub(r"\s+", " ", given.get("name", "")).strip()[:40])
        elif self.path == "/logout":
            self.shop.log_out(self.cookie(SESSION_COOKIE))
            self.redirect("/?did=logged-out", f"{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
        elif self.path == "/forget":
            self.shop.forget_guest(visitor.sub)
            self.answer("", http.HTTPStatus.NO_CONTENT)
        else:
            self.answer(pages.missing(visitor), http.HTTPStatus.NOT_FOUND)

    def log_in(self, visitor, name):
        if not name:
            return self.redirect("/login?did=nameless")
        session, outcome = self.shop.log_in(visitor, name)
        if not session:
            return self.redirect(f"/login?did=another&name={quote(name)}")
        self.redirect(f"/?did={outcome}", f"{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax")

    def visitor(self):
        return Visitor(
            # nginx has set these, and nobody but nginx reaches this socket.
            sub=self.headers.get("x-guestpass-sub", ""),
            customer=self.headers.get("x-guestpass-customer", ""),
            access_token=self.cookie(GUEST_COOKIE),
            cookies=self.headers.get("x-shop-cookies", "").split(),
            consent=self.cookie(CONSENT_COOKIE),
            login=self.shop.logins.get(self.cookie(SESSION_COOKIE)),
        )

    def cookie(self, name):
        """Returns the value of a cookie; of two with one name, none: a neighbour may have planted one."""
        pairs = (pair.strip(" \t").partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        values = {value for found, _, value in pairs if found == name}
        return values.pop() if len(values) == 1 else ""

    def answer(self, text, status=http.HTTPStatus.OK, kind="text/html"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # Each page is written for one visitor. No cache may show it to another.
        self.send_header("Cache-Control", "private, no-cache")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, location, cookie=""):
        self.send_response(http.HTTPStatus.SEE_OTHER)
        self.send_header("Location", location)
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.send_header("Cache-Control", "private, no-cache")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def start(path, guestpass_path, api_key, origin):
    """Listens on the Unix socket `path`, in a thread that ends with the program."""
    shop = Shop(Guestpass(guestpass_path, api_key), origin)
    before = os.umask(0o077)
    server = Server(path, type("ShopHandler", (Handler,), {"shop": shop}))
    os.umask(before)
    threading.Thread(target=server.serve_forever, daemon=True).start()
