"""One noisy service does not starve the others, and a crowd does not starve a newcomer."""

from collections import Counter
from random import Random
from typing import Any

from nova_operator.handlers import BURST, LONGEST_BURST, Feed
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, POD_DISRUPTION_BUDGET, Kind
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.work import IN_A_ROW, PACE, SHARE_IN_MOTION, WorkQueue


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


def test_a_service_that_changes_all_the_time_has_its_turns_at_a_pace_however_idle_the_rest_is() -> None:
    """Each turn takes 10 ms and finds it changed meanwhile; after a rest it has some in a row again."""
    queue: WorkQueue[str] = WorkQueue(Random(1))
    queue.add("noisy", 0.0)
    taken = []
    for tick in range(1000):
        now = tick / 100 + (100.0 if tick >= 500 else 0.0)
        if queue.take(now) is not None:
            taken.append(now)
            queue.done("noisy", now, 0.0)
    assert taken[:IN_A_ROW] == [tick / 100 for tick in range(IN_A_ROW)]
    turns = [sum(begin <= now < begin + 5.0 for now in taken) for begin in (0.0, 105.0)]
    assert turns == [round(IN_A_ROW - 1 + 5.0 / PACE)] * 2


def test_what_a_key_has_had_is_forgotten_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue(Random(1))
    for _ in range(2 * IN_A_ROW):
        queue.add("made anew again and again", 0.0)
        assert queue.take(0.0) is not None
        queue.done("made anew again and again", 0.0, None)


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


def test_who_is_waited_for_does_not_wait_for_a_crowd_in_motion() -> None:
    queue: WorkQueue[str] = WorkQueue(Random(1))
    for number in range(100):
        queue.add(f"s{number}", 0.0, in_motion=True)
    queue.add("new", 50.0)
    assert "new" in [queue.take(60.0), queue.take(60.0)]


def test_a_crowd_that_is_waited_for_leaves_a_share_to_what_is_in_motion() -> None:
    queue: WorkQueue[str] = WorkQueue(Random(1))
    for number in range(100):
        queue.add(f"new{number}", 0.0)
        queue.add(f"moves{number}", 0.0, in_motion=True)
    turns = [str(queue.take(1.0)) for _ in range(80)]
    assert sum(turn.startswith("moves") for turn in turns) == 80 // SHARE_IN_MOTION
    assert [turn for turn in turns if turn.startswith("moves")] == [f"moves{number}" for number in range(20)]


def heard(lag: float, kind: Kind, *objects: dict[str, Any], change: str = "MODIFIED") -> tuple[float, bool] | None:
    """After which delay the last of these states of an object is looked at, and whether that is for what is in motion;
    None if it is not."""
    turns: list[tuple[float, bool]] = []

    def add(key: ServiceKey, delay: float = 0.0, *, in_motion: bool = False) -> None:
        assert key == ServiceKey("ns", "shop")
        turns.append((delay, in_motion))

    feed = Feed(Mirror(), add, lambda: None, lambda: lag)
    for version, one in enumerate(objects or ({},)):
        turns.clear()
        metadata = {"name": "shop", "namespace": "ns", "uid": "u", "resourceVersion": str(version)}
        labels = {"nova.dev/service": "shop"}
        feed.take(kind, change, {**one, "metadata": {**metadata, "labels": labels, **one.get("metadata", {})}})
    return turns[-1] if turns else None


def test_what_is_in_motion_is_looked_at_less_often_while_the_operator_is_behind() -> None:
    assert heard(0.0, CONFIG_MAP) == (BURST, True)
    assert heard(1.0, CONFIG_MAP) == (1.0 + BURST, True)
    assert heard(100.0, CONFIG_MAP) == (LONGEST_BURST, True)
    assert heard(100.0, NOVA_SERVICE) == (0.0, False)


def test_drift_is_looked_at_at_once_however_far_the_operator_is_behind() -> None:
    assert heard(100.0, CONFIG_MAP, {"data": {"a": "1"}}, {"data": {"a": "2"}}) == (BURST, False)
    assert heard(100.0, DEPLOYMENT, {"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}) == (BURST, False)
    labelled = {"metadata": {"annotations": {"nova.dev/manifest-hash": "spoilt"}}}
    assert heard(100.0, CONFIG_MAP, {}, labelled) == (BURST, False)
    leaving = {"metadata": {"deletionTimestamp": "2026-01-05T10:00:00Z"}}
    assert heard(100.0, CONFIG_MAP, {}, leaving) == (BURST, False)


def test_what_controllers_note_is_motion_in_a_deployment_and_nothing_elsewhere() -> None:
    states: tuple[dict[str, Any], ...] = ({"status": {"replicas": 0}}, {"status": {"replicas": 1}})
    assert heard(0.0, DEPLOYMENT, *states) == (BURST, True)
    assert heard(0.0, POD_DISRUPTION_BUDGET, *states) is None
    counted = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}, "generation": 2}}
    assert heard(0.0, DEPLOYMENT, {}, counted) == (BURST, True)


def test_a_child_whose_label_is_changed_is_news_to_both_services() -> None:
    """It is drift to the one that it belongs to, whatever its label says."""
    woken: set[str] = set()

    def add(key: ServiceKey, delay: float = 0.0, *, in_motion: bool = False) -> None:
        woken.add(key.name)

    feed = Feed(Mirror(), add, lambda: None)
    for version, service in enumerate(("shop", "other")):
        woken.clear()
        metadata = {"name": "shop", "namespace": "ns", "uid": "u", "resourceVersion": str(version)}
        feed.take(CONFIG_MAP, "MODIFIED", {"metadata": {**metadata, "labels": {"nova.dev/service": service}}})
    assert woken == {"shop", "other"}
