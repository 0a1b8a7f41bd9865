"""The consumer with a real Kafka: order, retries, dead letters, outages, backpressure, rebalances, its end."""

import asyncio
import json
import threading
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from nova_data import correlation
from nova_data.consumer.consumer import Consumer
from nova_data.consumer.dead_letters import topic_of
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.errors import ClaimedError, ConsumerError, DownstreamError, RejectedError
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.waiting import eventually, holds

from .consuming import Seen, committed, group, in_order, noting, noting_batches, numbered, running, send
from .outboxes import command


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> str:
    return kafka.make_topic(f"c-{request.node.name[5:60]}-{group()}".replace("[", "-").replace("]", ""), partitions=4)


def test_messages_are_handled_side_by_side_and_in_order_within_a_key(kafka: Kafka, topic: str) -> None:
    send(kafka, topic, numbered(400, keys=20))
    seen: Seen = []
    most = now = 0

    async def busy(_: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    name = group()
    with running(kafka, [topic], noting(seen, busy), name=name, slots=8) as one:
        eventually(lambda: len(seen) == 400, within=20)
        eventually(lambda: sum(committed(kafka, topic, name, 4)) == 400)
        eventually(lambda: one.metric("handled_total", topic=topic) == 400)
    assert in_order(seen)
    assert 4 < most <= 8


def test_what_was_committed_is_not_handled_again(kafka: Kafka, topic: str) -> None:
    seen: Seen = []
    name = group()
    send(kafka, topic, numbered(50, keys=5))
    with running(kafka, [topic], noting(seen), name=name):
        eventually(lambda: len(seen) == 50, within=20)
    send(kafka, topic, numbered(50, keys=5, start=50))
    with running(kafka, [topic], noting(seen), name=name):
        eventually(lambda: len(seen) == 100, within=20)
    assert sorted(number for _, number in seen) == list(range(100))


def test_a_message_that_always_fails_is_set_aside_and_the_others_go_on(kafka: Kafka, topic: str) -> None:
    seen: Seen = []
    attempts: list[int] = []

    async def poison(message: Any) -> None:
        if message.value == b"7":
            attempts.append(7)
            raise LookupError("no user anna@example.org")
        if message.value == b"8":
            raise RejectedError("an event of last year")

    send(kafka, topic, numbered(60, keys=6))
    name = group()
    with running(kafka, [topic], noting(seen, poison), name=name) as one:
        eventually(lambda: len(seen) == 58, within=20)
        eventually(lambda: sum(committed(kafka, topic, name, 4)) == 60, within=10)
        assert one.metric("dead_lettered_total", topic=topic, reason="exhausted") == 1
        assert one.metric("dead_lettered_total", topic=topic, reason="rejected") == 1
        assert one.metric("retried_total", topic=topic) == 2
    assert in_order(seen)
    assert len(attempts) == 3
    with kafka.reader(topic_of(topic)) as reader:
        found = {one.value(): dict(one.headers()) for one in reader.until(2)}
    assert found[b"7"]["nova-dead-letter-error"] == b"LookupError: no user [redacted]"
    assert found[b"7"]["nova-dead-letter-attempts"] == b"3"
    assert found[b"7"]["nova-dead-letter-key"] == b"k1"
    assert found[b"7"]["idempotency-key"] == b"e7"
    assert found[b"8"]["nova-dead-letter-reason"] == b"rejected"
    assert found[b"8"]["nova-dead-letter-topic"] == topic.encode()


def test_a_dead_letter_is_listed_put_back_once_its_cause_is_gone_and_dropped(kafka: Kafka, topic: str) -> None:
    fixed = threading.Event()
    seen: Seen = []

    async def broken(message: Any) -> None:
        if message.value in (b"1", b"2") and not fixed.is_set():
            raise RejectedError("not now")

    def dead(*words: str) -> tuple[int, str]:
        done = command("dead-letters", words[0], topic, *words[1:], "--brokers", kafka.url)
        return done.returncode, done.stdout + done.stderr

    send(kafka, topic, numbered(10, keys=1))
    with running(kafka, [topic], noting(seen, broken), name=group()) as one:
        eventually(lambda: len(seen) == 8, within=20)
        eventually(lambda: one.metric("dead_lettered_total", topic=topic, reason="rejected") == 2)
        code, text = dead("list", "--json")
        assert code == 1
        first, two = json.loads(text)
        assert first["idempotencyKey"] == "e1"
        assert first["error"] == "RejectedError: not now"
        assert two["id"].startswith(f"{topic}/")
        assert dead("replay") == (2, "nova-data dead-letters: expected ids, or --all\n")
        assert "no/such/1 is none of" in dead("replay", "no/such/1")[1]
        fixed.set()
        assert dead("replay", first["id"]) == (0, "1 messages were put back\n")
        eventually(lambda: len(seen) == 9, within=10)
        assert seen[-1] == ("k0", 1)
        assert two["id"] in dead("list")[1]
        assert json.loads(dead("drop", "--all")[1])["id"] == two["id"]
        assert dead("list") == (0, "none\n")
    with kafka.reader(topic) as reader:
        (again,) = [one for one in reader.until(11) if dict(one.headers()).get("nova-replayed")]
    assert dict(again.headers())["idempotency-key"] == b"e1"
    assert dict(again.headers())["nova-replayed"] == b"1"
    assert (again.key(), again.partition()) == (b"k0", int(first["id"].split("/")[1]))


def test_an_outage_pauses_everything_skips_nothing_and_ends_by_itself(kafka: Kafka, topic: str) -> None:
    away = threading.Event()
    away.set()
    seen: Seen = []
    tries = 0

    async def downstream(_: Any) -> None:
        nonlocal tries
        if away.is_set():
            tries += 1
            raise DownstreamError("the database is away")

    send(kafka, topic, numbered(300, keys=30))
    name = group()
    with running(kafka, [topic], noting(seen, downstream), name=name, in_hand=40) as one:
        eventually(lambda: one.metric("breaker_state", state="open") == 1, within=20)
        eventually(lambda: one.metric("paused") == 4)
        before = tries
        holds(lambda: tries - before <= 3, for_seconds=0.5)
        assert one.consumer.health()["status"] == "ok"
        assert one.metric("in_hand") <= 40
        away.clear()
        eventually(lambda: len(seen) == 300, within=20)
        eventually(lambda: one.metric("lag", topic=topic, partition="0") == 0 and one.metric("paused") == 0)
        assert one.metric("breaker_state", state="closed") == 1
        assert sum(one.metric("dead_lettered_total", topic=topic, reason=why) for why in ("rejected", "exhausted")) == 0
    assert in_order(seen)


def test_when_every_message_fails_it_is_not_their_fault(kafka: Kafka, topic: str) -> None:
    away = threading.Event()
    away.set()
    seen: Seen = []

    async def downstream(_: Any) -> None:
        if away.is_set():
            raise LookupError("what a driver raises of its own")

    send(kafka, topic, numbered(100, keys=50))
    with running(kafka, [topic], noting(seen, downstream), name=group()) as one:
        eventually(lambda: one.metric("breaker_state", state="open") == 1, within=20)
        away.clear()
        eventually(lambda: len(seen) == 100, within=20)
        assert one.metric("dead_lettered_total", topic=topic, reason="exhausted") == 0


def test_what_waits_is_handled_in_one_call_and_in_order_within_a_key(kafka: Kafka, topic: str) -> None:
    send(kafka, topic, numbered(400, keys=20))
    calls: list[Seen] = []
    name = group()
    with running(kafka, [topic], None, batch_handler=noting_batches(calls), batch=30, name=name) as one:
        eventually(lambda: sum(map(len, calls)) == 400, within=20)
        eventually(lambda: sum(committed(kafka, topic, name, 4)) == 400)
        eventually(lambda: one.metric("handled_total", topic=topic) == 400)
        assert one.metric("batches_total", topic=topic) == sum(len(call) > 1 for call in calls)
    assert in_order([each for call in calls for each in call])
    assert 10 < max(map(len, calls)) <= 30


def test_of_a_batch_that_fails_each_message_is_handled_alone(kafka: Kafka, topic: str) -> None:
    calls: list[Seen] = []
    attempts: list[int] = []

    async def poison(message: Any) -> None:
        if message.value == b"7":
            attempts.append(7)
            raise LookupError
        if message.value == b"8":
            raise RejectedError

    send(kafka, topic, numbered(60, keys=6))
    name = group()
    with running(kafka, [topic], None, batch_handler=noting_batches(calls, poison), name=name, lanes=1) as one:
        eventually(lambda: sum(map(len, calls)) == 58, within=20)
        eventually(lambda: sum(committed(kafka, topic, name, 4)) == 60, within=10)
        assert one.metric("dead_lettered_total", topic=topic, reason="exhausted") == 1
        assert one.metric("dead_lettered_total", topic=topic, reason="rejected") == 1
        assert one.metric("retried_total", topic=topic) == 2
        assert one.metric("batches_failed_total", topic=topic) >= 1
    seen = [each for call in calls for each in call]
    assert in_order(seen)
    assert len(seen) == len(set(seen))
    assert 3 <= len(attempts) <= 4  # the batch's, which does not count, unless it was alone from the beginning


def test_a_batch_that_meets_an_outage_is_tried_by_one_message_and_then_whole(kafka: Kafka, topic: str) -> None:
    away = threading.Event()
    away.set()
    calls: list[Seen] = []
    tried: list[int] = []
    failing = noting_batches(calls)

    async def handle(messages: Any) -> None:
        if away.is_set():
            tried.append(len(messages))
            raise DownstreamError("the database is away")
        await failing(messages)

    send(kafka, topic, numbered(200, keys=20))
    with running(kafka, [topic], None, batch_handler=handle, name=group()) as one:
        eventually(lambda: one.metric("breaker_state", state="open") == 1, within=20)
        before = len(tried)
        eventually(lambda: len(tried) > before, within=10)
        assert set(tried[before:]) == {1}
        away.clear()
        eventually(lambda: sum(map(len, calls)) == 200, within=20)
        assert one.metric("retried_total", topic=topic) == 0
        assert one.metric("dead_lettered_total", topic=topic, reason="exhausted") == 0
    seen = [each for call in calls for each in call]
    assert in_order(seen)
    assert len(set(seen)) == 200
    assert len(calls) < 100  # not all of them alone


def test_duplicates_in_a_batch_are_counted(kafka: Kafka, topic: str) -> None:
    async def handle(messages: Any) -> list[bool]:
        return [int(message.value) % 3 > 0 for message in messages]

    send(kafka, topic, numbered(30, keys=1))
    with running(kafka, [topic], None, batch_handler=handle, name=group()) as one:
        eventually(lambda: one.metric("handled_total", topic=topic) == 30, within=20)
        assert one.metric("duplicates_total", topic=topic) == 10


def test_slow_handlers_bound_what_is_in_memory(kafka: Kafka, topic: str) -> None:
    go_on = threading.Event()
    seen: Seen = []

    async def slow(_: Any) -> None:
        while not go_on.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)

    send(kafka, topic, numbered(1000, keys=100))
    with running(kafka, [topic], noting(seen, slow), name=group(), in_hand=160, lanes=4) as one:
        eventually(lambda: one.metric("paused") == 4, within=20)
        holds(lambda: one.consumer.health()["inHand"] <= 160, for_seconds=0.3)
        go_on.set()
        eventually(lambda: len(seen) == 1000, within=20)
    assert in_order(seen)


