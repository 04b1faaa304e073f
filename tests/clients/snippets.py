"""Usage: snippets.py GUESTPASS (SESSION [ISSUER [BASE]] | accounted)

Runs the snippets of the documents as a reader would paste them: those of a session one after the other, in one shell,
in an empty directory. They are changed in nothing but addresses and the places of files. With ISSUER, that stands
wherever the documents have theirs, and with BASE, such as /api, clients call the server below that. `accounted` checks
that every snippet is part of a session, is compared with a file that is run, or is named in docs/README.md among those
that aren't.
"""

import os
import random
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

# A document, or a section of it by its heading; `top` is what stands before the first section.
RUN = ["README.md#Run it", "README.md#curl"]
SESSIONS = {
    "readme": ["README.md"],
    "page": ["README.md#Run it", "docs/browser.md#By hand"],
    "browser": [*RUN, "docs/browser.md#top", "docs/browser.md#Hand a guest over"],
    "calling": [*RUN, "docs/calling.md"],
    "verifying": [*RUN, "docs/verifying.md"],
    "keys": [*RUN, "docs/keys.md"],
    "privacy_see": [*RUN, "docs/privacy.md#See what is known"],
    "privacy_end": [*RUN, "docs/privacy.md#End a grant"],
    "privacy_erase": [*RUN, "docs/privacy.md#Erase a guest"],
    "privacy_forget": [*RUN, "docs/privacy.md#Forget who does not come back"],
    "events": [*RUN, "docs/events.md"],
    "operating": ["docs/operating.md#top", "README.md#curl", "docs/operating.md"],
    "moving": ["README.md#Run it", "docs/moving.md"],
    "settings": ["docs/settings.md", "docs/postgres.md"],
}

# Compared with files by server/tests/it/docs.rs.
SAME_AS_A_FILE = {("docs/verifying.md", language) for language in ("js", "python", "rust")} | {("docs/events.md", "js")}

# Run by tests/gateways.
RUN_ELSEWHERE = {"deploy/README.md"}

# The address of the server, as it is in the documents.
ISSUER = "https://id.shop.example"

# Diagrams, and what is marked as no language.
NO_SNIPPETS = {"mermaid", ""}


class Block(NamedTuple):
    document: str
    headings: tuple
    line: int
    language: str
    text: str

    def place(self):
        return f"{self.document}:{self.line}"


def main(guestpass, name, issuer=ISSUER, base=""):
    if name == "accounted":
        return accounted()
    with Session(Path(guestpass).resolve(), issuer, base) as session:
        for block in blocks_in(SESSIONS[name]):
            if (block.document, block.language) not in SAME_AS_A_FILE and not left_out(block):
                session.run(block)
    return 0


def blocks_in(parts):
    blocks = []
    for part in parts:
        document, _, heading = part.partition("#")
        found = [block for block in blocks_of(document) if not heading or heading in block.headings]
        assert found, f"there is no snippet in {part}"
        blocks += [block for block in found if block not in blocks]
    return blocks


def blocks_of(document):
    blocks, headings, fence = [], ("top",), None
    for number, line in enumerate((ROOT / document).read_text(encoding="utf-8").splitlines(), 1):
        stripped = line.strip()
        if fence is None and (opened := re.fullmatch(r"( *)```(\w*).*", line)):
            fence = (len(opened[1]), number, opened[2], [])
        elif fence and stripped == "```":
            indent, first, language, lines = fence
            text = "".join(f"{line[indent:]}\n" for line in lines)
            if language not in NO_SNIPPETS:
                blocks.append(Block(document, headings, first, language, text))
            fence = None
        elif fence:
            fence[3].append(line)
        elif heading := re.fullmatch(r"(##+) (.*)", line):
            depth = len(heading[1]) - 1
            headings = (*headings[:depth], heading[2]) if depth > 1 else ("", heading[2])
    return blocks


def documents():
    for directory, below, files in os.walk(ROOT):
        below[:] = [name for name in below if not name.startswith(".") and name not in ("target", "node_modules")]
        yield from (str((Path(directory) / name).relative_to(ROOT)) for name in files if name.endswith(".md"))


def not_run():
    """Reads the table in docs/README.md: of each row the document, and how a snippet begins or `all`."""
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    _, table = page.split("| in | what begins with | why |\n|---|---|---|\n")
    rows = re.findall(r"^\| \[.*?\]\((.*?)\) \| `?(.*?)`? \| .* \|$", table, re.MULTILINE)
    assert rows, "docs/README.md has no table of snippets that aren't run"
    return [(os.path.normpath(f"docs/{link}"), beginning) for link, beginning in rows]


def names(row, block):
    document, beginning = row
    return block.document == document and (beginning == "all" or block.text.startswith(beginning))


def left_out(block):
    # Settings are read wherever they stand.
    return block.language != "toml" and any(names(row, block) for row in not_run())


