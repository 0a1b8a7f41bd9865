"""The thread that speaks with Kafka: takes messages, pauses partitions, commits offsets, and gives partitions back.

librdkafka's consumer waits in its calls, and calls back from within them; so it has a thread of its own, which alone
uses it. It hands messages over to the event loop in the order in which they came, and shares one object per partition
with it (`flow.Intake`): each side writes its own numbers, and numbers are all there is.

A rebalance. Assignment is cooperative (KIP-429): partitions that stay are not interrupted. One that is to go is given
back in the callback, in this order:

1. What was taken from it goes over to the loop, so that nothing of it comes later.
2. The loop begins nothing more of it, lets what is under way come to its end within `revoke_timeout`, and what lies
   before it too, so that nothing is done beyond what is committed; the rest it breaks off. The callback waits for that;
   other partitions go on being handled, and heartbeats are sent by a thread of librdkafka's.
3. What is done is committed, and Kafka has answered.
4. Only then is the partition let go, and another member begins at that offset.

A partition that was lost (this process was away for longer than its session) belongs to somebody else already: what is
under way is broken off at once, and nothing is committed. That other one may handle the same messages meanwhile, which
`nova_data.dedup` makes up for.

Commits follow effects: every `commit_every` seconds and at the end, the number up to which all is done (`ledger`).
A commit that fails is made good by the next one.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any, Final, Protocol

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from nova_data.consumer.flow import Flow, Intake
from nova_data.consumer.message import Message

Place = tuple[str, int]
"""Topic and partition."""

BATCH: Final = 500
"""Messages that are handed over in one go at most."""
_WAIT: Final = 0.1
_WAIT_PAUSED: Final = 0.01
"""Seconds to wait for a message; while something is paused, and may be resumed soon, less."""
_DEFAULTS: Final = {
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
    "queued.min.messages": 1_000,
    "queued.max.messages.kbytes": 8_192,
    "reconnect.backoff.max.ms": 2_000,
    "topic.metadata.refresh.interval.ms": 30_000,
    "statistics.interval.ms": 2_000,
}


class Loop(Protocol):
    """What the reader needs of the event loop. Called from its thread; `leave` waits for the answer."""

    def assigned(self, intakes: Mapping[Place, Intake]) -> None:
        """These partitions are ours from now on."""

    def take(self, messages: Mapping[Place, list[Message]]) -> None:
        """Messages came."""

    def leave(self, places: Sequence[Place], *, lost: bool) -> dict[Place, int]:
        """These are to go; what may be committed of them."""

    def complained(self, error: KafkaError) -> None:
        """Kafka's client said something."""

    def ended(self, error: BaseException | None) -> None:
        """The thread is over."""


