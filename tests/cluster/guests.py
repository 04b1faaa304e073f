"""Honest clients and their guests, over bare HTTP/1.1, with a record of every request."""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from hosts import CLIENT

REDIRECT = "urn:ietf:wg:oauth:2.0:oob:auto"
# The deadline in seconds within which Guestpass answers every request.
DEADLINE = 20
# The seconds for which a client retries.
PATIENCE = 90

# Faults. The first three can happen under asynchronous replication.
CODE_LOST = "a code that was given out, and never presented, was refused"
LOGGED_OUT = "a guest's newest refresh token was refused"
TWICE = "a code was redeemed twice"
REFUSED = "a new guest was refused"
ANOTHER = "a guest became another"
BARE = "a 503 had no Retry-After"
UNSERVED = "a client was not served for too long"
HUNG = "a request was not answered within its deadline"
RESTARTED = "a Guestpass node had to be started again"
LOSSES = (CODE_LOST, LOGGED_OUT, TWICE)


class Lost(Exception):
    """Raised without an answer: the connection broke, or timed out."""


@dataclass
class Answer:
    status: int
    body: dict
    retry_after: str | None = None


@dataclass
class Request:
    """The record of a request: the time when it was sent, its duration, and its status, None without an answer."""

    sent: float
    seconds: float
    status: int | None


@dataclass
class Guest:
    verifier: str
    code: str
    redeemed: int = 0
    # An exchange was answered with neither 200 nor 400, so its outcome is unknown.
    in_doubt: bool = False
    refresh_token: str | None = None
    identity: tuple = ()


@dataclass
class Ledger:
    """The records of all requests, the guests, and the faults that were found."""

    requests: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    guests: list = field(default_factory=list)
    held: list = field(default_factory=list)
    anew: int = 0

    def fault(self, kind, detail):
        self.faults.append((kind, str(detail)[:200]))

    def count(self, kind):
        return sum(1 for other, _ in self.faults if other == kind)


class Wire:
    """A connection to one node, which is reopened when it breaks."""

    def __init__(self, address, ledger):
        host, port = address.removeprefix("http://").split(":")
        self.host, self.port, self.ledger = host, int(port), ledger
        self.reader = self.writer = None

    async def ask(self, method, path, parameters):
        sent = time.monotonic()
        answer = None
        try:
            async with asyncio.timeout(DEADLINE + 5):
                answer = await self.exchange(method, path, urlencode(parameters))
                return answer
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise Lost(repr(error)) from error
        finally:
            status = answer.status if answer else None
            self.ledger.requests.append(Request(sent, time.monotonic() - sent, status))

    async def exchange(self, method, path, form):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        target, body = (f"{path}?{form}", "") if method == "GET" else (path, form)
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        self.writer.write((head + body).encode())
        start, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(start.split(" ")[1]), as_object(body), fields.get("retry-after"))

    def close(self):
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


