"""A resource server's part in Python, as docs/verifying.md shows it."""

from urllib.parse import urlsplit

import jwt
import requests


def keys_of(issuer):
    """Once. The keys are found through the server's metadata, and followed."""
    scheme, host, path, *_ = urlsplit(issuer)  # its path, if it has one, goes to the end (RFC 8414 §3.1)
    answer = requests.get(f"{scheme}://{host}/.well-known/oauth-authorization-server{path}", timeout=10)
    metadata = answer.json()
    if metadata["issuer"] != issuer:
        raise ValueError("metadata of another issuer")
    return jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt


def guest_of(token, key_of, issuer, audience=None, algorithm="ES256"):
    """For each request. Raises jwt.PyJWTError unless the token is good; `sub` is the guest."""
    decoded = jwt.decode_complete(
        token,
        key_of(token),
        issuer=issuer,
        audience=audience or issuer,  # your service's own, if it has one: the issuer restricts nothing
        algorithms=[algorithm],  # the one that you have chosen, and no other
        options={"require": ["sub", "exp"]},
        leeway=5,
    )
    if decoded["header"].get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    return decoded["payload"]
