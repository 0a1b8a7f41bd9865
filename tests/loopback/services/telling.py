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
        self.prefix = f"{prefix}-{os.getpid()}."
        self.url = kafka.url
        for name in names:
            kafka.make_topic(self.prefix + name)
        self._producer = Producer({"bootstrap.servers": kafka.url, "enable.idempotence": True})

    def tell(
        self, topic: str, kind: str, payload: Mapping[str, Any] | str, *, event: str = "", correlation: str = ""
    ) -> str:
        """Send an event and wait until it is there; returns its id. A payload that is text is sent as it is."""
        identity = event or str(uuid.uuid4())
        headers = {"event-type": kind, "idempotency-key": identity, "correlation-id": correlation or identity}
        value = payload if isinstance(payload, str) else json.dumps(payload)
        self._producer.produce(self.prefix + topic, value, identity, headers=list(headers.items()))
        assert self._producer.flush(20) == 0
        return identity

    def words(self) -> tuple[str, ...]:
        """What a service is told of them."""
        return ("--brokers", self.url, "--topic-prefix", self.prefix)
