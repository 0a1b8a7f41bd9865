"""Messages are found by what they say, in whatever partition they lie, and read without being taken from anybody."""

import json
import uuid

from confluent_kafka import Producer

from nova_services import topics
from tests.loopback.support.kafkaserver import Server as Kafka


def test_a_message_is_found_by_its_value_or_a_header(kafka: Kafka) -> None:
    topic, wanted = kafka.make_topic(f"found-{uuid.uuid4().hex[:8]}"), str(uuid.uuid4())
    producer = Producer({"bootstrap.servers": kafka.url})
    for number in range(8):
        producer.produce(topic, json.dumps({"number": number}), f"k{number}", headers={"correlation-id": f"c{number}"})
    producer.produce(topic, json.dumps({"user": wanted}), "a", headers={"event-type": "user-registered"})
    producer.produce(topic, "{}", "b", headers={"correlation-id": wanted})
    assert producer.flush(10) == 0

    found = topics.find(kafka.url, [topic, "none-such"], containing=wanted, count=2, within=10)

    assert {one["key"] for one in found} == {"a", "b"}
    (told,) = [one for one in found if one["key"] == "a"]
    assert told["headers"] == {"event-type": "user-registered"}
    assert topics.find(kafka.url, [topic], containing="not there", count=1, within=0.5) == []