class Browser:
    """An honest client: it stores the newest token, and retries after a 503 or no answer. One request at a time."""

    def __init__(self, addresses, ledger):
        self.ledger = ledger
        self.wires = [Wire(address, ledger) for address in addresses]

    def close(self):
        for wire in self.wires:
            wire.close()

    async def insist(self, request):
        """Retries at any node until an answer is no 503, and returns it; None if that takes too long."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(Lost):
                answer = await request(random.choice(self.wires))
                if answer.status not in (502, 503, 504):
                    return answer
                if answer.retry_after is None:
                    self.ledger.fault(BARE, answer)
            await asyncio.sleep(random.uniform(0.3, 0.7))
        self.ledger.fault(UNSERVED, f"nothing but 503 and lost answers for {PATIENCE} s")
        return None

    async def authorize(self):
        verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode()).digest()
        state = secrets.token_urlsafe(8)
        parameters = {
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        answer = await self.insist(lambda wire: wire.ask("GET", "/oauth/authorize", parameters))
        if answer is None or answer.status != 200 or answer.body.get("state") != state:
            self.ledger.fault(REFUSED, answer)
            return None
        return Guest(verifier, answer.body["code"])

    async def present(self, guest, wire):
        """Presents the code once. A second 200 for it is a fault."""
        parameters = {
            "grant_type": "authorization_code",
            "client_id": CLIENT,
            "redirect_uri": REDIRECT,
            "code": guest.code,
            "code_verifier": guest.verifier,
        }
        doubt = True
        try:
            answer = await wire.ask("POST", "/oauth/token", parameters)
            doubt = answer.status not in (200, 400)
        finally:
            guest.in_doubt |= doubt
        if answer.status == 200:
            guest.redeemed += 1
            if guest.redeemed > 1:
                self.ledger.fault(TWICE, answer)
            self.keep(guest, answer)
        return answer

    async def present_again(self, guest):
        await self.insist(lambda wire: self.present(guest, wire))

    async def redeem(self, guest):
        """Redeems the code, and returns whether that gave tokens. After a lost answer, a refusal is no fault."""
        answer = await self.insist(lambda wire: self.present(guest, wire))
        if answer and answer.status == 200:
            return True
        if answer and guest.in_doubt:
            self.ledger.anew += 1
        elif answer:
            self.ledger.fault(CODE_LOST, answer)
        return False

    async def race(self, guest):
        """Presents the code to all nodes at once, of which one at most may redeem it."""
        await asyncio.gather(*(self.present(guest, wire) for wire in self.wires), return_exceptions=True)

    async def refresh(self, guest):
        parameters = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": guest.refresh_token}
        answer = await self.insist(lambda wire: wire.ask("POST", "/oauth/token", parameters))
        if answer and answer.status != 200:
            self.ledger.fault(LOGGED_OUT, answer)
        if answer is None or answer.status != 200:
            return False
        self.keep(guest, answer)
        return True

    def keep(self, guest, answer):
        claims = decoded(answer.body["access_token"])
        identity = (claims["sub"], claims["subn"], claims["sid"])
        if guest.identity and guest.identity != identity:
            self.ledger.fault(ANOTHER, (guest.identity, identity))
        guest.identity, guest.refresh_token = identity, answer.body["refresh_token"]


class Crowd:
    """The load: many clients at once, each with guests of its own, until they are stopped."""

    def __init__(self, addresses, size, pause):
        self.ledger = Ledger()
        self.addresses, self.size, self.pause = addresses, size, pause
        self.going = True

    async def run(self):
        await asyncio.gather(*(self.client() for _ in range(self.size)))

    async def client(self):
        browser = Browser(self.addresses, self.ledger)
        mine = []
        while self.going:
            await self.step(browser, mine)
            await asyncio.sleep(random.uniform(0, 2 * self.pause))
        self.ledger.guests += mine
        browser.close()

    async def step(self, browser, mine):
        if mine and random.random() < 0.6:
            guest = random.choice(mine)
            if not await browser.refresh(guest):
                mine.remove(guest)
            return
        guest = await browser.authorize()
        if guest is None:
            return
        kind = random.random()
        if kind < 0.15:
            self.ledger.held.append(guest)
        elif kind < 0.25:
            await browser.race(guest)
        elif await browser.redeem(guest):
            mine.append(guest)

    async def settle(self):
        """Checks after the run that every acknowledged answer still holds."""
        await self.each(self.ledger.held, Browser.redeem)
        await self.each(self.ledger.guests, Browser.refresh)
        # Last, for a replayed code ends the grant.
        redeemed = [guest for guest in self.ledger.guests + self.ledger.held if guest.redeemed]
        await self.each(redeemed, Browser.present_again)

    async def each(self, guests, act):
        waiting = list(guests)

        async def work():
            browser = Browser(self.addresses, self.ledger)
            while waiting:
                await act(browser, waiting.pop())
            browser.close()

        await asyncio.gather(*(work() for _ in range(self.size)))


def decoded(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def as_object(body):
    with contextlib.suppress(ValueError):
        read = json.loads(body)
        if isinstance(read, dict):
            return read
    return {}
