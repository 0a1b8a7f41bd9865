"""Looks for messages in Kafka, for the demo and the end-to-end tests; results are JSON on standard output.

It reads topics from their beginning, is no member of any group, and commits nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

_ASKED_AGAIN = 0.2
_PATIENCE = 20.0


def find(brokers: str, topics: Sequence[str], *, containing: str, count: int, within: float) -> list[dict[str, Any]]:
    """The first `count` messages that have the text `containing` in value or headers, or those that were found when
    `within` seconds are over. Raises KafkaException where there is no Kafka."""
    settings = {"bootstrap.servers": brokers, "group.id": "nova-topics", "enable.auto.commit": False}
    client = Consumer(settings)
    try:
        client.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in _places(client, topics)])
        return list(_matching(client, containing, count, time.monotonic() + within))
    finally:
        client.close()


def _places(client: Consumer, topics: Sequence[str]) -> Iterator[tuple[str, int]]:
    there = client.list_topics(timeout=_PATIENCE).topics
    for topic in topics:
        if topic in there:
            yield from ((topic, number) for number in there[topic].partitions)


def _matching(client: Consumer, containing: str, count: int, deadline: float) -> Iterator[dict[str, Any]]:
    found = 0
    while found < count and time.monotonic() < deadline:
        record = client.poll(_ASKED_AGAIN)
        if record is None or record.error() is not None:
            continue
        message = _readable(record)
        if containing in message["value"] or containing in message["headers"].values():
            found += 1
            yield message


def _readable(record: Any) -> dict[str, Any]:
    return {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "time": record.timestamp()[1] / 1000,
        "key": _text(record.key()),
        "headers": {name: _text(value) for name, value in record.headers() or ()},
        "value": _text(record.value()),
    }


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0, whatever was found."""
    parser = argparse.ArgumentParser(
        prog="python -m nova_services.topics", description="Look for messages in Kafka's topics, from their beginning."
    )
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("--brokers", required=True, metavar="HOST:PORT,…")
    parser.add_argument("--containing", required=True, metavar="TEXT", help="in the value, or the value of a header")
    parser.add_argument("--count", type=int, default=1, help="messages that suffice (default %(default)s)")
    parser.add_argument("--within", type=float, default=15.0, metavar="SECONDS", help="default %(default)s")
    given = parser.parse_args(argv)
    found = find(given.brokers, given.topics, containing=given.containing, count=given.count, within=given.within)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
