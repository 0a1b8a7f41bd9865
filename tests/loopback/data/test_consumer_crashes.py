"""Consumers that are killed at any point, a broker and a database that are restarted: each effect once, in order."""

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from nova_data.main import main
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .consuming import Sent, group, numbered, send

REPOSITORY = Path(__file__).resolve().parents[3]
COUNT = 1500
KEYS = 25


class Process:
    """A consumer; `log` has its lines."""

    def __init__(self, log: Path, *words: str) -> None:
        self._log = log
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.loopback.data.consuming_process", *self._words]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(40)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    assert main(["dedup", "install", "--database", postgres.url]) == 0
    postgres.sql("CREATE TABLE effects (id bigserial, name text, number int)")
    yield postgres.url
    postgres.sql("DROP TABLE effects; DROP TABLE dedup_keys")


PAGE = """
import asyncio, functools, signal, sys
import asyncpg
from tests.loopback.data.pages import names_of

page = names_of("consumer.md")
page["serve"] = functools.partial(page["serve"], host="127.0.0.1", port=0)

async def run(database, brokers, example):
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as pool:
        if example == "main":
            return await page["main"](pool, brokers)
        consumer = page["consumer"](pool, brokers)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        await consumer.run()

asyncio.run(run(*sys.argv[1:]))
"""


def test_the_pages_examples(kafka: Kafka, database: str, postgres: Postgres) -> None:
    postgres.sql("CREATE TABLE charges (order_id int)")
    try:
        for order, example in ((42, "main"), (44, "consumer")):
            producer = Producer({"bootstrap.servers": kafka.url})
            for number in (order, order, order + 1):
                headers: list[tuple[str, str | bytes | None]] = [("idempotency-key", f"e{number}")]
                producer.produce("order", f'{{"id": {number}}}', "42", headers=headers)
            assert producer.flush(20) == 0
            the_page(kafka, database, postgres, order, example)
        # what the outbox' page sends lies in the same topic, where its test was before this one
        charged = postgres.sql("SELECT order_id FROM charges WHERE order_id > 41 ORDER BY 1").split()
        assert charged == ["42", "43", "44", "45"]
    finally:
        postgres.sql("DROP TABLE charges")


def the_page(kafka: Kafka, database: str, postgres: Postgres, order: int, example: str) -> None:
    """Run one of its examples until it has handled the order and the one after it."""
    process = subprocess.Popen([sys.executable, "-c", PAGE, database, kafka.url, example], cwd=REPOSITORY)
    last = f"SELECT count(*) FROM charges WHERE order_id = {order + 1}"
    try:
        eventually(lambda: postgres.sql(last) == "1", within=40)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()


def with_repetitions(rng: random.Random) -> list[Sent]:
    """As an outbox' relay sends them that was killed: some messages come again, after later ones."""
    sent = numbered(COUNT, keys=KEYS)
    for _ in range(COUNT // 10):
        at = rng.randrange(COUNT // 2, len(sent))
        sent.insert(at, sent[rng.randrange(0, at)])
    return sent


def verdict(postgres: Postgres) -> str:
    """How many effects, how many different ones, and how many of them after a later one of their key."""
    before = "max(number) OVER (PARTITION BY name ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    return postgres.sql(
        "SELECT count(*), count(DISTINCT number), count(*) FILTER (WHERE number < before)"
        f" FROM (SELECT number, {before} AS before FROM effects) AS seen"
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("batch", ["1", "20"])
def test_whatever_is_killed_each_effect_takes_place_once_and_in_order(
    kafka: Kafka, postgres: Postgres, database: str, tmp_path: Path, batch: str
) -> None:
    rng = random.Random(11)
    topic, name = kafka.make_topic(f"crash-{group()}", partitions=4), group()
    words = (database, kafka.url, topic, name, batch)
    steady, moving = Process(tmp_path / "steady", *words, "steady"), Process(tmp_path / "moving", *words)

    def effects() -> int:
        return int(postgres.sql("SELECT count(DISTINCT number) FROM effects"))

    def produce() -> None:
        sent = with_repetitions(rng)
        for begin in range(0, len(sent), 50):
            send(kafka, topic, sent[begin : begin + 50])
            time.sleep(0.1)  # the pace of the load

    producing = threading.Thread(target=produce)
    producing.start()
    try:
        for kill in range(4):
            before = effects()
            eventually(lambda before=before: effects() > before + 20, within=40)
            time.sleep(rng.random() / 2)  # the point of the crash
            if kill == 2:
                moving.end(signal.SIGKILL)  # its partitions go to the other one, and come back
                moving.start()
            else:
                assert steady.end(signal.SIGKILL) == -signal.SIGKILL
                steady.start()
        producing.join()
        eventually(lambda: effects() == COUNT, within=60)
        assert verdict(postgres) == f"{COUNT}|{COUNT}|0"
        assert [one.end(signal.SIGTERM) for one in (steady, moving)] == [0, 0]
    finally:
        producing.join()
        steady.close()
        moving.close()


@pytest.mark.timeout(120)
def test_a_database_that_is_restarted_loses_and_repeats_nothing(kafka: Kafka, tmp_path: Path) -> None:
    """The database is one that keeps what it has acknowledged."""
    with contextlib.ExitStack() as stack:
        postgres = Postgres(synchronous_commit="on")
        stack.callback(postgres.close)
        assert main(["dedup", "install", "--database", postgres.url]) == 0
        postgres.sql("CREATE TABLE effects (id bigserial, name text, number int)")
        topic, name = kafka.make_topic(f"crash-{group()}", partitions=4), group()
        process = Process(tmp_path / "log", postgres.url, kafka.url, topic, name, "20")
        stack.callback(process.close)
        send(kafka, topic, numbered(1000, keys=KEYS))
        eventually(lambda: int(postgres.sql("SELECT count(*) FROM effects")) > 30, within=40)
        postgres.stop()
        postgres.start()
        send(kafka, topic, numbered(200, keys=KEYS, start=1000))

        def done() -> bool:
            assert verdict(postgres) == "1200|1200|0"
            return True

        eventually(done, within=40)
        assert process.end(signal.SIGTERM) == 0
        assert b"message set aside" not in (tmp_path / "log").read_bytes()
