"""Failover under load: kills the PostgreSQL primary several times and checks that every answer stays true.

Takes some five minutes on two cores. Fails if anything happened that docs/reliability.md rules out; writes the
figures there if the whole plan was run and nothing did.
"""

import argparse
import asyncio
import signal
import sys
import time
from dataclasses import dataclass, field

import report
from guests import DEADLINE, HUNG, LOSSES, RESTARTED, Crowd
from hosts import NODES, PATRONI, Cluster
from programs import Trouble, send

SYNCHRONOUS, ASYNCHRONOUS = "synchronous", "asynchronous"
PLAN = [
    (SYNCHRONOUS, "killed"),
    (SYNCHRONOUS, "cut off, then killed"),
    (SYNCHRONOUS, "killed with its etcd"),
    (ASYNCHRONOUS, "killed"),
    (ASYNCHRONOUS, "cut off, then killed"),
]
# Not part of the plan: Debian 12's Patroni and etcd lose data in these (docs/reliability.md).
FROZEN = ("frozen", "frozen with its etcd")
# Seconds of load before a kill, and after the first success.
BEFORE, AFTER = 8, 5
CUT_OFF = 1
# Tolerance in seconds for measuring a request's time, with everything on one machine.
SLACK = 2


@dataclass
class Round:
    """The figures of one kill."""

    mode: str
    kind: str
    outage: float = 0.0
    refused: int = 0
    unanswered: int = 0
    longest: float = 0.0
    answered: int = 0
    guests: int = 0
    anew: int = 0
    lost: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)


