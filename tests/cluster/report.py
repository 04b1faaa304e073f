"""Writes the figures of the drill into docs/reliability.md."""

import os
import re
import subprocess

from guests import LOSSES
from programs import ROOT

PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- Written by make drill -->\n", "<!-- End of what make drill writes -->\n"


def versions(cluster):
    """Returns the versions of the programs."""
    postgresql = cluster.sql("show server_version") or "?"
    said = {
        "Patroni": ["/usr/bin/patroni", "--version"],
        "etcd": ["/usr/bin/etcd", "--version"],
        "HAProxy": ["/usr/sbin/haproxy", "-v"],
    }
    found = [f"PostgreSQL {postgresql.split(' ')[0]}"]
    for name, command in said.items():
        output = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        number = re.search(r"\d+\.\d+\.\d+", output)
        found.append(f"{name} {number[0] if number else '?'}")
    return ", ".join(found)


def write(rounds, versions, options):
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + section(rounds, versions, options) + END + after)


def section(rounds, versions, options):
    cores, memory = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    answered = sum(seen.answered for seen in rounds)
    head = [
        "",
        f"`make drill`, all of it on one machine with {cores} cores and {memory:.0f} GiB, a debug build of Guestpass,",
        f"{versions}. {options.clients} clients at once; {answered} answers with 200 were checked.",
        "",
    ]
    seen_by_all = table(
        ["replication", "the primary is", "first success", "503s", "no answer", "longest", "200s checked", "in doubt"],
        rounds,
        lambda seen: [
            f"{seen.outage:.1f} s",
            seen.refused,
            seen.unanswered,
            f"{seen.longest:.1f} s",
            seen.answered,
            seen.anew,
        ],
    )
    lost = table(
        ["replication", "the primary is", "guests", "codes lost", "guests logged out", "codes redeemed twice"],
        rounds,
        lambda seen: [seen.guests, *(seen.lost.get(what, 0) for what in LOSSES)],
    )
    return "\n".join([*head, *seen_by_all, "", *lost, "", ""])


def table(names, rounds, figures):
    rows = [[seen.mode, seen.kind, *map(str, figures(seen))] for seen in rounds]
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]
