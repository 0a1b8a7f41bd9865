"""A broker that is killed and started again under a consumer: nothing lost, nothing done twice, on within seconds."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_data.main import main
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .consuming import committed, group, numbered, send
from .test_consumer_crashes import KEYS, Process, verdict

GROUP = "effects"
SECONDS = 20.0
"""Within which a consumer goes on once the broker takes requests; most of it is for a machine that is busy."""


@pytest.fixture
def effects(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with the table of effects, and that of keys."""
    assert main(["dedup", "install", "--database", postgres.url]) == 0
    postgres.sql("CREATE TABLE effects (id bigserial, name text, number int)")
    yield postgres.url
    postgres.sql("DROP TABLE effects; DROP TABLE dedup_keys")


@contextlib.contextmanager
def at_work(effects: str, postgres: Postgres, log: Path) -> Iterator[tuple[Kafka, str, Process]]:
    """A broker of its own with a topic, and a consumer that has begun with its 300 messages."""
    with contextlib.ExitStack() as stack:
        broker = Kafka()
        stack.callback(broker.close)
        topic = broker.make_topic(f"broker-{group()}", partitions=4)
        process = Process(log, effects, broker.url, topic, GROUP, "1")
        stack.callback(process.close)
        send(broker, topic, numbered(300, keys=KEYS))
        eventually(lambda: done(postgres) > 20, within=40)
        yield broker, topic, process


def done(postgres: Postgres, number: int = 0) -> int:
    """Effects of this number and later ones."""
    return int(postgres.sql(f"SELECT count(*) FROM effects WHERE number >= {number}"))


@pytest.mark.timeout(180)  # a broker starts twice, on a machine that may be busy
def test_a_broker_that_is_restarted_under_a_consumer(effects: str, postgres: Postgres, tmp_path: Path) -> None:
    with at_work(effects, postgres, tmp_path / "log") as (broker, topic, process):
        broker.stop()  # in the middle of it, with messages in hand and offsets that are not committed
        assert done(postgres) < 300
        broker.start()
        send(broker, topic, numbered(100, keys=KEYS, start=300))
        eventually(lambda: done(postgres, 300) > 0, within=SECONDS)
        eventually(lambda: done(postgres) == 400, within=SECONDS)
        assert verdict(postgres) == "400|400|0"
        eventually(lambda: sum(committed(broker, topic, GROUP, 4)) == 400, within=20)
        assert process.end(signal.SIGTERM) == 0
        assert b"message set aside" not in (tmp_path / "log").read_bytes()


@pytest.mark.timeout(120)
def test_a_consumer_ends_while_its_broker_is_away(effects: str, postgres: Postgres, tmp_path: Path) -> None:
    """librdkafka would wait for the broker, for ever, to tell it of the last commit."""
    with at_work(effects, postgres, tmp_path / "log") as (broker, _, process):
        broker.stop()
        assert process.end(signal.SIGTERM) == 0
        assert verdict(postgres).endswith("|0")
