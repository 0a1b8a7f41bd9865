"""Sends events to Kafka, a round at a time, and tells of each what became of it.

An idempotent producer (KIP-98) keeps the order of what it was given, across retries: the broker takes the batches of a
partition in sequence or not at all. Two things could still leave a gap, a later event of an aggregate in Kafka and an
earlier one not:

* A broker that refuses one batch for good, since it is larger than its topic allows say, and takes the next. With
  `enable.gapless.guarantee` the producer fails then, with all that it still holds.
* A message that runs out of time alone. So none does (`message.timeout.ms` is 0, without end): a round has a deadline,
  and when that is over the producer is thrown away with all that it holds.

A producer that failed, or was thrown away, is followed by a new one. What it had on its way may still arrive; that is
the beginning of what is sent again, so the order of first arrivals stands (see `nova_data.outbox.relay`).

Memory is bounded by the round: the producer is never given more.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from nova_data import kafka_settings
from nova_data.errors import KafkaUnavailableError, OutboxError
from nova_data.outbox.event import Event

_TICK: Final = 0.001
"""Seconds between looks for acknowledgements."""
_PROBE_TIMEOUT: Final = 5.0
_LAST_WORDS: Final = 1.0
"""Seconds for a producer that is thrown away to tell what it knows."""
_SILENT: Final = logging.getLogger("librdkafka")
_SILENT.disabled = True  # what it says comes as an error, too, and the relay tells it in its own words
OWN_FAULT: Final = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._INVALID_ARG,
    )
)
"""What an event, or the topic that it is for, is refused for, while others pass."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "linger.ms": 5,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # as Java's clients do, so that streams of one key can be joined
    "topic.metadata.propagation.max.ms": 2000,
    "reconnect.backoff.max.ms": 2000,
    "socket.timeout.ms": 10_000,
    "queue.buffering.max.messages": 100_000,
}
FIXED: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
}
"""What the order hangs on."""
_NAMESAKES: Final = frozenset(
    ("bootstrap.servers", "metadata.broker.list", "request.required.acks", "delivery.timeout.ms")
)
"""The brokers, and what librdkafka takes for the same as one of these."""

Outcome = KafkaError | None
"""None: Kafka has it, on every replica that is in sync."""


class Publisher:
    """A producer and its successors. `settings` are librdkafka's and may set anything but what keeps the order; `file`
    reads more of them, for each producer anew.

    Raises OutboxError for others.
    """

    def __init__(
        self,
        brokers: str,
        settings: Mapping[str, Any],
        *,
        name: str,
        file: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        _refuse_settled(settings)
        own = {"bootstrap.servers": brokers, "client.id": name, "logger": _SILENT, "error_cb": self._complained}
        self._settings = {**settings, **FIXED, **own}
        self._file = file
        self._producer: Producer | None = None
        self._broken = False
        self.complaint = ""
        """What the producer said last."""
        self.producers = 0
        """How many there were."""

    async def send(self, events: Sequence[Event], within: float) -> dict[int, Outcome]:
        """Send events in this order and wait for all, `within` seconds at most. By position; one that is missing was
        not acknowledged, whatever became of it. When an event is refused at once, later ones of its aggregate are not
        sent."""
        outcomes: dict[int, Outcome] = {}
        refused: set[tuple[str, str]] = set()
        producer = self.open()
        waiting = 0
        for event in events:
            if event.aggregate in refused:
                continue
            try:
                producer.produce(
                    event.topic,
                    event.content,
                    event.key,
                    headers=event.headers,
                    on_delivery=partial(_note, outcomes, event.position),
                )
            except BufferError:
                break
            except KafkaException as error:
                refused.add(event.aggregate)
                outcomes[event.position] = error.args[0]
            waiting += 1
        await self._acknowledged(producer, outcomes, waiting, within)
        return outcomes

    async def _acknowledged(self, producer: Producer, outcomes: dict[int, Outcome], count: int, within: float) -> None:
        deadline = time.monotonic() + within
        while len(outcomes) < count and not self._broken:
            self.look()
            if len(outcomes) < count and not self._broken:
                if time.monotonic() >= deadline:
                    break
                await asyncio.sleep(_TICK)
        if len(outcomes) < count or self._broken:
            await self.abandon()

    async def probe(self) -> None:
        """Ask Kafka for its brokers. Raises KafkaUnavailableError."""
        try:
            await asyncio.to_thread(self.open().list_topics, timeout=_PROBE_TIMEOUT)
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka does not answer: {error.args[0].name()}") from error

    async def abandon(self) -> None:
        """Throw the producer away, with what it holds; safe to call at any time."""
        producer, self._producer, self._broken = self._producer, None, False
        if producer is not None:
            await asyncio.to_thread(_end, producer)

    def look(self) -> None:
        """Let the producer speak, while nothing is sent."""
        try:
            if self._producer is not None:
                self._producer.poll(0)
        except KafkaException as error:  # it has failed for good
            self._complained(error.args[0])

    def open(self) -> Producer:
        """The producer; a new one where there is none. Raises OutboxError for settings that librdkafka refuses, and
        KafkaSettingsError for a file that cannot be read."""
        if self._producer is None:
            in_file = self._file()
            _refuse_settled(in_file)
            try:
                self._producer = Producer({**DEFAULTS, **in_file, **self._settings})
            except KafkaException as error:
                said = kafka_settings.without(error.args[0].str(), in_file)
                raise OutboxError(f"kafka: {said}") from None  # whose words may have a secret in them
            self.producers += 1
        return self._producer

    def _complained(self, error: KafkaError) -> None:
        self.complaint = error.name()
        self._broken = self._broken or error.fatal()

    def __repr__(self) -> str:
        return f"<Publisher producers={self.producers} complaint={self.complaint!r}>"


def own_fault(outcome: KafkaError) -> bool:
    """Whether an event was refused for what it is, or where it goes, so that trying for ever helps nobody."""
    return outcome.code() in OWN_FAULT


def _refuse_settled(settings: Mapping[str, Any]) -> None:
    if taken := settings.keys() & (FIXED.keys() | _NAMESAKES):
        raise OutboxError(f"kafka: {', '.join(sorted(taken))}: set by the relay itself")


def _note(outcomes: dict[int, Outcome], position: int, error: KafkaError | None, _message: Any) -> None:
    outcomes[position] = error


def _end(producer: Producer) -> None:
    with suppress(KafkaException):  # it may have failed for good
        producer.purge()
    with suppress(KafkaException):
        producer.flush(_LAST_WORDS)
    with suppress(KafkaException):
        producer.poll(0)
