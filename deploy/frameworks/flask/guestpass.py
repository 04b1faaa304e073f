"""Flask: recognises the guest of a page that Guestpass keeps in cookies. Needs PyJWT: pip install 'pyjwt[crypto]'

    app.before_request(guestpass.soft)        # soft: without a good token, a request is nobody's
    account.before_request(guestpass.strict)  # strict: without one, it gets 401; `account` is a blueprint

Views find the guest's sub in the request header x-guestpass-sub, as behind a gateway. The header isn't there for nobody, and
never comes from the client. No cookie is set here: the page renews its tokens.
"""

import logging
import os
import re

import jwt
from flask import Response, after_this_request, request

ISSUER = os.environ.get("GUESTPASS_ISSUER", "https://www.shop.example")
AUDIENCE = os.environ.get("GUESTPASS_AUDIENCE", ISSUER)  # of your own service, if it has one: the issuer restricts nothing
CLIENT = os.environ.get("GUESTPASS_CLIENT", "shop-web")
COOKIE = os.environ.get("GUESTPASS_COOKIE", "__Host-guest")  # on loopback over http: guest
KEYS = os.environ.get("GUESTPASS_KEYS", f"{ISSUER}/oauth/jwks")

keys = jwt.PyJWKClient(KEYS, timeout=2)


def soft():
    return recognise(is_strict=False)


def strict():
    return recognise(is_strict=True)


def recognise(is_strict):
    environ = request.environ
    for name in [name for name in environ if re.match("HTTP_X[^A-Z0-9]GUESTPASS[^A-Z0-9]", name)]:
        del environ[name]
    sub = None
    try:
        sub = guest_of(environ.get("HTTP_COOKIE", ""))
    except Exception as error:
        logging.warning("Guestpass: no keys. %r", error)
        if is_strict:
            return Response("Unavailable", 503, {"Retry-After": "1"})
    if sub:
        environ["HTTP_X_GUESTPASS_SUB"] = sub
        after_this_request(keep_private)
    elif is_strict:
        return Response("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
    return None


def keep_private(response):
    """Marks the answer: nothing that the shop says lets a shared cache keep what is for one guest."""
    if not re.search("private|no-store", response.headers.get("Cache-Control", ""), re.I):
        response.headers["Cache-Control"] = "private"
    return response


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