def test_a_slow_key_does_not_stop_the_others(kafka: Kafka, topic: str) -> None:
    go_on = threading.Event()
    seen: Seen = []

    async def slow(message: Any) -> None:
        while message.key == b"k0" and not go_on.is_set():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)

    send(kafka, topic, numbered(200, keys=10))
    with running(kafka, [topic], noting(seen, slow), name=group(), lanes=64):
        eventually(lambda: len(seen) == 180, within=20)
        go_on.set()
        eventually(lambda: len(seen) == 200)
    assert in_order(seen)


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in-batches"])
def test_who_joins_takes_over_in_order_and_nothing_is_handled_twice(kafka: Kafka, topic: str, batched: bool) -> None:
    """A second consumer joins and the first one leaves, while both handle."""
    send(kafka, topic, numbered(600, keys=40))
    seen: Seen = []
    first, second = set[int](), set[int]()

    def handling(before: Any) -> dict[str, Any]:
        one = noting(seen, before)

        async def several(messages: Any) -> None:
            for message in messages:
                await one(message)

        return {"handler": None, "batch_handler": several, "batch": 5} if batched else {"handler": one}

    def slowly(who: set[int]) -> Any:
        async def before(message: Any) -> None:
            who.add(message.partition)
            await asyncio.sleep(0.02)

        return before

    name = group()
    with running(kafka, [topic], name=name, slots=4, **handling(slowly(first))) as one:
        eventually(lambda: len(seen) > 50, within=20)
        with running(kafka, [topic], name=name, slots=4, **handling(slowly(second))) as two:
            eventually(lambda: two.metric("assigned") == 2, within=20)
            eventually(lambda: len(second) == 2, within=20)
            one.stop()
            eventually(lambda: len(seen) >= 600, within=20)
            eventually(lambda: two.metric("assigned") == 4, within=20)
    assert sorted(number for _, number in seen) == list(range(600))
    assert in_order(seen)


