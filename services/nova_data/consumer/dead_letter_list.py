"""The dead letters of a topic as a list: read it, put messages back, drop them. For a person: `nova-data dead-letters`.

The topic is read from its beginning each time: the last record of a key counts, and an empty one is the end of it
(`nova_data.consumer.dead_letters`). A message is put back before its entry is ended; who is killed in between leaves an
entry whose message is in its topic again. Putting that back once more does no harm, since its idempotency key is the
same.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from nova_data import kafka_settings
from nova_data.consumer import dead_letters as letters
from nova_data.consumer.message import Headers
from nova_data.errors import ConsumerError, KafkaUnavailableError
from nova_data.headers import CORRELATION_ID, IDEMPOTENCY_KEY

TIMEOUT: Final = 60.0
"""Seconds for reading a whole topic."""


@dataclass(frozen=True)
class DeadLetter:
    """An entry; `id` is topic/partition/offset of where it came from."""

    id: str
    value: bytes | None
    headers: Headers

    def told(self, name: str) -> str:
        """A header as text, empty where there is none."""
        found = [value for header, value in self.headers if header == name and value is not None]
        return found[-1].decode("utf-8", "replace") if found else ""

    @property
    def key(self) -> bytes | None:
        """The message's own."""
        found = [value for header, value in self.headers if header == letters.KEY]
        return found[-1] if found else None

    def shown(self) -> dict[str, Any]:
        """What may be shown of it: not its value."""
        return {
            "id": self.id,
            "group": self.told(letters.GROUP),
            "reason": self.told(letters.REASON),
            "error": self.told(letters.ERROR),
            "attempts": int(self.told(letters.ATTEMPTS) or 0),
            "at": float(self.told(letters.AT) or 0),
            "idempotencyKey": self.told(IDEMPOTENCY_KEY),
            "correlationId": self.told(CORRELATION_ID),
            "replayed": int(self.told(letters.REPLAYED) or 0),
        }

    def restored(self) -> tuple[bytes | None, bytes | None, Headers]:
        """Key, value and headers of the message as it was, and how often it was put back."""
        kept = [(name, value) for name, value in self.headers if name not in (*letters.HEADERS, letters.REPLAYED)]
        count = int(self.told(letters.REPLAYED) or 0) + 1
        value = None if self.told(letters.NULL) else self.value
        return self.key, value, [*kept, (letters.REPLAYED, str(count).encode())]


class DeadLetterList:
    """Those of one topic, which is named without the suffix. `settings` are librdkafka's."""

    def __init__(self, brokers: str, topic: str, settings: Mapping[str, Any] | None = None) -> None:
        self._topic = topic
        self._dead = letters.topic_of(topic)
        self._settings = {**(settings or {}), "bootstrap.servers": brokers, "log_level": 0}
        self._producer: Producer | None = None

    def read(self) -> dict[str, DeadLetter]:
        """All entries by id, oldest first. Raises ConsumerError where there is no such topic, and for settings that
        Kafka's client does not take; KafkaUnavailableError."""
        try:
            client = Consumer({**self._settings, "group.id": "nova-dead-letters", "enable.partition.eof": True})
        except KafkaException as error:
            texts = {name: value for name, value in self._settings.items() if isinstance(value, str)}
            said = kafka_settings.without(error.args[0].str(), texts)
            raise ConsumerError(f"kafka: {said}") from None  # whose words may have a secret in them
        try:
            return self._read(client)
        except KafkaException as error:
            raise KafkaUnavailableError(f"dead letters: Kafka does not answer: {error.args[0].name()}") from error
        finally:
            client.close()

    def replay(self, ids: Collection[str] | None, *, to: str | None = None) -> list[str]:
        """Put messages back into their topic, or into another one, and end their entries; ids None: all. The ids of
        those that were. Raises ConsumerError, KafkaUnavailableError."""
        chosen = self._chosen(ids)
        for letter in chosen:
            key, value, headers = letter.restored()
            partition = -1 if to else int(letter.told(letters.PARTITION) or -1)  # whatever partitioner its sender has
            self._send(to or letter.told(letters.TOPIC) or self._topic, key, value, headers, partition)
            self._send(self._dead, letter.id.encode(), None, [])
        return [letter.id for letter in chosen]

    def drop(self, ids: Collection[str] | None) -> list[DeadLetter]:
        """End entries for good; those that were. Raises ConsumerError, KafkaUnavailableError."""
        chosen = self._chosen(ids)
        for letter in chosen:
            self._send(self._dead, letter.id.encode(), None, [])
        return chosen

    def _chosen(self, ids: Collection[str] | None) -> list[DeadLetter]:
        there = self.read()
        if ids is None:
            return list(there.values())
        unknown = [one for one in ids if one not in there]
        if unknown:
            raise ConsumerError(f"dead letters: {unknown[0]} is none of {self._topic}; nothing was changed")
        return [there[one] for one in dict.fromkeys(ids)]

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int = -1) -> None:
        if self._producer is None:
            self._producer = letters.producer(self._settings)
        try:
            letters.send(self._producer, topic, key=key, value=value, headers=headers, partition=partition)
        except KafkaException as error:
            raise KafkaUnavailableError(f"dead letters: {topic}: {error.args[0].name()}") from error

    def _read(self, client: Consumer) -> dict[str, DeadLetter]:
        parts = client.list_topics(self._dead, timeout=letters.TIMEOUT).topics[self._dead]
        if parts.error is not None:
            if parts.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ConsumerError(f"dead letters: {self._topic} has none, there is no topic {self._dead}")
            raise KafkaException(parts.error)
        open_parts = set(parts.partitions)
        client.assign([TopicPartition(self._dead, number, 0) for number in open_parts])
        found: dict[str, DeadLetter] = {}
        deadline = time.monotonic() + TIMEOUT
        while open_parts:
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            record = client.poll(0.5)
            if record is None:
                continue
            error = record.error()
            if error is None:
                _note(found, record)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_parts.discard(record.partition() or 0)
            elif not error.retriable():
                raise KafkaException(error)
        return found

    def __repr__(self) -> str:
        return f"<DeadLetterList {self._topic}>"


def _note(found: dict[str, DeadLetter], record: Any) -> None:
    identity = (record.key() or b"").decode("utf-8", "replace")
    if record.value() is None:
        found.pop(identity, None)
    else:
        found[identity] = DeadLetter(identity, record.value(), [*(record.headers() or [])])
