"""Access tokens that a recipe must take, and others that it must not.

Guestpass signs those that are wrong in one claim: its keys are its own. The rest is forged here.
"""

import base64
import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from servers import TIMEOUT, Guestpass, session

ORIGIN = "https://www.shop.example"
CLIENT, OTHER_CLIENT = "shop-web", "shop-other"
ANOTHER_SERVICE = "https://api.shop.example"


class Tokens:
    def __init__(self, program, front):
        self.gather_of_another_issuer(program, front)
        guestpass = front.guestpass = Guestpass(program, front.address)
        guestpass.start()
        try:
            guestpass.until_it_listens()
            self.gather(guestpass)
        except BaseException:
            guestpass.stop()
            raise
        self.forge()

    def gather_of_another_issuer(self, program, front):
        """The same keys, and the right audience beside its own."""
        other = Guestpass(program, "http://127.0.0.1:9")
        other.tell("client", "add", CLIENT, "--origin", ORIGIN, "--cookies", "guest", "--audience", front.address)
        other.tell("client", "add", OTHER_CLIENT, "--origin", ORIGIN, "--cookies", "other")
        other.start()
        try:
            other.until_it_listens()
            jar, _ = session(other, CLIENT, ORIGIN)
        finally:
            other.stop()
        self.of_another_issuer = jar["guest"]
        claims = claims_of(self.of_another_issuer)
        assert front.address in claims["aud"] and claims["iss"] != front.address, claims
        other.tell("client", "set", CLIENT, "--audience", "default")
        other.tell("db", "set-issuer", front.address)

    def gather(self, guestpass):
        self.one = session(guestpass, CLIENT, ORIGIN)
        self.other = session(guestpass, CLIENT, ORIGIN)
        jar, _ = session(guestpass, OTHER_CLIENT, ORIGIN)
        self.of_another_client = jar["other"]

        def changed(is_so, *choices):
            """A token that shows that the server has heard of a change."""
            guestpass.tell("client", "set", CLIENT, *choices)
            deadline = time.monotonic() + TIMEOUT
            while True:
                jar, _ = session(guestpass, CLIENT, ORIGIN)
                if is_so(jar["guest"]):
                    return jar["guest"]
                assert time.monotonic() < deadline, choices
                time.sleep(0.1)

        self.expired = changed(lambda token: lifetime(token) == 1, "--access-ttl", "1s")
        changed(lambda token: lifetime(token) > 1, "--access-ttl", "default")
        restricted = ["--audience", ANOTHER_SERVICE, "--audience-restricted"]
        self.for_another_service = changed(lambda token: claims_of(token)["aud"] == ANOTHER_SERVICE, *restricted)
        changed(
            lambda token: claims_of(token)["aud"] == claims_of(token)["iss"],
            "--audience",
            "default",
            "--no-audience-restricted",
        )
        guestpass.tell("client", "set", CLIENT, "--typ", "at+jwt")
        self.of_another_type = changed(lambda token: header_of(token)["typ"] == "JWT", "--typ", "JWT")

    def forge(self):
        good = self.one[0]["guest"]
        header, claims = header_of(good), claims_of(good)
        head, body, signature = good.split(".")
        key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

        def signed(**other):
            return jwt.encode(claims, key, "ES256", headers=header | other)

        def by_secret(secret):
            signing = f"{part(header | {'alg': 'HS256'})}.{body}"
            return f"{signing}.{encoded(hmac.digest(secret, signing.encode(), hashlib.sha256))}"

        none = part(header | {"alg": "none"})
        self.forged = {
            "by another key": signed(),
            "by a key that it brings": signed(jwk=public),
            "by a key of another name": signed(kid="of-nobody"),
            "of another sub": f"{head}.{part(claims | {'sub': self.other[1]})}.{signature}",
            "unsigned": f"{none}.{body}.",
            "unsigned, in two parts": f"{none}.{body}",
            "unsigned, with a signature": f"{none}.{body}.{signature}",
            "with an empty signature": f"{head}.{body}.",
            "with a signature of zeros": f"{head}.{body}.{encoded(bytes(64))}",
            "by a secret that is the public key": by_secret(pem),
            "by a secret that is the name of the key": by_secret(header["kid"].encode()),
            "by an empty secret": by_secret(b""),
            "of another issuer": self.of_another_issuer,
            "of another client": self.of_another_client,
        }
        # A server that is asked knows these for its own.
        self.for_others = {"for another service": self.for_another_service, "of another type": self.of_another_type}
        self.no_tokens = [
            *("", "a", "a.b.c", "..", "W10.W10.W10", "e30.e30.e30", "bnVsbA.bnVsbA.AA", "\xff\xfe", "x" * 7_000),
            *(f"{good}.", f"{good}=", f"{good}x"),
            f"{part([header])}.{body}.{signature}",
            f"{part(header | {'kid': [1]})}.{body}.{signature}",
        ]

    def wait_until_expired(self):
        """The recipes allow for clocks that differ by 5 s."""
        time.sleep(max(0, claims_of(self.expired)["exp"] + 6 - time.time()))


def part(value):
    return encoded(json.dumps(value).encode())


def encoded(text):
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def header_of(token):
    return jwt.get_unverified_header(token)


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def lifetime(token):
    claims = claims_of(token)
    return claims["exp"] - claims["iat"]