def test_a_partition_that_went_while_it_was_paused_is_read_when_it_comes_back(kafka: Kafka, topic: str) -> None:
    seen: Seen = []
    go = threading.Event()

    async def held(_: Any) -> None:
        while not go.is_set():  # noqa: ASYNC110 - set by another thread, on no loop
            await asyncio.sleep(0.02)

    send(kafka, topic, numbered(40, keys=40))
    name, given = group(), {"in_hand": 4, "revoke_timeout": 0.2, "drain_timeout": 0.2}
    with running(kafka, [topic], noting(seen, held), name=name, **given) as one:
        eventually(lambda: one.metric("paused") == 4, within=20)
        with running(kafka, [topic], noting([], held), name=name, **given) as two:
            eventually(lambda: one.metric("assigned") == two.metric("assigned") == 2, within=30)
        eventually(lambda: one.metric("assigned") == 4, within=30)
        go.set()
        eventually(lambda: len(set(seen)) == 40, within=20)


def test_what_is_under_way_at_the_end_is_finished_and_committed(kafka: Kafka, topic: str) -> None:
    seen: Seen = []
    begun = threading.Event()

    async def slow(_: Any) -> None:
        begun.set()
        await asyncio.sleep(0.3)

    name = group()
    send(kafka, topic, numbered(100, keys=1))
    with running(kafka, [topic], noting(seen, slow), name=name) as one:
        assert begun.wait(20)
        one.stop()
    assert len(seen) == 1
    assert sum(committed(kafka, topic, name, 4)) == 1


