"""A consumer of a group: `run` until `stop`.

    async def handle(message):
        order = message.json()
        return await keys.once(message.idempotency_key, lambda connection: charge(connection, order))

    consumer = Consumer(["orders"], group="billing", handler=handle, brokers="kafka:9092")
    await consumer.run()

Two threads: the reader's (`reader`), and the event loop's, on which handlers run. Whatever goes from one to the other
does so in this file.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from random import Random
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from nova_data.backoff import Backoff
from nova_data.consumer.batches import BatchHandler, alone
from nova_data.consumer.dead_letters import SUFFIX, DeadLetters
from nova_data.consumer.flow import Flow, Intake
from nova_data.consumer.handling import PAUSE_ON, Handler, Handling
from nova_data.consumer.lanes import UNWIND, Lanes
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.consumer.outage import Outage
from nova_data.consumer.reader import Place, Reader
from nova_data.errors import ConsumerError
from nova_data.logs import get_logger

LANES: Final = 16
BATCH: Final = 100
LANES_OF_BATCHES: Final = 4
"""Fewer of them, so that there is something in each."""
_LARGEST_BATCH: Final = 1000
"""Each key has a lock while its transaction lasts, and PostgreSQL has room for a bounded number of them."""
RETRY: Final = Backoff(base=0.2, longest=10.0, attempts=5)
LONGEST_SILENCE: Final = 30.0
"""Seconds without a turn of the reader after which the consumer counts as stuck; a rebalance takes its time."""
_SHOW_EVERY: Final = 1.0
_COMPLAIN_EVERY: Final = 60.0
_SPARE: Final = 5.0
"""Seconds that the reader waits for the loop beyond what the loop may take."""
_FAREWELL: Final = 5.0
"""Seconds that Kafka has for the last commit and for our leave: librdkafka waits for a broker that is gone for ever."""


class Consumer:
    """See the module. Times in seconds.

    It has a `handler` for single messages, or a `batch_handler` that is given those that wait in a lane in one call
    (`batches`), `batch` at most, 1 to 1000; a message that is handled alone is a list of one to it.

    `lanes` is how many keys of a partition are handled side by side, `slots` how many messages of all, and `in_hand`
    how many are in memory at most. An attempt has `timeout`; what fails is tried again as `retry` says, and then set
    aside. Exceptions of `pause_on` are outages. Handlers that run when a partition goes have `revoke_timeout`, those at
    the end `drain_timeout`. `kafka` are further settings of librdkafka. Raises ConsumerError.
    """

    def __init__(
        self,
        topics: Sequence[str],
        *,
        group: str,
        brokers: str,
        handler: Handler | None = None,
        batch_handler: BatchHandler | None = None,
        batch: int = BATCH,
        lanes: int | None = None,
        slots: int = 32,
        in_hand: int = 1000,
        timeout: float = 30.0,
        retry: Backoff = RETRY,
        pause_on: tuple[type[BaseException], ...] = PAUSE_ON,
        commit_every: float = 0.5,
        revoke_timeout: float = 10.0,
        drain_timeout: float = 20.0,
        kafka: Mapping[str, Any] | None = None,
        metrics: ConsumerMetrics | None = None,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if lanes is None:
            lanes = LANES if batch_handler is None else LANES_OF_BATCHES
        handler = _one_of(handler, batch_handler)
        _check(topics, group, batch=batch, lanes=lanes, slots=slots, in_hand=in_hand)
        _check_times(
            timeout=timeout, commit_every=commit_every, revoke_timeout=revoke_timeout, drain_timeout=drain_timeout
        )
        # for its life
        self._topics = list(topics)
        self.group = group
        self._brokers = brokers
        self._lane_count = lanes
        self._commit_every = commit_every
        self._revoke_timeout = revoke_timeout
        self._drain_timeout = drain_timeout
        self._kafka = dict(kafka or {})
        self._metrics = metrics or ConsumerMetrics()
        self._clock = clock
        self._flow = Flow(in_hand)
        rng = rng or Random()  # noqa: S311 - spreads retries, guards nothing
        self._handling = Handling(
            handler,
            slots=slots,
            timeout=timeout,
            retry=retry,
            pause_on=pause_on,
            outage=Outage(rng),
            dead_letters=DeadLetters(brokers, group=group, settings=self._kafka_for_producers()),
            metrics=self._metrics,
            rng=rng,
            turned=self._turned,
            clock=clock,
        )
        self._batches = None if batch_handler is None or batch == 1 else self._handling.batches(batch_handler, batch)
        self._metrics.add(self._topics)

        # while it runs
        self._reader: Reader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Future[None] | None = None
        self._stopping = False
        self._farewell: asyncio.TimerHandle | None = None
        self._complaints: dict[str, float] = {}
        """When each may be told of again."""
        self._looped = clock()
        """The last instant at which the event loop was seen to turn."""

        # while partitions are assigned
        self._lanes: dict[Place, Lanes] = {}
        self._intakes: dict[Place, Intake] = {}

    async def run(self) -> None:
        """Consume until `stop`, then let what is under way come to its end, commit, and leave the group.

        Raises ConsumerError for settings that Kafka's client does not take, and for what it cannot recover from.
        """
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.create_future()
        try:
            self._reader = Reader(
                _Bridge(self, self._loop),
                brokers=self._brokers,
                group=self.group,
                topics=self._topics,
                flow=self._flow,
                settings=self._kafka,
                commit_every=self._commit_every,
                clock=self._clock,
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise ConsumerError(f"kafka: {_said(error)}") from error
        self._reader.start()
        if self._stopping:
            self.stop()
        get_logger().info("consumer started", group=self.group, topics=self._topics)
        showing = self._loop.create_task(self._show())
        try:
            await asyncio.shield(self._end)
        except asyncio.CancelledError:
            self.stop()
            await self._end
            raise
        except (KafkaException, RuntimeError) as error:
            raise ConsumerError(f"kafka: {_said(error)}") from error
        finally:
            showing.cancel()
            if self._farewell is not None:
                self._farewell.cancel()
            self._shown()
            get_logger().info("consumer ended", group=self.group)

    def stop(self) -> None:
        """Take nothing more, and come to an end. From the event loop's thread, as a signal's handler say.

        Where Kafka is away, what was not committed comes again, to whoever is next.
        """
        self._stopping = True
        if self._reader is not None:
            self._reader.ending = True
            self._part()

    def health(self) -> dict[str, Any]:
        """For /healthz: `status` is `ok` while Kafka is asked and handlers get on, or wait for a reason."""
        reader = self._reader
        turned = min(reader.turned, self._looped) if reader is not None and reader.is_alive() else None
        silent = None if turned is None else self._clock() - turned
        state = "ok" if silent is not None and silent < LONGEST_SILENCE + self._revoke_timeout else "stuck"
        return {
            "status": "ending" if self._stopping else state,
            "group": self.group,
            "assigned": len(self._intakes),
            "inHand": sum(intake.in_hand for intake in tuple(self._intakes.values())),
            "breaker": self._handling.outage.breaker.state,
        }

    # --- from the reader, on the loop

    def assigned(self, intakes: Mapping[Place, Intake]) -> None:
        """These partitions are ours from now on."""
        for place, intake in intakes.items():
            self._intakes[place] = intake
            self._lanes[place] = Lanes(intake, self._lane_count, self._handling.handle, self._broken, self._batches)
        get_logger().info("partitions assigned", partitions=_named(intakes), assigned=len(self._intakes))

    def take(self, messages: Mapping[Place, list[Message]]) -> None:
        """Messages came."""
        for place, some in messages.items():
            if (lanes := self._lanes.get(place)) is not None:
                lanes.give(some)

    async def leave(self, places: Sequence[Place], *, lost: bool) -> dict[Place, int]:
        """These partitions are to go; what may be committed of them."""
        why = "lost" if lost else "ending" if self._stopping else "rebalance"
        patience = 0.0 if lost else self._drain_timeout if self._stopping else self._revoke_timeout
        if self._stopping:
            self._part()
        going = {place: self._lanes.pop(place) for place in places if place in self._lanes}
        positions = await asyncio.gather(*(lanes.leave(patience) for lanes in going.values()))
        for place in places:
            self._intakes.pop(place, None)
        get_logger().info("partitions left", partitions=_named(places), assigned=len(self._intakes), reason=why)
        if self._stopping:
            self._part()  # what is left is given back in another turn, where a rebalance was under way
        return {place: position for place, position in zip(going, positions, strict=True) if position is not None}

    def longest_leave(self) -> float:
        """Seconds that `leave` takes at most."""
        return max(self._revoke_timeout, self._drain_timeout) + UNWIND

    def complained(self, error: KafkaError) -> None:
        """Kafka's client said something: once a minute is enough of the same."""
        if self._clock() >= self._complaints.get(error.name(), 0.0):
            self._complaints[error.name()] = self._clock() + _COMPLAIN_EVERY
            get_logger().warning("kafka complains", error=error.name())

    def ended(self, error: BaseException | None) -> None:
        """The reader's thread is over."""
        if self._end is not None and not self._end.done():
            if error is None:
                self._end.set_result(None)
            else:
                self._end.set_exception(error)

    # ---

    def _part(self) -> None:
        """Wait for Kafka no longer than the farewell, once what is under way has had its time, from now on."""
        working = self.longest_leave() + _SPARE if self._intakes else 0.0
        if self._farewell is not None:
            self._farewell.cancel()
        self._farewell = asyncio.get_running_loop().call_later(working + _FAREWELL, self._unheard)

    def _unheard(self) -> None:
        if self._end is not None and not self._end.done():
            get_logger().warning("kafka is not there to take leave of", group=self.group)
            self.ended(None)

    def _broken(self, error: BaseException) -> None:
        """A lane ended by what should not be: the consumer does, rather than stand still."""
        self.stop()
        self.ended(RuntimeError(f"a lane broke: {type(error).__name__}: {error}"))

    def _turned(self) -> None:
        self._flow.halted = self._handling.outage.there

    async def _show(self) -> None:
        while True:
            self._looped = self._clock()
            self._shown()
            await asyncio.sleep(_SHOW_EVERY)

    def _shown(self) -> None:
        reader = self._reader
        if reader is None:
            return
        known = tuple(self._intakes.values())
        self._metrics.flow([one.in_hand for one in known], sum(one.paused for one in known), reader.lag())
        self._metrics.read(reader.rebalances, reader.failed_commits)

    def _kafka_for_producers(self) -> dict[str, Any]:
        """What of the settings is about the way to Kafka, and not about consuming."""
        common = ("sasl.", "ssl.", "security.", "socket.", "client.id", "broker.")
        return {name: value for name, value in self._kafka.items() if name.startswith(common)}

    def __repr__(self) -> str:
        return f"<Consumer {self.group} {self._flow!r} {self._handling!r}>"


