"""Usage: tester.py GUESTPASS

Holds the real binary, on a new data directory, against its own description (OpenAPI): is the document one, and does
the server do what it says, whatever it is sent? Schemathesis makes the requests, follows the links from code to
tokens, and judges the answers. Prints a line for each test.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from contextlib import contextmanager
from pathlib import Path

import jsonschema_rs
import requests
from schemathesis.specs.openapi.definitions import OPENAPI_31

HERE = Path(__file__).parent
CLIENT_ID = "shop-backend"
PAGES_CLIENT_ID = "shop-web"
ORIGIN = "https://shop.example"


def main(guestpass):
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        with served(guestpass, work) as (url, api_key):
            document = requests.get(f"{url}/oauth/openapi.json", timeout=60).json()
            test("the_document_is_openapi", lambda: check_document(document))
            test("examples_keep_to_their_schemas", lambda: check_examples(document))
            environment = {"URL": url, "CLIENT_ID": CLIENT_ID, "API_KEY": api_key}
            environment |= {"PAGES_CLIENT_ID": PAGES_CLIENT_ID, "ORIGIN": ORIGIN}
            output = run_schemathesis(work, environment)
        if not (work / "junit.xml").exists():
            sys.exit(output.stdout)
        for operation, failures in read_report(work / "junit.xml"):
            test(operation, lambda: check_none(failures))
        answered = json.loads((work / "answered.json").read_text())
        test("every_operation_succeeded", lambda: check_successes(document, answered))
        test("codes_and_refresh_tokens_were_redeemed", lambda: check_grants(answered))
        print(f"{sum(outcomes)} passed, {outcomes.count(False)} failed")
        if not all(outcomes) or output.returncode != 0:
            print(output.stdout)
            sys.exit(1)


def check_document(document):
    jsonschema_rs.validator_for(OPENAPI_31).validate(document)
    schemas = list(found("schema", document)) + list(document["components"]["schemas"].values())
    assert len(schemas) > 20
    for schema in schemas:
        jsonschema_rs.meta.validate(schema)


def check_examples(document):
    count = 0
    for name, schema in document["components"]["schemas"].items():
        rooted = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for example in schema.get("examples", []):
            jsonschema_rs.Draft202012Validator(rooted).validate(example)
            count += 1
    assert count >= 5, f"only {count} examples"


def check_none(failures):
    assert not failures, "\n".join(failures)


def check_successes(document, answered):
    operations = [
        operation
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    ]
    for operation in operations:
        succeeded = [status for status in operation["responses"] if status.startswith("2")]
        name = operation["operationId"]
        if name == "openapi":  # read above, and left out by Schemathesis
            continue
        assert any(f"{name} {status}" in answered for status in succeeded), f"{name} never did"


def check_grants(answered):
    for grant_type in ["authorization_code", "refresh_token"]:
        assert answered.get(f"token 200 with {grant_type}", 0) >= 1, f"{grant_type}: {answered}"


@contextmanager
def served(guestpass, work):
    """Runs a server with a confidential client and one for pages; yields its URL and the client's key."""
    data = ["--data-dir", str(work / "data")]
    pages = ["client", "add", PAGES_CLIENT_ID, "--origin", ORIGIN, "--cookies", "guest"]
    subprocess.run([guestpass, *data, *pages], check=True, capture_output=True)
    may = ["--may", "link,attributes", "--ticket-to", PAGES_CLIENT_ID]
    add = [guestpass, *data, "client", "add", CLIENT_ID, "--confidential", *may, "--json"]
    added = subprocess.run(add, check=True, capture_output=True, text=True)
    with open(work / "log", "w") as log:
        serve = [guestpass, *data, "serve", "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on "), f"{line}{(work / 'log').read_text()}"
        yield line.split()[-1], json.loads(added.stdout)["api_key"]
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def run_schemathesis(work, environment):
    program = Path(sys.executable).with_name("schemathesis")
    location = f"{environment['URL']}/oauth/openapi.json"
    report = ["--report", "junit", "--report-junit-path", str(work / "junit.xml")]
    return subprocess.run(
        [program, "--config-file", HERE / "schemathesis.toml", "run", location, "--no-color", *report],
        cwd=work,
        env=os.environ
        | environment
        | {
            "ANSWERED": str(work / "answered.json"),
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )


def read_report(path):
    """Yields each operation, and the stateful scenarios, with its failures."""
    for case in xml.parse(path).iter("testcase"):
        bad = case.findall("failure") + case.findall("error")
        yield case.get("name").replace(" ", "_"), [problem.text or "" for problem in bad]


def found(key, node):
    if isinstance(node, dict):
        if isinstance(node.get(key), dict):
            yield node[key]
        node = node.values()
    if not isinstance(node, str) and hasattr(node, "__iter__"):
        for child in node:
            yield from found(key, child)


def test(name, check):
    try:
        check()
    except Exception as problem:
        print(f"test schema::{name} ... FAILED\n{problem}", flush=True)
        outcomes.append(False)
    else:
        print(f"test schema::{name} ... ok", flush=True)
        outcomes.append(True)


outcomes = []

if __name__ == "__main__":
    # So that a server never stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    main(*sys.argv[1:])