class Reader(Thread):
    """See the module. `settings` are librdkafka's; who commits, and how partitions are assigned, is settled.
    `commit_every` is in seconds. Raises KafkaException for settings that are none."""

    def __init__(
        self,
        loop: Loop,
        *,
        brokers: str,
        group: str,
        topics: Sequence[str],
        flow: Flow,
        settings: Mapping[str, Any],
        commit_every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=f"kafka-reader-{group}", daemon=True)
        self._loop = loop
        self._topics = list(topics)
        self._flow = flow
        self._commit_every = commit_every
        self._clock = clock
        self._client = Client(
            {
                **_DEFAULTS,
                "log_level": 0,
                **settings,
                "bootstrap.servers": brokers,
                "group.id": group,
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "error_cb": loop.complained,
                "on_commit": self._committed,
                "stats_cb": self._statistics,
            }
        )
        self._intakes: dict[Place, Intake] = {}
        self._batch: dict[Place, list[Message]] = {}
        self._told: dict[Place, tuple[int, int]] = {}
        """End and committed offset of each partition, some seconds old."""
        self._commit_at = clock()
        self.ending = False
        """Set from outside: give everything back and leave."""
        self.turned = clock()
        """The last instant at which Kafka was asked for something."""
        self.rebalances = 0
        self.failed_commits = 0

    def run(self) -> None:
        """The thread."""
        failure: BaseException | None = None
        try:
            self._client.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
            while not self.ending:
                self.turned = self._clock()
                self._steer()
                self._read()
                self._commit()
        except BaseException as error:  # the loop is told, and raises it
            failure = error
        try:
            self._give_back(list(self._intakes), lost=False)
            self._client.close()
        except (KafkaException, RuntimeError) as error:
            failure = failure or error
        self._loop.ended(failure)

    def lag(self) -> dict[Place, int]:
        """Messages of each partition that are not done, as far as Kafka has told of them."""
        found = {}
        for place, intake in tuple(self._intakes.items()):
            end, begin = self._told.get(place, (-1, -1))
            position = begin if intake.position is None else intake.position
            if end >= 0 and position >= 0:
                found[place] = max(0, end - position)
        return found

    def _statistics(self, text: str) -> None:
        """https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md"""
        topics: dict[str, dict[str, dict[str, Any]]] = json.loads(text)["topics"]
        self._told = {
            (topic, int(number)): (one["hi_offset"], one["committed_offset"])
            for topic, found in topics.items()
            for number, one in found["partitions"].items()
        }

    # --- taking

    def _read(self) -> None:
        paused = any(intake.paused for intake in self._intakes.values())
        message = self._client.poll(_WAIT_PAUSED if paused else _WAIT)
        for _ in range(BATCH):
            if message is None:
                break
            self._took(message)
            message = self._client.poll(0)
        else:
            if message is not None:
                self._took(message)
        self._hand_over()

    def _took(self, record: Any) -> None:
        error = record.error()
        if error is not None:
            self._loop.complained(error)
            if error.fatal():
                raise KafkaException(error)
            return
        place = (record.topic(), record.partition())
        intake = self._intakes.get(place)
        if intake is None:
            return
        intake.taken += 1
        self._batch.setdefault(place, []).append(_message(record))
        if self._flow.full(intake, len(self._intakes)):
            self._steer()

    def _hand_over(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, {}
            self._loop.take(batch)

    def _steer(self) -> None:
        by_intake = {id(intake): place for place, intake in self._intakes.items()}
        pause, resume = self._flow.turns(self._intakes.values())
        if pause:
            self._client.pause([TopicPartition(*by_intake[id(one)]) for one in pause])
        if resume:
            self._client.resume([TopicPartition(*by_intake[id(one)]) for one in resume])

    # --- committing

    def _commit(self) -> None:
        if self._clock() < self._commit_at:
            return
        self._commit_at = self._clock() + self._commit_every
        offsets = self._due(self._intakes)
        if offsets:
            self._client.commit(offsets=offsets, asynchronous=True)

    def _due(self, places: Mapping[Place, Intake] | Sequence[Place]) -> list[TopicPartition]:
        """What was done since the last commit."""
        due = []
        for place in places:
            intake = self._intakes[place]
            position = intake.position
            if position is not None and position != intake.committed:
                intake.committed = position
                due.append(TopicPartition(*place, position))
        return due

    def _committed(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        if error is None or error.code() == KafkaError._NO_OFFSET:
            return
        self.failed_commits += 1
        for each in offsets:
            intake = self._intakes.get((each.topic, each.partition))
            if intake is not None:
                intake.committed = None

    # --- rebalances

    def _assign(self, client: Client, partitions: list[TopicPartition]) -> None:
        self.rebalances += 1
        self._hand_over()
        new = {(each.topic, each.partition): Intake() for each in partitions}
        self._intakes.update(new)
        self._loop.assigned(new)
        client.incremental_assign(partitions)
        client.resume(partitions)  # one that was paused when it went is still paused when it comes back
        self._steer()

    def _revoke(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._give_back([(each.topic, each.partition) for each in partitions], lost=False)
        client.incremental_unassign(partitions)

    def _lose(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._give_back([(each.topic, each.partition) for each in partitions], lost=True)
        client.incremental_unassign(partitions)

    def _give_back(self, places: list[Place], *, lost: bool) -> None:
        places = [place for place in places if place in self._intakes]
        if not places:
            return
        self.rebalances += 1
        self._hand_over()
        positions = self._loop.leave(places, lost=lost)
        offsets = [TopicPartition(*place, position) for place, position in positions.items()]
        for place in places:
            del self._intakes[place]
        if offsets and not lost:
            try:
                self._client.commit(offsets=offsets, asynchronous=False)
            except KafkaException:
                self.failed_commits += 1  # they come again, and are known

    def __repr__(self) -> str:
        return f"<Reader {sorted(self._intakes.items())!r} {self._flow!r}>"


def _message(record: Any) -> Message:
    return Message(
        record.topic(),
        record.partition(),
        record.offset(),
        key=record.key(),
        value=record.value(),
        headers=record.headers(),
        timestamp=record.timestamp()[1] / 1000,
    )
