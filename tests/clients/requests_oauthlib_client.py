"""Usage: requests_oauthlib_client.py URL CLIENT_ID (body | basic) [API_KEY]

A guest's life through requests-oauthlib, as a shop's back end would use it. The library makes the
authorize URL, with its own state and PKCE, and every token request; it reads the JSON answer of
authorize as if it had come by redirect. `body` sends client_id as a parameter. `basic` is HTTP
Basic, with an empty password for a public client: the library's own choice unless told otherwise.
"""

import base64
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlencode

import requests
from oauthlib.oauth2 import InvalidClientError, InvalidGrantError, MismatchingStateError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain HTTP: this test stays on loopback

REDIRECT_URI = "urn:ietf:wg:oauth:2.0:oob:auto"
TIMEOUT = 10


def main(url, client_id, form, api_key=""):
    token_url = f"{url}/oauth/token"
    basic = HTTPBasicAuth(client_id, api_key)

    def authorize():
        """Returns a session, which keeps its state and verifier, and the answer that it got."""
        session = OAuth2Session(client_id, redirect_uri=REDIRECT_URI, pkce="S256")
        authorize_url, _ = session.authorization_url(f"{url}/oauth/authorize")
        headers = {"x-api-key": api_key} if api_key else {}
        answer = requests.get(authorize_url, headers=headers, timeout=TIMEOUT)
        assert answer.status_code == 200, answer.text
        return session, answer.json()

    def exchange(session, answer):
        redirect = f"{REDIRECT_URI}?{urlencode(answer)}"
        return fetch(session, authorization_response=redirect)

    def fetch(session, **grant):
        if form == "body":
            grant["include_client_id"] = True
        elif api_key:
            grant["auth"] = basic
        return session.fetch_token(token_url, timeout=TIMEOUT, **grant)

    def refresh(refresh_token, auth=basic):
        caller = {"client_id": client_id} if form == "body" else {"auth": auth}
        session = OAuth2Session(client_id)
        return session.refresh_token(token_url, refresh_token, timeout=TIMEOUT, **caller)

    # Someone else's answer stops the library before it spends the code. Were the code sent with
    # that other session's verifier, the server would refuse it, and leave it to the right one.
    session, answer = authorize()
    stranger, _ = authorize()
    with refused(MismatchingStateError):
        exchange(stranger, answer)
    with refused(InvalidGrantError):
        fetch(stranger, code=answer["code"])
    first = exchange(session, answer)
    assert first["token_type"] == "Bearer"
    assert first["expires_in"] == 86_400
    guest = identity(first)

    # On later days, each answer replaces the one before, and the guest stays the same.
    second = refresh(first["refresh_token"])
    third = refresh(second["refresh_token"])
    assert len({stored["refresh_token"] for stored in (first, second, third)}) == 3
    assert identity(second) == identity(third) == guest

    # Two concurrent refreshes both succeed, with the same successor.
    with ThreadPoolExecutor() as threads:
        left, right = threads.map(refresh, [third["refresh_token"]] * 2)
    assert left["refresh_token"] == right["refresh_token"]
    assert identity(left) == identity(right) == guest

    # A token that was replaced is refused once its successor has been used, as is one that never
    # was a token; the current one still works.
    for dead in (first["refresh_token"], "dead"):
        with refused(InvalidGrantError):
            refresh(dead)
    fifth = refresh(left["refresh_token"])

    # A wrong password is refused by its own name, and spends nothing.
    if form == "basic":
        with refused(InvalidClientError):
            refresh(fifth["refresh_token"], HTTPBasicAuth(client_id, "wrong"))
    sixth = refresh(fifth["refresh_token"])

    # Authorizing again makes another guest.
    other = exchange(*authorize())
    assert set(identity(other)).isdisjoint(guest)

    # A code that is sent again with everything right is refused, and ends the grant it gave.
    # The other guest is not touched.
    with refused(InvalidGrantError):
        exchange(session, answer)
    with refused(InvalidGrantError):
        refresh(sixth["refresh_token"])
    refresh(other["refresh_token"])


@contextmanager
def refused(error):
    """Expects the library's own error for the server's answer from the block."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was expected")


def identity(answer):
    """Returns `sub` and `subn` of the access token."""
    payload = answer["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["sub"], claims["subn"]


if __name__ == "__main__":
    main(*sys.argv[1:])
