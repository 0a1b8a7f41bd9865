"""Events for services that consume, as an outbox's relay sends them."""

import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Producer

from tests.loopback.support.kafkaserver import Server as Kafka


class Topics:
    """Topics of a test module alone: `prefix` is what services are told, the names are without it."""

    def __init__(self, kafka: Kafka, prefix: str, *names: str) -> None:
        self.prefix = f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:8]}."
        self.url = kafka.url
        kafka.make_topics(*(self.prefix + name for name in names), partitions=2)
        self._producer = producer(kafka)

    def tell(
        self,
        topic: str,
        kind: str,
        payload: Mapping[str, Any] | str,
        *,
        key: object = "",
        event: str = "",
        correlation: str = "",
    ) -> str:
        """Send an event and wait until it is there; returns its id, which is its key and its correlation id, too, where
        there is none. A payload that is text is sent as it is."""
        event = event or str(uuid.uuid4())
        send(self._producer, self.prefix + topic, kind, payload, key=key, event=event, correlation=correlation)
        return event

    def words(self) -> tuple[str, ...]:
        """What a service is told of them."""
        return ("--brokers", self.url, "--topic-prefix", self.prefix)


def producer(kafka: Kafka) -> Producer:
    """A client as a relay has it."""
    return Producer({"bootstrap.servers": kafka.url, "enable.idempotence": True})


def send(
    client: Producer,
    topic: str,
    kind: str,
    payload: Mapping[str, Any] | str,
    *,
    event: str,
    key: object = "",
    correlation: str = "",
) -> None:
    """Send an event to a topic by its whole name, and wait until it is there."""
    headers = {"event-type": kind, "idempotency-key": event, "correlation-id": correlation or event}
    value = payload if isinstance(payload, str) else json.dumps(payload)
    client.produce(topic, value, str(key or event), headers=list(headers.items()))
    assert client.flush(20) == 0
