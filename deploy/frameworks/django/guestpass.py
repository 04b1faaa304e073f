"""Django: recognises the guest of a page that Guestpass keeps in cookies. Needs PyJWT: pip install 'pyjwt[crypto]'

    MIDDLEWARE = ["guestpass.soft", ...]  # soft: without a good token, a request is nobody's

    @guestpass.strict                     # strict: without one, it gets 401. Not for `async def`
    def account(request): ...

Put it first. Views find the guest's sub in the request header x-guestpass-sub, as behind a gateway. The header isn't there
for nobody, and never comes from the client. No cookie is set here: the page renews its tokens.
"""

import functools
import logging
import os
import re

import jwt
from django.http import HttpResponse

ISSUER = os.environ.get("GUESTPASS_ISSUER", "https://www.shop.example")
AUDIENCE = os.environ.get("GUESTPASS_AUDIENCE", ISSUER)  # of your own service, if it has one: the issuer restricts nothing
CLIENT = os.environ.get("GUESTPASS_CLIENT", "shop-web")
COOKIE = os.environ.get("GUESTPASS_COOKIE", "__Host-guest")  # on loopback over http: guest
KEYS = os.environ.get("GUESTPASS_KEYS", f"{ISSUER}/oauth/jwks")

keys = jwt.PyJWKClient(KEYS, timeout=2)


def soft(get_response):
    return recognised(get_response, is_strict=False)


def strict(get_response):
    return recognised(get_response, is_strict=True)


def recognised(get_response, is_strict):
    @functools.wraps(get_response)
    def answer(request, *args, **kwargs):
        for name in [name for name in request.META if re.match("HTTP_X[^A-Z0-9]GUESTPASS[^A-Z0-9]", name)]:
            del request.META[name]
        sub = None
        try:
            sub = guest_of(request.META.get("HTTP_COOKIE", ""))
        except Exception as error:
            logging.warning("Guestpass: no keys. %r", error)
            if is_strict:
                return HttpResponse("Unavailable", status=503, headers={"Retry-After": "1"})
        if is_strict and not sub:
            return HttpResponse("Unauthorized", status=401, headers={"WWW-Authenticate": "Bearer"})
        if sub:
            request.META["HTTP_X_GUESTPASS_SUB"] = sub
        request.__dict__.pop("headers", None)  # kept by whoever has read one of them before
        response = get_response(request, *args, **kwargs)
        # Nothing that the shop says lets a shared cache keep what is for one guest.
        if sub and not re.search("private|no-store", response.get("Cache-Control", ""), re.I):
            response["Cache-Control"] = "private"
        return response

    return answer


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
