"""One noisy service does not starve the others, and a crowd does not starve a newcomer."""

from collections import Counter
from random import Random

from nova_operator.handlers import BURST, LONGEST_BURST, Feed
from nova_operator.kinds import CONFIG_MAP, NOVA_SERVICE, Kind
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.work import WorkQueue


def test_a_service_that_changes_all_the_time_gets_its_turns_and_no_more() -> None:
    """One worker; each run takes 10 ms, in which the noisy one changes again; the others change once."""
    queue: WorkQueue[str] = WorkQueue(Random(1))
    others = [f"s{number}" for number in range(100)]
    now, turns = 0.0, Counter[str]()
    for key in ["noisy", *others]:
        queue.add(key, now)
    for _ in range(200):
        key = queue.take(now)
        assert key is not None
        turns[key] += 1
        now += 0.01
        queue.add("noisy", now)
        queue.done(key, now, None)
    assert all(turns[key] == 1 for key in others)
    first_hundred_and_two = 1.02
    assert queue.lag(now) < first_hundred_and_two


def test_who_waits_longest_is_next() -> None:
    queue: WorkQueue[str] = WorkQueue(Random(1))
    queue.add("quiet", 0.0)
    for moment in range(1, 50):
        queue.add("noisy", moment / 100)
    assert [queue.take(1.0), queue.take(1.0), queue.take(1.0)] == ["quiet", "noisy", None]


def test_the_lag_is_how_long_the_next_one_has_waited() -> None:
    queue: WorkQueue[str] = WorkQueue(Random(1))
    assert queue.lag(7.0) == 0.0
    queue.add("a", 1.0)
    queue.add("b", 3.0)
    assert queue.lag(0.5) == 0.0
    assert queue.lag(4.0) == 3.0
    queue.take(4.0)
    assert queue.lag(4.0) == 1.0


def heard(lag: float, kind: Kind) -> float:
    """The delay after which news of an object are looked at."""
    delays: list[tuple[ServiceKey, float]] = []
    feed = Feed(Mirror(), lambda key, delay: delays.append((key, delay)), lambda: None, lambda: lag)
    metadata = {
        "name": "shop",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "5",
        "labels": {"nova.dev/service": "shop"},
    }
    feed.take(kind, "ADDED", {"metadata": metadata})
    ((key, delay),) = delays
    assert key == ServiceKey("ns", "shop")
    return delay


def test_what_is_in_motion_is_looked_at_less_often_while_the_operator_is_behind() -> None:
    assert heard(0.0, CONFIG_MAP) == BURST
    assert heard(1.0, CONFIG_MAP) == 1.0 + BURST
    assert heard(100.0, CONFIG_MAP) == LONGEST_BURST
    assert heard(100.0, NOVA_SERVICE) == 0.0
