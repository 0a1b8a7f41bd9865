"""Messages that cannot be handled, in a topic of their own beside the one they came from.

They lie in `<topic>.dead-letters`, one partition, compacted, under a key that says where each came from:
`orders/3/1234`. That makes of a log a list: a message that is set aside twice, since a crash came in between, is there
once; one that was replayed or dropped is followed by an empty record of the same key (a tombstone), and is gone from
the list at once and from the disk when Kafka compacts. Nothing in it grows old: a person decides.

The value is the message's own. Its headers come first, as they were, and then those of `HEADERS`; who replays it takes
these off again and puts the message back into its topic under its own key. Its idempotency key is the same as before,
so an effect that did take place does not take place again.

What an exception says may tell what nobody should read, so only a cleaned line of it is kept (`nova_api.hygiene`).

https://kafka.apache.org/documentation/#compaction
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from nova_api.hygiene import clean
from nova_data.consumer.message import Headers, Message
from nova_data.errors import KafkaUnavailableError
from nova_data.headers import IDEMPOTENCY_KEY

Reason = Literal["rejected", "exhausted"]
REASONS: Final[tuple[Reason, ...]] = ("rejected", "exhausted")
"""The handler said so, or failed once too often."""
SUFFIX: Final = ".dead-letters"
PREFIX: Final = "nova-dead-letter-"
REASON: Final = f"{PREFIX}reason"
ERROR: Final = f"{PREFIX}error"
ATTEMPTS: Final = f"{PREFIX}attempts"
GROUP: Final = f"{PREFIX}group"
TOPIC: Final = f"{PREFIX}topic"
PARTITION: Final = f"{PREFIX}partition"
OFFSET: Final = f"{PREFIX}offset"
KEY: Final = f"{PREFIX}key"
"""The message's own; not there where it had none."""
NULL: Final = f"{PREFIX}null"
"""There where the message had no value, not even an empty one."""
AT: Final = f"{PREFIX}at"
"""When it was set aside, in seconds since 1970."""
REPLAYED: Final = "nova-replayed"
"""On a message that was put back: how often."""
HEADERS: Final = (REASON, ERROR, ATTEMPTS, GROUP, TOPIC, PARTITION, OFFSET, KEY, NULL, AT)
TIMEOUT: Final = 15.0
"""Seconds until Kafka has it."""
LONGEST_ERROR: Final = 300
LARGEST: Final = 1_000_000_000
"""Bytes: what has come from a topic must fit here, with some headers more, whatever that topic takes. librdkafka's own
bound, as nothing else is meant to stop a message."""
_TOPIC_SETTINGS: Final = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "86400000",
    "max.message.bytes": str(LARGEST),
}


def topic_of(topic: str) -> str:
    """The topic with the dead letters of another one."""
    return topic + SUFFIX


def headers(
    message: Message, *, group: str, reason: Reason, error: BaseException | None, attempts: int, now: float
) -> Headers:
    """Those of a dead letter; `now` in seconds since 1970."""
    said = f"{type(error).__name__}: {error}" if error is not None and str(error) else type(error).__name__
    own: dict[str, str] = {
        REASON: reason,
        ERROR: clean(said.partition("\n")[0], LONGEST_ERROR),
        ATTEMPTS: str(attempts),
        GROUP: group,
        TOPIC: message.topic,
        PARTITION: str(message.partition),
        OFFSET: str(message.offset),
        AT: f"{now:.3f}",
    }
    kept = [(name, value) for name, value in message.headers if name not in HEADERS]
    if message.header(IDEMPOTENCY_KEY) is None:
        kept.append((IDEMPOTENCY_KEY, message.idempotency_key.encode()))  # its position will be another one
    if message.value is None:
        own[NULL] = "true"
    key = [(KEY, message.key)] if message.key is not None else []
    return [*kept, *((name, value.encode()) for name, value in own.items()), *key]


class DeadLetters:
    """Where one consumer group sets messages aside. `settings` are librdkafka's, for safety and addresses."""

    def __init__(self, brokers: str, *, group: str, settings: Mapping[str, Any] | None = None) -> None:
        self._group = group
        self._settings = {**(settings or {}), "bootstrap.servers": brokers, "log_level": 0}
        self._producer: Producer | None = None
        self._made: set[str] = set()

    async def add(self, message: Message, *, reason: Reason, error: BaseException | None, attempts: int) -> None:
        """Set it aside; returns when Kafka has it. Raises KafkaUnavailableError."""
        told = headers(message, group=self._group, reason=reason, error=error, attempts=attempts, now=time.time())
        if self._producer is None:
            self._producer = producer(self._settings)
        await asyncio.to_thread(self._send, self._producer, message, told)

    def _send(self, through: Producer, message: Message, told: Headers) -> None:
        target = topic_of(message.topic)
        try:
            if target not in self._made:
                make_topic(self._settings, target)
                self._made.add(target)
            send(through, target, key=message.position.encode(), value=message.value or b"", headers=told)
        except KafkaException as failure:
            raise KafkaUnavailableError(f"dead letters: {failure.args[0].name()}") from failure

    def __repr__(self) -> str:
        return f"<DeadLetters {self._group}>"


def producer(settings: Mapping[str, Any]) -> Producer:
    """One that says for each message whether every replica in sync has it."""
    return Producer(
        {
            **settings,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.max.bytes": LARGEST,
            "message.timeout.ms": int(TIMEOUT * 1000),
            "partitioner": "murmur2_random",  # as Java's clients and the relay do
        }
    )


def send(
    through: Producer, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int = -1
) -> None:
    """Send a message and wait until Kafka has it. Raises KafkaException."""
    outcomes: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _message: Any) -> None:
        outcomes.append(error)

    through.produce(topic, value, key, partition, headers=[*headers], on_delivery=delivered)
    deadline = time.monotonic() + TIMEOUT + 1
    while not outcomes:
        through.poll(0.05)
        if time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    if (failure := outcomes[0]) is not None:
        raise KafkaException(failure)


def make_topic(settings: Mapping[str, Any], name: str, *, replicas: int = -1) -> None:
    """Make a topic of dead letters unless it is there; `replicas` -1: as many as the brokers make by themselves. Raises
    KafkaException."""
    admin = AdminClient(dict(settings))
    new = NewTopic(name, 1, replicas, config=_TOPIC_SETTINGS)
    try:
        admin.create_topics([new], request_timeout=TIMEOUT)[name].result(timeout=TIMEOUT + 1)
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