def test_what_does_not_end_in_time_is_broken_off_and_comes_again(kafka: Kafka, topic: str) -> None:
    begun = threading.Event()
    broken: list[bool] = []
    seen: Seen = []

    async def endless(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            broken.append(True)
            raise

    name = group()
    send(kafka, topic, numbered(3, keys=1))
    with running(kafka, [topic], noting([], endless), name=name, drain_timeout=0.2) as one:
        assert begun.wait(20)
        one.stop()
    assert broken == [True]
    with running(kafka, [topic], noting(seen), name=name):
        eventually(lambda: len(seen) == 3, within=20)


def test_the_handlers_own_calls_carry_the_id_and_the_trace(kafka: Kafka, topic: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found: list[tuple[Any, ...]] = []

    async def handle(_: Any) -> None:
        await asyncio.create_task(asyncio.sleep(0))
        said = structlog.contextvars.get_contextvars().get("correlation_id")
        found.append((said, correlation.outgoing()))

    send(kafka, topic, [("k", 1, {"correlation-id": "abc-1", "traceparent": trace}), ("k", 2, {})])
    with running(kafka, [topic], handle, name=group()):
        eventually(lambda: len(found) == 2, within=20)
    assert found[0] == ("abc-1", {"x-correlation-id": "abc-1", "traceparent": trace})
    assert found[1][1] == {"x-correlation-id": found[1][0]}
    assert len(found[1][0]) == 36


def test_a_claim_of_another_one_is_waited_for(kafka: Kafka, topic: str) -> None:
    seen: Seen = []
    claims = 10

    async def claimed(_: Any) -> None:
        nonlocal claims
        if claims:
            claims -= 1
            raise ClaimedError(retry_after=0.01)

    send(kafka, topic, numbered(1, keys=1))
    with running(kafka, [topic], noting(seen, claimed), name=group()) as one:
        eventually(lambda: len(seen) == 1, within=20)
        assert one.metric("retried_total", topic=topic) == 0


def test_duplicates_are_counted(kafka: Kafka, topic: str) -> None:
    async def handle(_: Any) -> bool:
        return False

    send(kafka, topic, numbered(3, keys=1))
    with running(kafka, [topic], handle, name=group()) as one:
        eventually(lambda: one.metric("duplicates_total", topic=topic) == 3, within=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topics": []}, "topics: expected at least one name"),
        ({"topics": "orders"}, "topics: expected"),
        ({"topics": ["orders.dead-letters"]}, "none of dead letters"),
        ({"group": ""}, "group: expected a name"),
        ({"slots": 0}, "slots: expected at least 1, got 0"),
        ({"handler": None}, "handler, batch_handler: expected one of the two"),
        ({"batch_handler": noting_batches([])}, "handler, batch_handler: expected one of the two"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"batch": 1001}, "batch: expected at most 1000, got 1001"),
        ({"timeout": 0.0}, "timeout: expected more than 0"),
        ({"kafka": {"no.such.setting": 1}}, "No such configuration property"),
    ],
)
def test_settings_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    async def handle(_: Any) -> None:
        """Do nothing."""

    async def run() -> None:
        given = {"topics": ["orders"], "group": "g", "brokers": "127.0.0.1:1", "handler": handle, **options}
        await Consumer(given.pop("topics"), metrics=ConsumerMetrics(CollectorRegistry()), **given).run()

    with pytest.raises(ConsumerError, match=message):
        asyncio.run(run())