def accounted():
    everywhere = [block for document in documents() for block in blocks_of(document)]
    run = {block for parts in SESSIONS.values() for block in blocks_in(parts)}
    for block in everywhere:
        run_so = block in run or block.document in RUN_ELSEWHERE
        known = run_so or (block.document, block.language) in SAME_AS_A_FILE or left_out(block)
        assert known, f"{block.place()} is not run, and docs/README.md doesn't say why"
    for row in not_run():
        assert any(names(row, block) for block in everywhere), f"docs/README.md: no snippet is {row}"
    return 0


class Session:
    """Runs one snippet after the other in a shell, and ends the server that they have started."""

    def __init__(self, guestpass, issuer, base):
        self.guestpass = guestpass
        self.directory = tempfile.TemporaryDirectory()
        self.work = Path(self.directory.name)
        self.address, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.url = f"http://{self.address}{base}"
        self.api_key = None
        (self.work / ".curlrc").write_text("silent\nshow-error\nfail-with-body\nmax-time = 60\nnoproxy = *\n")
        self.places = {
            "http://127.0.0.1:8080/oauth/": f"{self.url}/oauth/",
            "0.0.0.0:8080": self.address,
            "127.0.0.1:8080": self.address,
            "127.0.0.1:9090": admin,
            "/etc/guestpass/": f"{self.work}/",
            "/var/lib/guestpass": f"{self.work}/lib",
        }
        self.issuer = issuer
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GUESTPASS_")}
        self.environment = {
            **environment,
            "HOME": str(self.work),
            "BINARY": str(guestpass),
            "ADMIN": admin,
        }

    def __enter__(self):
        shell = ["sh", "-c", f'. "{HERE}/snippets.sh"']
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.shell = subprocess.Popen(shell, cwd=self.work, env=self.environment, **pipes)
        return self

    def __exit__(self, *_):
        self.shell.stdin.close()
        self.shell.wait()
        self.shell.stdout.close()
        self.directory.cleanup()

    def run(self, block):
        text = block.text
        for place, ours in self.places.items():
            text = text.replace(place, ours)
        getattr(self, f"run_{block.language}")(block, text)

    def run_sh(self, block, text):
        text = text.replace(ISSUER, self.issuer)
        (self.work / "snippet.sh").write_text(text)
        self.shell.stdin.write("snippet.sh\n")
        self.shell.stdin.flush()
        ended = self.shell.stdout.readline()
        output = (self.work / "output").read_text()
        print(output, end="")
        if ended != "done\n":
            raise AssertionError(f"{block.place()} failed")
        for name, value in promised(text) if "{" in output else ():
            said = re.search(f'"{name}":{re.escape(value)}', output)
            assert said, f"{block.place()} promises {name}, which isn't in the answer"
        # The reader has copied it.
        for api_key in re.findall(r"^gpk_[\w-]+$", output, re.MULTILINE):
            self.api_key = api_key
            (self.work / "api_key").write_text(api_key)

    def run_js(self, block, text):
        page = self.work / "page-snippet.mjs"
        page.write_text(f"{self.with_server(text)}\nexport {{ guest }};\n")
        self.child(block, ["node", HERE / "page.mjs", page])

    def run_python(self, block, text):
        script = self.work / "snippet_of_page.py"
        script.write_text(f"{self.with_server(text)}\nassert tokens['expires_in'] == 86_400, tokens\n")
        self.child(block, [sys.executable, script], API_KEY=self.api_key, OAUTHLIB_INSECURE_TRANSPORT="1")

    def run_toml(self, block, text):
        # Only its owner could make the data directory there.
        text = text.replace("/var/lib/guestpass", "guestpass-data")
        (self.work / "guestpass.toml").write_text(text.replace(ISSUER, self.issuer))
        if "password_file" in text:
            (self.work / "postgres-password").write_text("secret")
        if "token_file" in text:
            (self.work / "operators.token").write_text("t" * 44)
        if "certificate_file" in text:
            key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "id.key"]
            self.child(block, ["openssl", "req", "-x509", "-subj", "/CN=id.shop.example", *key, "-out", "id.pem"])
        # There is no such database; what can be known without it is whether every setting is one.
        command = "show" if "postgres://" in text else "check"
        self.child(block, [self.guestpass, "config", command, "--config", "guestpass.toml"])

    def run_csv(self, block, text):
        (self.work / "guests.csv").write_text(text)

    def with_server(self, text):
        assert ISSUER in text
        return text.replace(ISSUER, self.url)

    def child(self, block, command, **variables):
        ended = subprocess.run(command, cwd=self.work, env={**self.environment, **variables}, check=False)
        assert ended.returncode == 0, f"{block.place()} failed"


def promised(text):
    """Returns the members of the answer that a comment shows, each with its value, if that is written out."""
    shown = re.findall(r"^#[^{\n]*(\{[^}]*\})", text, re.MULTILINE)
    return [member for answer in shown for member in re.findall(r'"(\w+)": ("[^"…]*"|\w+)?', answer)]


def free_ports(count):
    """Draws ports that nothing listens on, from below those that the system gives to connections."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
    return ports


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
