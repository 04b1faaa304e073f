"""Hooks for Schemathesis: authentication, and checks beyond the description.

The environment says where the server is, which confidential client to be, and where to write what was seen.
"""

import atexit
import base64
import json
import os
from collections import Counter

import jsonschema_rs
import requests
import schemathesis

URL = os.environ["URL"]
CLIENT_ID = os.environ["CLIENT_ID"]
PAGES_CLIENT_ID = os.environ["PAGES_CLIENT_ID"]
ORIGIN = os.environ["ORIGIN"]
API_KEY = os.environ["API_KEY"]
VERIFIER = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY"
ABOUT_GUESTS = ["/oauth/link", "/oauth/unlink", "/oauth/attributes"]
REQUESTS_ABOUT_GUESTS = ["LinkRequest", "UnlinkRequest", "AttributesRequest"]
CHALLENGE = "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Narrows the description to the two clients that exist, and to the challenge of the verifier in its links."""
    schemas = raw_schema["components"]["schemas"]
    for name in ["AuthorizationCodeRequest", "RefreshTokenRequest", "PresentedToken", "TicketRequest", *REQUESTS_ABOUT_GUESTS]:
        schemas[name]["properties"]["client_id"] = {"const": CLIENT_ID}
        schemas[name]["examples"][0]["client_id"] = CLIENT_ID
        # A second form of authentication beside `x-api-key`, and a made-up key.
        del schemas[name]["properties"]["client_secret"]
    schemas["SessionRequest"]["properties"]["client_id"] = {"const": PAGES_CLIENT_ID}
    schemas["SessionRequest"]["examples"][0]["client_id"] = PAGES_CLIENT_ID
    del schemas["SessionRequest"]["properties"]["client_secret"]
    # Made up, neither a refresh token nor a ticket is anybody's; together they are refused.
    for name in ["refresh_token", "ticket"]:
        del schemas["SessionRequest"]["properties"][name]
    schemas["TicketRequest"]["properties"]["target"] = {"const": PAGES_CLIENT_ID}
    schemas["TicketRequest"]["examples"][0]["target"] = PAGES_CLIENT_ID
    # Required of a client without cookies.
    schemas["TicketRequest"]["required"].append("refresh_token")
    schemas["TicketRequest"]["properties"]["refresh_token"]["minLength"] = 1
    for parameter in raw_schema["paths"]["/oauth/session"]["delete"]["parameters"]:
        if parameter["name"] == "client_id":
            parameter["schema"] = {"const": PAGES_CLIENT_ID}
    # Required beside `x-api-key`.
    for name in ["PresentedToken", *REQUESTS_ABOUT_GUESTS]:
        schemas[name]["required"].append("client_id")
    # Text to the description, which can't say what stands in it.
    schemas["AttributesRequest"]["properties"]["attributes"] = {"enum": ['{"segment":"vip"}', '{"segment":null}']}
    for parameter in raw_schema["paths"]["/oauth/authorize"]["get"]["parameters"]:
        if parameter["name"] == "client_id":
            parameter["schema"] = {"const": CLIENT_ID}
        if parameter["name"] == "code_challenge":
            parameter["schema"]["enum"] = [CHALLENGE]


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="/(authorize|token|revoke|introspect|link|unlink|attributes|ticket)$")
class Client:
    """The confidential client."""

    def get(self, case, context):
        return API_KEY

    def set(self, case, api_key, context):
        case.headers["x-api-key"] = api_key


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="/(profile|verify)$")
class Guest:
    """A new guest for each request: one that was erased would be of no use to the next."""

    def get(self, case, context):
        redirect = {"client_id": CLIENT_ID, "redirect_uri": "urn:ietf:wg:oauth:2.0:oob:auto"}
        challenge = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        query = redirect | challenge | {"response_type": "code", "state": "state"}
        key = {"x-api-key": API_KEY}
        answer = requests.get(f"{URL}/oauth/authorize", query, headers=key, timeout=60)
        code = {"grant_type": "authorization_code", "code": answer.json()["code"]}
        form = redirect | code | {"code_verifier": VERIFIER}
        answer = requests.post(f"{URL}/oauth/token", form, headers=key, timeout=60)
        return answer.json()["access_token"]

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="/session$")
class Page:
    """A page of the public client, in a browser that has kept its first cookie: a new guest for each request."""

    def get(self, case, context):
        answer = requests.post(f"{URL}/oauth/session", {"client_id": PAGES_CLIENT_ID}, headers={"Origin": ORIGIN}, timeout=60)
        return answer.headers["set-cookie"].split(";")[0]

    def set(self, case, cookie, context):
        case.headers["Origin"] = ORIGIN
        case.headers["Cookie"] = cookie


@schemathesis.check
def a_described_token_request_fails_for_its_grant_only(context, response, case):
    """Accepts the refusal of a request that is valid but has a made-up code or token."""
    takes_grant = is_token(case) or case.operation.path in [*ABOUT_GUESTS, "/oauth/ticket"]
    if takes_grant and case.meta.generation.mode.is_positive and response.status_code == 400:
        error = response.json()["error"]
        assert error == "invalid_grant", f"refused as {error}"


@schemathesis.check
def access_tokens_hold_what_is_described(context, response, case):
    """A JWT is text to the description's own schemas."""
    if is_token(case) and response.status_code == 200:
        payload = response.json()["access_token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        document = case.operation.schema.raw_schema
        claimed = document["components"]["schemas"]["AccessTokenClaims"]
        validator = jsonschema_rs.Draft202012Validator(claimed, validate_formats=True)
        validator.validate(claims)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Wrong credentials are a 401, but two names in one request are a 400 before either is believed, and the made-up
    name that Schemathesis sends beside ours is such a second one."""
    two_names = "got `400 Bad Request` for `POST /oauth/introspect` (invalid credentials provided)"
    return two_names not in failure.message


@schemathesis.hook
def after_call(context, case, response):
    operation = case.operation.definition.raw["operationId"]
    answered[f"{operation} {response.status_code}"] += 1
    if is_token(case) and case.meta and case.meta.phase.name.value == "stateful":
        grant_type = case.body.get("grant_type") if isinstance(case.body, dict) else None
        answered[f"{operation} {response.status_code} with {grant_type}"] += 1


def is_token(case):
    return case.operation.path == "/oauth/token" and case.method == "POST"


answered = Counter()


@atexit.register
def write():
    with open(os.environ["ANSWERED"], "w") as file:
        json.dump(answered, file)