def main():
    options = arguments()
    began = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    # A shell that starts this in the background has SIGINT ignored: handle it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    plan = [(mode, kind) for mode, kind in PLAN if options.only in ("", mode) and options.kind in ("", kind)]
    plan = [(SYNCHRONOUS, options.kind)] if options.kind in FROZEN else plan
    try:
        # Held codes must still be valid at the end of a round.
        with Cluster(say, {"GUESTPASS_TOKENS__CODE_TTL": "10m", "GUESTPASS_LIMITS__MODE": "off"}, options.patroni) as cluster:
            rounds = [drill(cluster, say, options, *step) for step in plan]
            versions = report.versions(cluster)
    except Trouble as trouble:
        print(f"drill: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return conclude(rounds, versions, options, say)


def arguments():
    parser = argparse.ArgumentParser(
        prog="make drill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", choices=(SYNCHRONOUS, ASYNCHRONOUS), help="with this replication only")
    kinds = sorted({*(kind for _, kind in PLAN), *FROZEN})
    parser.add_argument("--kind", default="", choices=kinds, help="with this only; frozen is not in the plan")
    parser.add_argument("--patroni", default=PATRONI, help="another Patroni than Debian's")
    parser.add_argument("--clients", type=int, default=48, help="how many at once (48)")
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between two requests of one (0.15)")
    parser.add_argument("--no-loss", action="store_true", help="count the losses of asynchronous replication as faults")
    return parser.parse_args()


def drill(cluster, say, options, mode, kind):
    if cluster.is_synchronous() != (mode == SYNCHRONOUS):
        say(f"replication is {mode} from now on")
        cluster.set_synchronous(mode == SYNCHRONOUS)
    cluster.wait("the cluster to be whole", cluster.is_whole)
    say(f"{mode}, {kind}: {options.clients} clients")
    seen = Round(mode, kind)
    asyncio.run(under_load(cluster, say, options, seen))
    say(
        f"  first success after {seen.outage:.1f} s, {seen.refused} requests refused with 503, "
        f"longest {seen.longest:.1f} s, {seen.answered} answers checked"
    )
    for what, count in seen.lost.items():
        say(f"  lost: {what}: {count}")
    for what in sorted({what for what, _ in seen.faults}):
        details = [detail for other, detail in seen.faults if other == what]
        say(f"  FAULT: {what}: {len(details)} times; {details[0]}")
    return seen


async def under_load(cluster, say, options, seen):
    crowd = Crowd([*map(cluster.url, NODES), cluster.public()], options.clients, options.pause)
    running = {name: node.pid for name, node in cluster.nodes.items()}
    load = asyncio.create_task(crowd.run())
    try:
        await asyncio.sleep(BEFORE)
        primary = await asyncio.to_thread(cluster.primary)
        if primary is None:
            raise Trouble("there is no primary to kill")
        killed = await strike(primary, seen.kind)
        say(f"  {primary.name}, the primary, is {seen.kind}")
        seen.outage = await first_success(crowd, killed) - killed
        say(f"  served again after {seen.outage:.1f} s; {primary.name} comes back")
        await asyncio.to_thread(bring_back, primary, seen.kind)
        await asyncio.sleep(AFTER)
    finally:
        crowd.going = False
        await load
    await asyncio.to_thread(cluster.wait, "the old primary to follow the new one", cluster.is_whole, 120)
    under_way = len(crowd.ledger.requests)
    say(f"  {len(crowd.ledger.guests)} guests, {len(crowd.ledger.held)} codes: each is checked")
    await crowd.settle()
    judge(crowd.ledger, under_way, seen, options)
    for name, node in cluster.nodes.items():
        if not node.runs() or node.pid != running[name]:
            seen.faults.append((RESTARTED, name))


async def strike(primary, kind):
    """Kills or freezes the primary, and returns the time at which that was done."""
    if kind in FROZEN:
        primary.freeze(with_etcd=kind.endswith("etcd"))
    elif kind == "killed with its etcd":
        primary.kill(with_etcd=True)
    else:
        if kind == "cut off, then killed":
            # Stopping the walsenders cuts the standbys off, as a network partition would.
            send(signal.SIGSTOP, primary.wal_senders())
            await asyncio.sleep(CUT_OFF)
        primary.kill()
    return time.monotonic()


def bring_back(primary, kind):
    if kind in FROZEN:
        primary.thaw(with_etcd=True)
    else:
        primary.come_back()


async def first_success(crowd, killed):
    """Waits for the first 200 to a request that was sent after the kill, and returns its time."""
    seen = 0
    end = time.monotonic() + 120
    while time.monotonic() < end:
        requests = crowd.ledger.requests
        for request in requests[seen:]:
            if request.status == 200 and request.sent > killed:
                return request.sent + request.seconds
        seen = len(requests)
        await asyncio.sleep(0.02)
    raise Trouble("no request was answered with 200 for 120 s after the kill")


def judge(ledger, under_way, seen, options):
    loaded = ledger.requests[:under_way]
    seen.refused = sum(1 for request in loaded if request.status == 503)
    seen.unanswered = sum(1 for request in loaded if request.status is None)
    seen.answered = sum(1 for request in loaded if request.status == 200)
    seen.longest = max(request.seconds for request in ledger.requests)
    seen.guests = len(ledger.guests) + len(ledger.held)
    seen.anew = ledger.anew
    for request in ledger.requests:
        if request.seconds > DEADLINE + SLACK:
            ledger.fault(HUNG, f"{request.seconds:.1f} s, then {request.status}")
    may_lose = seen.mode == ASYNCHRONOUS
    if may_lose:
        seen.lost = {what: ledger.count(what) for what in LOSSES}
    forgiven = LOSSES if may_lose and not options.no_loss else ()
    seen.faults += [fault for fault in ledger.faults if fault[0] not in forgiven]


def conclude(rounds, versions, options, say):
    faults = sum(len(seen.faults) for seen in rounds)
    if faults:
        say(f"{faults} faults: not as docs/reliability.md promises. Logs are in target/cluster/log")
        return 1
    if len(rounds) == len(PLAN):
        report.write(rounds, versions, options)
        say("nothing that was promised was broken; the figures are in docs/reliability.md")
    else:
        say("nothing that was promised was broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
