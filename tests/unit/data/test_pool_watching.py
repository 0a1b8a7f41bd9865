"""Leaks, slow statements, settings and sizes: what a database notes, without one."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nova_data.pool.leaks import MOST_FRAMES, Hold, LeakWatch, calls
from nova_data.pool.settings import PoolSettings
from nova_data.pool.sizing import Service, sizes
from nova_data.pool.slow import EVERY, REMEMBERED, SlowLog

# --- leaks


def test_a_connection_that_does_not_come_back_is_told_once() -> None:
    watch = LeakWatch(10.0)
    hold = watch.took(100.0, calls())
    assert watch.pause(103.0) == 7.0
    assert watch.overdue(109.9) == []
    assert watch.overdue(110.0) == [hold]
    assert watch.overdue(120.0) == []
    assert hold.stack.startswith("test_a_connection_that_does_not_come_back_is_told_once (")
    assert (watch.missing, watch.leaks) == (1, 1)
    watch.gave_back(hold)
    assert (watch.missing, watch.leaks) == (0, 1)
    assert watch.pause(120.0) == 10.0
    assert repr(watch) == "<LeakWatch held=0 missing=0 leaks=1>"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 40)), max_size=60))
@example([(1.8456876083410347, 1), (3.0, 0)])  # since + after is rounded to now, and now - since is not yet after
def test_each_is_told_when_it_is_due_and_never_when_it_came_back(steps: list[tuple[float, int]]) -> None:
    watch, now, held, told = LeakWatch(3.0), 0.0, [], set()
    for pause, which in steps:
        now += pause
        due = {hold for hold in held if now - hold.since >= 3.0} - told
        assert (watch.pause(now) == 0) == bool(due)
        assert set(watch.overdue(now)) == due
        told |= due
        held.append(watch.took(now, ()))
        if which < len(held):
            watch.gave_back(held.pop(which))
    assert watch.missing == len(told & set(held))


def test_the_place_is_told_without_values() -> None:
    def borrow(password: str) -> Any:
        assert password
        return calls()

    found = Hold(0.0, borrow("hunter2")).frames
    file, line, function = found[0]
    assert (file, function) == (__file__, "test_the_place_is_told_without_values.<locals>.borrow")
    assert line == borrow.__code__.co_firstlineno + 2
    assert len(found) <= MOST_FRAMES
    assert "hunter2" not in repr(found)


# --- slow statements


def test_only_slow_statements_are_told_and_those_that_differ_in_values_as_one() -> None:
    slow = SlowLog(0.5)
    assert slow.record("SELECT 1", 0.49, 0.0) is None
    told = slow.record("SELECT * FROM users WHERE name = 'anna'", 0.6, 0.0)
    assert told is not None
    assert (told.statement, told.seconds, told.count) == ("SELECT * FROM users WHERE name = ?", 0.6, 1)
    assert slow.record("SELECT * FROM users WHERE name = 'ben'", 2.0, 1.0) is None
    again = slow.record("SELECT * FROM users WHERE name = 'carl'", 0.7, EVERY)
    assert again is not None
    assert (again.count, again.longest, again.seconds) == (2, 2.0, 0.7)
    assert slow.count == 3
    assert repr(slow) == "<SlowLog after=0.5 statements=1 count=3>"


def test_statements_that_are_told_apart_are_bounded() -> None:
    slow = SlowLog(0.5)
    for number in range(2 * REMEMBERED):
        assert slow.record(f"SELECT column_{number}", 1.0, 0.0) is not None
    assert f"statements={REMEMBERED} " in repr(slow)


# --- settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("size", "10"),
        ("size", 2.5),
        ("wait", "2"),
        ("tenant_share", "half"),
        ("warm", -1),
        ("warm", 11),
        ("wait", -1),
        ("wait", float("inf")),
        ("statement_timeout", 0),
        ("leak_after", float("nan")),
        ("threshold", 1.1),
        ("tenant_share", 0),
    ],
)
def test_settings_that_cannot_work_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        PoolSettings(**{field: value})


# --- sizes


def test_sizes_leave_room_for_an_update() -> None:
    found = sizes(100, {"posts": Service(replicas=4, weight=2), "search": Service(replicas=2)})
    assert found == {"posts": 12, "search": 10}


def test_services_that_cannot_all_have_one_are_told_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"max_connections: expected at least 31, .* got 20"):
        sizes(20, {"posts": Service(replicas=20)})
    with pytest.raises(ValueError, match="posts: expected replicas"):
        sizes(100, {"posts": Service(replicas=0)})


@given(
    st.integers(20, 1000),
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.builds(
            Service,
            replicas=st.integers(1, 20),
            surge=st.integers(0, 3),
            processes=st.integers(1, 4),
            weight=st.floats(0.1, 10),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_all_pools_together_fit(max_connections: int, services: dict[str, Service]) -> None:
    needed = sum(service.pools for service in services.values()) + 10
    if needed > max_connections:
        with pytest.raises(ValueError, match="max_connections"):
            sizes(max_connections, services)
        return
    found = sizes(max_connections, services)
    assert min(found.values()) >= 1
    used = sum(found[name] * service.pools for name, service in services.items())
    assert used <= max_connections - 10
    if len(services) == 1:
        assert max_connections - 10 - used < next(iter(services.values())).pools
