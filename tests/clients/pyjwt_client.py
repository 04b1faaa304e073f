"""Usage: pyjwt_client.py URL ALGORITHM [EXPORTED]

Access tokens of a server that signs with ALGORITHM, verified by PyJWT as docs/verifying.md shows it: with
the published keys, or for HS256 with those of the file EXPORTED. The server has the clients
shop-app, shop-api, whose tokens are for another audience too, and shop-brief, whose tokens are good
for a second; nobody waits for that to pass. URL is its issuer, and may have a path; its endpoints lie at
the root of its host.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
from contextlib import contextmanager
from datetime import datetime
from unittest import mock
from urllib.parse import urlencode, urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyjwt_verifier import guest_of, keys_of
from requests_oauthlib import OAuth2Session

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain HTTP: this test stays on loopback

API = "https://api.shop.example"
REDIRECT_URI = "urn:ietf:wg:oauth:2.0:oob:auto"


def main(issuer, algorithm, exported=None):
    if exported:
        with open(exported, encoding="utf-8") as file:
            key_of = exported_keys(file.read())
    else:
        key_of = keys_of(issuer)

    def verified(token, **expected):
        return guest_of(token, key_of, **{"issuer": issuer, "algorithm": algorithm, **expected})

    def refused(token, error, **expected):
        try:
            claims = verified(token, **expected)
        except error:
            return
        raise AssertionError(f"{error} was expected, not {claims}")

    # A token names the guest, its audience and its expiry.
    token = token_of(issuer, "shop-app")
    claims = verified(token)
    assert claims["sub"].isdecimal(), claims
    assert claims["aud"] == issuer
    assert claims["exp"] - claims["iat"] == 86_400
    refused(token, jwt.InvalidAudienceError, audience=API)
    refused(token, jwt.InvalidIssuerError, issuer=f"{issuer}/", audience=issuer)
    for_both = token_of(issuer, "shop-api")
    for audience in (API, issuer):
        assert verified(for_both, audience=audience)["aud"] == [API, issuer]
    refused(for_both, jwt.InvalidAudienceError, audience=f"{API}/")
    # PyJWT must be told the audience: without one it refuses every token that has one.
    with_no_audience = {"algorithms": [algorithm], "issuer": issuer}
    try:
        jwt.decode(token, key_of(token), **with_no_audience)
    except jwt.InvalidAudienceError:
        pass
    else:
        raise AssertionError("an audience that nobody asked for was accepted")

    # It expires when the client was told; with a tolerance of 5 s, 5 s later.
    brief = token_of(issuer, "shop-brief")
    unverified = decoded(brief.split(".")[1])
    end = unverified["exp"]
    assert end - unverified["iat"] == 1
    with now(end + 4):
        verified(brief)
    with now(end + 5):
        refused(brief, jwt.ExpiredSignatureError)
    with now(claims["exp"] + 5):
        refused(token, jwt.ExpiredSignatureError)

    # A token with a flipped bit is refused: for its signature, or earlier if its header is no
    # longer JSON or names no key.
    segments = [unpadded_decode(segment) for segment in token.split(".")]
    errors = jwt.PyJWTError, jwt.DecodeError, jwt.InvalidSignatureError
    for at, (segment, error) in enumerate(zip(segments, errors)):
        for byte in range(len(segment)):
            flipped = bytearray(segment)
            flipped[byte] ^= 1 << (byte % 8)
            forged = [*segments[:at], bytes(flipped), *segments[at + 1 :]]
            refused(".".join(map(unpadded_encode, forged)), error)

    # The algorithm is the verifier's choice and not the token's.
    another = "RS256" if algorithm == "ES256" else "ES256"
    refused(token, jwt.InvalidAlgorithmError, algorithm=another)
    header = jwt.get_unverified_header(token)
    assert header == {"alg": algorithm, "typ": "at+jwt", "kid": header["kid"]}

    def signed_part(**changes):
        return f"{unpadded_encode(json.dumps({**header, **changes}).encode())}.{token.split('.')[1]}"

    def with_hmac(secret, signed):
        return f"{signed}.{unpadded_encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    refused(f"{signed_part(alg='none')}.", jwt.InvalidAlgorithmError)
    if exported:
        secret = key_of(token).key
        for known_to_all in (b"", header["kid"].encode()):
            refused(with_hmac(known_to_all, signed_part()), jwt.InvalidSignatureError)
        # The type counts as well, even if the right key has signed.
        verified(with_hmac(secret, signed_part()))
        for typ in ("JWT", None):
            refused(with_hmac(secret, signed_part(typ=typ)), jwt.InvalidTokenError)
    else:
        public = key_of(token).key
        forms = [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
        for known_to_all in [public.public_bytes(*form) for form in forms]:
            for secret in (known_to_all, known_to_all.strip()):
                refused(with_hmac(secret, signed_part(alg="HS256")), jwt.InvalidAlgorithmError)


def exported_keys(text):
    """Returns a lookup in a set with secrets, in place of PyJWKClient, which would fetch the set."""
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(text).keys}

    def key_of(token):
        kid = jwt.get_unverified_header(token).get("kid")
        if kid not in keys:
            raise jwt.InvalidKeyError("an unknown key")
        return keys[kid]

    return key_of


def token_of(issuer, client_id):
    scheme, host, *_ = urlsplit(issuer)
    url = f"{scheme}://{host}"
    session = OAuth2Session(client_id, redirect_uri=REDIRECT_URI, pkce="S256")
    authorize_url, _ = session.authorization_url(f"{url}/oauth/authorize")
    answer = requests.get(authorize_url, timeout=60).json()
    redirect = f"{REDIRECT_URI}?{urlencode(answer)}"
    caller = {"include_client_id": True, "timeout": 60}
    tokens = session.fetch_token(f"{url}/oauth/token", authorization_response=redirect, **caller)
    return tokens["access_token"]


@contextmanager
def now(seconds):
    """Sets PyJWT's clock, which it doesn't take as an argument."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(seconds, tz)

    with mock.patch("jwt.api_jwt.datetime", Clock):
        yield


def decoded(segment):
    return json.loads(unpadded_decode(segment))


def unpadded_decode(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def unpadded_encode(segment):
    return base64.urlsafe_b64encode(segment).decode().rstrip("=")


if __name__ == "__main__":
    main(*sys.argv[1:])
