"""A cluster to play with: kill what you like, and see what guests notice. Ctrl-C ends all of it.

Three PostgreSQL hosts under Patroni with etcd and synchronous replication, HAProxy, and two Guestpass nodes, on
127.0.0.1, with the files of deploy/cluster. What you kill is started again after a while, as systemd would.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import time

from guests import Browser, Ledger
from hosts import CLIENT, Cluster
from programs import STATE, Trouble, postgresql_programs

# Seconds until a killed host starts again: longer than the primary's lease.
REBOOT = 40


def main():
    parser = argparse.ArgumentParser(
        prog="make cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="end by itself after so long")
    options = parser.parse_args()
    # A shell that starts this in the background has SIGINT ignored: handle it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with Cluster(say) as cluster:
            asyncio.run(play(cluster, options.seconds))
            say("ending all of it")
    except Trouble as trouble:
        print(f"cluster: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("all of it has ended")
    return 0


def say(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


async def play(cluster, seconds):
    await greet(cluster)
    print(manual(cluster), flush=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(visit(cluster), watch(cluster), restart(cluster))


async def greet(cluster):
    """Authorizes, exchanges and refreshes three guests through HAProxy."""
    ledger = Ledger()
    browser = Browser([cluster.public()], ledger)
    for _ in range(3):
        guest = await browser.authorize()
        if not (guest and await browser.redeem(guest) and await browser.refresh(guest)):
            raise Trouble(f"a guest was refused: {ledger.faults}")
        say(f"guest {guest.identity[0]}: authorized, exchanged, refreshed")
    browser.close()


async def visit(cluster):
    """Refreshes one guest twice a second, and reports retries and refusals."""
    ledger = Ledger()
    browser = Browser([cluster.public()], ledger)
    guest = await browser.authorize()
    await browser.redeem(guest)
    while True:
        before = len(ledger.requests)
        if not await browser.refresh(guest):
            say(f"THE GUEST WAS REFUSED: {ledger.faults[-1]}")
            guest = await browser.authorize() or guest
            await browser.redeem(guest)
        tries = ledger.requests[before:]
        if len(tries) > 1:
            longest = max(request.seconds for request in tries)
            away = tries[-1].sent + tries[-1].seconds - tries[0].sent
            say(
                f"the guest was told to come again {len(tries) - 1} times in {away:.1f} s "
                f"(longest {longest:.1f} s), and is served"
            )
        await asyncio.sleep(0.5)


async def watch(cluster):
    """Reports the roles of the hosts and the health of the nodes when they change."""
    before = None
    while True:
        now = await asyncio.to_thread(roles, cluster)
        if before is not None and now != before:
            say(now)
        before = now
        await asyncio.sleep(1)


def roles(cluster):
    known = cluster.roles()
    words = {"leader": "primary", "sync_standby": "synchronous standby", "replica": "standby"}
    of_hosts = [f"{name} {words.get(known.get(name, ('away',))[0], 'away')}" for name in cluster.hosts]
    of_nodes = [f"node {name} {'ready' if cluster.is_ready(name) else 'not ready'}" for name in cluster.nodes]
    return ", ".join(of_hosts + of_nodes)


async def restart(cluster):
    """Restarts programs that were killed, after a delay."""
    of_hosts = {program for host in cluster.hosts.values() for program in (host.patroni, host.etcd)}
    due = {}
    while True:
        for program in cluster.programs():
            if program.runs():
                continue
            if program not in due:
                delay = REBOOT if program in of_hosts else 5
                due[program] = time.monotonic() + delay
                say(f"{program.name} ({program.pid}) has ended; it is started again in {delay} s")
            elif time.monotonic() > due[program]:
                del due[program]
                program.start()
                say(f"{program.name} is started again, as {program.pid}")
        await asyncio.sleep(0.5)


def manual(cluster):
    known = cluster.roles()
    primary = next((name for name, (role, _) in known.items() if role == "leader"), "db1")
    host, node = cluster.hosts[primary], cluster.nodes["a"]
    lines = ["", f"  {'host':6}{'role':14}{'etcd':>8}{'patroni':>9}{'postgres':>10}"]
    for name, each in cluster.hosts.items():
        role = known.get(name, ("away",))[0]
        lines.append(f"  {name:6}{role:14}{each.etcd.pid:>8}{each.patroni.pid:>9}{each.postmaster() or '-':>10}")
    nodes = ", ".join(f"{name} {each.pid}" for name, each in cluster.nodes.items())
    lines.append(f"  haproxy {cluster.haproxy.pid}; Guestpass nodes: {nodes}")
    patroni = f"patronictl -c {cluster.layout.home}/{primary}/patroni.yml"
    password = cluster.layout.word("change-me-superuser")
    database = f"postgres://postgres:{password}@{cluster.layout.at('127.0.0.1', 5000)}/guestpass"
    return "\n".join(lines) + f"""

  Guestpass, behind HAProxy   {cluster.public()}/oauth/authorize (client {CLIENT})
  HAProxy, what is up         http://{cluster.layout.at('127.0.0.1', 8404)}/
  Patroni, who is what        {patroni} list
  the database                {postgresql_programs()}/psql {database}
  logs                        {STATE}/log

  What to type in another terminal, and what to expect here:
    kill -9 {host.patroni.pid} {host.postmaster()}
        The primary's host is gone. 503 for 15 to 25 s, until its lease has run out; then the synchronous standby is
        the primary. {REBOOT} s later the host is started again, and follows.
    kill -9 {host.postmaster()}
        Its PostgreSQL is gone, and Patroni is there: it hands over at once, within some seconds.
    kill -9 {node.pid}
        A Guestpass node is gone: the other one serves. At most one answer is lost.
    {patroni} switchover --force
        An orderly change, as for an upgrade: some 10 s of 503.
  Nobody is logged out by any of it. Pids change with each start: see above, or Patroni.

  Ctrl-C ends all of it.
"""


if __name__ == "__main__":
    sys.exit(main())
