"""FastAPI, Starlette: recognises the guest of a page that Guestpass keeps in cookies. Needs PyJWT: pip install 'pyjwt[crypto]'

    app.add_middleware(Guestpass)                     # soft: without a good token, a request is nobody's
    account.add_middleware(Guestpass, mode="strict")  # strict: without one, it gets 401
    app.mount("/account", account)

Routes find the guest's sub in the request header x-guestpass-sub, as behind a gateway. The header isn't there for nobody,
and never comes from the client. No cookie is set here: the page renews its tokens.
"""

import asyncio
import logging
import os
import re

import jwt
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse

ISSUER = os.environ.get("GUESTPASS_ISSUER", "https://www.shop.example")
AUDIENCE = os.environ.get("GUESTPASS_AUDIENCE", ISSUER)  # of your own service, if it has one: the issuer restricts nothing
CLIENT = os.environ.get("GUESTPASS_CLIENT", "shop-web")
COOKIE = os.environ.get("GUESTPASS_COOKIE", "__Host-guest")  # on loopback over http: guest
KEYS = os.environ.get("GUESTPASS_KEYS", f"{ISSUER}/oauth/jwks")

keys = jwt.PyJWKClient(KEYS, timeout=2)


class Guestpass:
    def __init__(self, app, mode="soft"):
        self.app, self.is_strict = app, mode == "strict"

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if not re.match(b"x[^a-z0-9]guestpass[^a-z0-9]", name)
        ]
        refusal = None
        sub = None
        cookies = b"; ".join(value for name, value in headers if name == b"cookie")
        try:
            sub = await asyncio.to_thread(guest_of, cookies.decode("latin-1"))
        except Exception as error:
            logging.warning("Guestpass: no keys. %r", error)
            refusal = PlainTextResponse("Unavailable", 503, {"Retry-After": "1"})
        if self.is_strict and not sub:
            refusal = refusal or PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send)
        if not sub:
            return await self.app({**scope, "headers": headers}, receive, send)
        headers.append((b"x-guestpass-sub", sub.encode()))
        await self.app({**scope, "headers": headers}, receive, kept_private(send))


def kept_private(send):
    """Marks the answer: nothing that the shop says lets a shared cache keep what is for one guest."""

    async def send_marked(message):
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if not re.search("private|no-store", headers.get("Cache-Control", ""), re.I):
                headers["Cache-Control"] = "private"
        await send(message)

    return send_marked


def guest_of(cookies):
    """Returns the guest's sub, or None for nobody. Raises an error if there are no keys now."""
    token = token_in(cookies)
    if not token:
        return None
    try:
        decoded = jwt.decode_complete(
            token,
            keys.get_signing_key_from_jwt(token),
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithms=["ES256"],  # the one that you have chosen, and no other
            options={"require": ["sub", "exp"]},
            leeway=5,
        )
    except jwt.PyJWKClientConnectionError:
        raise
    except jwt.PyJWTError:
        return None
    payload = decoded["payload"]
    is_ours = decoded["header"].get("typ") == "at+jwt" and payload.get("client_id") == CLIENT
    return payload["sub"] if is_ours else None


def token_in(cookies):
    """Reads the header as it came, since a parser chooses between two values of one name.

    One of them may be planted (RFC 6265 §8.6).
    """
    pairs = {pair.strip(" \t") for pair in cookies.split(";")}
    values = [pair.removeprefix(f"{COOKIE}=") for pair in pairs if pair.startswith(f"{COOKIE}=")]
    return values[0] if len(values) == 1 else None