class _Bridge:
    """`reader.Loop`: from the reader's thread to the event loop, in order."""

    def __init__(self, consumer: Consumer, loop: asyncio.AbstractEventLoop) -> None:
        self._consumer = consumer
        self._loop = loop

    def assigned(self, intakes: Mapping[Place, Intake]) -> None:
        self._loop.call_soon_threadsafe(self._consumer.assigned, intakes)

    def take(self, messages: Mapping[Place, list[Message]]) -> None:
        self._loop.call_soon_threadsafe(self._consumer.take, messages)

    def leave(self, places: Sequence[Place], *, lost: bool) -> dict[Place, int]:
        answer = asyncio.run_coroutine_threadsafe(self._consumer.leave(places, lost=lost), self._loop)
        try:
            return answer.result(self._consumer.longest_leave() + _SPARE)
        except (TimeoutError, CancelledError):
            return {}  # nothing is committed: it comes again, to whoever is next

    def complained(self, error: KafkaError) -> None:
        self._loop.call_soon_threadsafe(self._consumer.complained, error)

    def ended(self, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it waited no longer
            self._loop.call_soon_threadsafe(self._consumer.ended, error)


def _one_of(handler: Handler | None, batch_handler: BatchHandler | None) -> Handler:
    """What handles a single message."""
    if handler is not None and batch_handler is None:
        return handler
    if batch_handler is not None and handler is None:
        return alone(batch_handler)
    raise ConsumerError("handler, batch_handler: expected one of the two")


def _check(topics: Sequence[str], group: str, **counts: int) -> None:
    if isinstance(topics, str) or not topics or any(not topic or topic.endswith(SUFFIX) for topic in topics):
        raise ConsumerError(f"topics: expected at least one name, none of dead letters, got {topics!r}")
    if not group:
        raise ConsumerError("group: expected a name")
    for name, value in counts.items():
        if value < 1:
            raise ConsumerError(f"{name}: expected at least 1, got {value}")
    if counts["batch"] > _LARGEST_BATCH:
        raise ConsumerError(f"batch: expected at most {_LARGEST_BATCH}, got {counts['batch']}")


def _check_times(**times: float) -> None:
    for name, value in times.items():
        if not 0 < value <= 3600:
            raise ConsumerError(f"{name}: expected more than 0 and at most 3600 s, got {value}")


def _named(places: Sequence[Place] | Mapping[Place, Intake]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in sorted(places)]


def _said(error: BaseException) -> str:
    first = error.args[0] if error.args else error
    return str(first.str()) if isinstance(first, KafkaError) else str(first)
