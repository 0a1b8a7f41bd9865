"""Events as a relay sends them, for services that consume."""

import json
import uuid
from typing import Any

from confluent_kafka import Producer

from tests.loopback.support.kafkaserver import Server as Kafka


class Topics:
    """The topics of one backend, under names that no other test has."""

    def __init__(self, kafka: Kafka, *names: str) -> None:
        self._kafka = kafka
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        kafka.make_topics(*(self.prefix + name for name in names), partitions=2)
        self._producer = Producer({"bootstrap.servers": kafka.url, "enable.idempotence": True})

    @property
    def words(self) -> tuple[str, ...]:
        """For the command line of a service."""
        return ("--brokers", self._kafka.url, "--topic-prefix", self.prefix)

    def send(self, topic: str, kind: str, key: object, payload: dict[str, Any], *, event: str | None = None) -> str:
        """An event, which is in the topic when this returns; its correlation id, the same as its idempotency key."""
        identity = event or str(uuid.uuid4())
        headers = {"event-type": kind, "idempotency-key": identity, "correlation-id": identity}
        self._producer.produce(self.prefix + topic, json.dumps(payload), str(key), headers=list(headers.items()))
        assert self._producer.flush(20) == 0
        return identity
