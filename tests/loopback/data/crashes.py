"""Relays, broker and database are killed at random under load; no committed event may be missing or out of order.

`python -m tests.loopback.data.crashes --seconds 300 --seed 7` is the long form of what `test_crashes.py` does for a few
seconds. What is killed and when follows from the seed; what the machine was doing at that moment does not.

Each transaction of the load counts an aggregate's row up and appends an event with that number. So the database knows
what must be in Kafka: the numbers from 1 to the row's, each once or more, first arrivals in order.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg

from nova_data.outbox.writer import outbox
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .outboxes import Relay, connected, installed

AGGREGATES = 20
WRITERS = 4
VICTIMS = ("relay", "relay", "broker", "database")
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass
class Report:
    """What a run came to."""

    kills: Counter[str] = field(default_factory=Counter)
    committed: int = 0
    messages: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def repetitions(self) -> int:
        """Messages that were there already."""
        return self.messages - self.committed


class Load:
    """Writers in a thread of their own, until the block ends. They live through whatever dies."""

    def __init__(self, url: str, seed: int, topic: str) -> None:
        self._url = url
        self._topic = topic
        self._rng = Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._write() for _ in range(WRITERS)))

    async def _write(self) -> None:
        while not self._over.is_set():
            try:
                connection = await asyncpg.connect(self._url, timeout=2, command_timeout=5)
            except _LOST:
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(*_LOST):
                while not self._over.is_set():
                    await self._count(connection)
                    await asyncio.sleep(self._rng.random() * 0.01)
            connection.terminate()

    async def _count(self, connection: Any) -> None:
        name = f"a{self._rng.randrange(AGGREGATES)}"
        async with connection.transaction():
            count = await connection.fetchval("UPDATE accounts SET n = n + 1 WHERE id = $1 RETURNING n", name)
            async with outbox(connection) as events:
                await events.append(self._topic, name, "counted", {"n": count})


def run(seconds: float, seed: int, broker: Kafka) -> Report:
    """Kill for so many seconds, let everything recover, and compare."""
    rng, report, topic = Random(seed), Report(), f"accounts-{uuid.uuid4().hex[:8]}"
    # a commit that was answered is in the files of the system; it is the server that dies here, not the machine
    database = Postgres(synchronous_commit="on")
    try:
        url = installed(database, "crashes")
        rows = f"INSERT INTO accounts SELECT 'a' || n, 0 FROM generate_series(0, {AGGREGATES - 1}) n"
        connected(url, lambda c: c.execute(f"CREATE TABLE accounts (id text PRIMARY KEY, n int); {rows}"))
        broker.make_topic(topic)
        relays = [_relay(url, broker) for _ in range(2)]
        try:
            with Load(url, seed, topic):
                for victim in _victims(seconds, rng):
                    report.kills[victim] += 1
                    if victim == "relay":
                        at = rng.randrange(len(relays))
                        relays[at].kill()
                        relays[at] = _relay(url, broker)
                    else:
                        server = broker if victim == "broker" else database
                        server.stop()
                        time.sleep(rng.uniform(0, 0.5))
                        server.start()
            eventually(lambda: _waiting(url) == 0, within=60, every=0.2)
        finally:
            for relay in relays:
                relay.kill()
        _compare(url, broker, topic, report)
    finally:
        database.close()
    return report


def _victims(seconds: float, rng: Random) -> Iterator[str]:
    """Who is to be killed now, in an order of the seed's, until the time is over and each was once."""
    end, order = time.monotonic() + seconds, list(VICTIMS)
    rng.shuffle(order)
    for count, victim in enumerate(itertools.cycle(order)):
        time.sleep(rng.uniform(0.3, 1.5))  # how long all live: a part of the experiment, not a wait for something
        if time.monotonic() >= end and count >= len(order):
            return
        yield victim


def _relay(url: str, broker: Kafka) -> Relay:
    return Relay(url, broker.url, "--publish-timeout", "3s")


def _waiting(url: str) -> int:
    return int(connected(url, lambda c: c.fetchval("SELECT count(*) FROM outbox_events WHERE published_at IS NULL")))


def _compare(url: str, broker: Kafka, topic: str, report: Report) -> None:
    counts = dict(connected(url, lambda c: c.fetch("SELECT id, n FROM accounts")))
    report.committed = sum(counts.values())
    found: dict[str, list[int]] = defaultdict(list)
    with broker.reader(topic) as reader:
        messages = reader.until(report.committed, within=60)
        for _ in range(20):
            reader.take()
    seen: dict[str, int] = {}
    for message in messages:
        headers = {name: value.decode() for name, value in message.headers()}
        number = json.loads(message.value())["n"]
        if seen.setdefault(headers["idempotency-key"], number) != number:
            report.wrong.append(f"{headers['idempotency-key']} is the key of two events")
        found[headers["aggregate-id"]].append(number)
    report.messages = len(messages)
    for name, count in sorted(counts.items()):
        first_arrivals = list(dict.fromkeys(found[name]))
        if first_arrivals != list(range(1, count + 1)):
            report.wrong.append(f"{name}: expected 1 to {count}, got {first_arrivals}")


def main() -> None:
    """Run as the command line says; fails when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    broker = Kafka()
    try:
        report = run(options.seconds, options.seed, broker)
    finally:
        broker.close()
    print(f"killed: {dict(report.kills)}; events: {report.committed}, repeated: {report.repetitions}")
    if report.wrong:
        raise SystemExit("\n".join(report.wrong))


if __name__ == "__main__":
    main()
