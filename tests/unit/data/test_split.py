"""Which server reads: positions, lags and the choice, without a server."""

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.split.choice import AHEAD, Choice, Route, SplitSettings
from nova_data.split.lag import PrimaryLog
from nova_data.split.position import ANYWHERE, NOWHERE, PAGE, PRIMARY, ended, position, taken, token, written
from nova_data.split.session import OwnWrites, current

# --- positions and tokens


@given(st.integers(0, NOWHERE - 1))
def test_a_position_is_written_as_postgresql_does(number: int) -> None:
    assert position(written(number)) == number
    assert taken(token(number)) == number


@pytest.mark.parametrize(("text", "number"), [("0/0", 0), ("16/B374D848", 0x16B374D848), ("1/a", 0x10000000A)])
def test_positions(text: str, number: int) -> None:
    assert position(text) == number


@pytest.mark.parametrize(
    "text", [None, "", "x", "1", "1/", "/1", "1/2/3", "123456789/0", "-1/2", " 1/2", "1/2\n", "é/1"]
)
def test_what_is_no_token_counts_as_none(text: str | None) -> None:
    assert taken(text) == ANYWHERE
    if text:
        with pytest.raises(ValueError, match="expected a position"):
            position(text)


def test_a_write_at_an_unknown_position_is_read_from_the_primary() -> None:
    assert token(NOWHERE) == PRIMARY
    assert taken(PRIMARY) == NOWHERE


@pytest.mark.parametrize(
    ("number", "end"), [(PAGE * 7 + 24, PAGE * 7), (PAGE * 8 + 40, PAGE * 8), (PAGE + 48, PAGE + 48), (PAGE, PAGE)]
)
def test_the_last_record_ends_before_the_header_of_the_next_page(number: int, end: int) -> None:
    assert ended(number) == end


def test_a_session_keeps_the_furthest_write_and_blocks_nest() -> None:
    with OwnWrites("0/10") as outer:
        assert current() is outer
        outer.wrote(0x20)
        outer.wrote(0x08)
        with OwnWrites() as inner:
            assert current() is inner
            assert inner.token is None
        assert current() is outer
    assert outer.token == "0/20"
    assert repr(outer) == "<OwnWrites 0/20>"


# --- lag


@given(
    commits=st.lists(st.floats(0, 20), min_size=1, max_size=30).map(sorted),
    probes=st.lists(st.floats(0, 20), min_size=1, max_size=30).map(sorted),
    replayed=st.integers(0, 30),
    later=st.floats(0, 10),
)
def test_the_lag_is_never_less_than_the_truth(
    commits: list[float], probes: list[float], replayed: int, later: float
) -> None:
    """Commits write one byte each. The replica has replayed some of them; the true lag is the age of the first that it
    lacks."""
    log, now = PrimaryLog(silent=100, orphaned=0), probes[-1] + later
    commits = [at for at in commits if at <= now]
    replayed = min(replayed, len(commits))
    for asked in probes:
        log.heard(sum(at <= asked for at in commits), asked)
    missing = commits[replayed:]
    assert log.lag(replayed, now) >= (now - missing[0] if missing else 0.0)


def test_a_replica_of_a_quiet_primary_lacks_nothing() -> None:
    log = PrimaryLog(silent=1.5, orphaned=0)
    for second in range(1000):
        log.heard(100, float(second))
    assert log.lag(100, 999.5) == 0.5
    assert log.lag(99, 999.5) == inf


def test_what_is_replayed_to_a_sample_is_as_old_as_the_sample() -> None:
    log = PrimaryLog(silent=1.5, orphaned=0)
    for at, where in ((10.0, 100), (11.0, 200), (12.0, 300)):
        log.heard(where, at)
    assert [log.lag(where, 12.4) for where in (50, 100, 250, 300)] == pytest.approx([inf, 2.4, 1.4, 0.4])
    assert repr(log) == "<PrimaryLog samples=3 position=300>"


def test_while_the_primary_is_silent_replicas_stay_as_they_were_for_a_while() -> None:
    log = PrimaryLog(silent=1.5, orphaned=60)
    log.heard(100, 10.0)
    log.heard(200, 11.0)
    assert not log.silent(12.0)
    assert log.silent(13.0)
    assert (log.lag(200, 13.0), log.lag(100, 13.0), log.lag(200, 72.0)) == (0.0, 1.0, 0.0)
    assert log.lag(200, 73.0) == 62.0


def test_a_primary_that_took_over_with_less_is_another_one() -> None:
    log = PrimaryLog(silent=1.5, orphaned=0)
    log.heard(200, 10.0)
    log.heard(150, 11.0)
    assert log.position == 150
    assert log.lag(200, 11.5) == 0.5
    assert log.lag(149, 11.5) == inf


# --- the choice

SETTINGS = SplitSettings(max_lag=5, patience=0.05, interval=0.5, orphaned=0)


def choice(*replayed: int | None, settings: SplitSettings = SETTINGS) -> Choice:
    """Servers that were all heard at 100 s, the primary at position 1000; None was promoted."""
    found = Choice([f"r{number}" for number in range(len(replayed))], settings)
    for second in range(90, 101):
        found.log.heard(1000 - (100 - second) * 10, float(second))
    for replica, where in zip(found.replicas, replayed, strict=True):
        found.heard(replica, 100.0, replayed=where)
    return found


def go(made: Choice, token: int = ANYWHERE, now: float = 100.0) -> tuple[Route, str | None]:
    route, replica = made.route(now, Random(1), token)
    return route, replica and replica.name


def test_reads_go_to_all_replicas_that_are_near_enough() -> None:
    made, random = choice(1000, 960, 940, None), Random(1)
    went = {made.route(100.0, random)[1] for _ in range(100)}
    assert went == set(made.replicas[:2])


@pytest.mark.parametrize(
    ("replayed", "token", "expected"),
    [
        ((1000,), ANYWHERE, (Route.REPLICA, "r0")),
        ((1000, 970), 1000, (Route.REPLICA, "r0")),
        ((980, 970), 1000, (Route.WAITED, "r0")),
        ((1000,), NOWHERE, (Route.OWN_WRITE, None)),
        ((1000,), 1001 + AHEAD, (Route.REPLICA, "r0")),  # nobody can have written so much: it is made up
        ((940,), ANYWHERE, (Route.LAGGING, None)),
        ((940,), 1000, (Route.LAGGING, None)),
        ((None,), ANYWHERE, (Route.DOWN, None)),
        ((), ANYWHERE, (Route.DOWN, None)),
    ],
)
def test_where_a_read_goes(replayed: tuple[int | None, ...], token: int, expected: tuple[Route, str | None]) -> None:
    assert go(choice(*replayed), token) == expected


def test_who_has_no_patience_goes_to_the_primary() -> None:
    assert go(choice(990, settings=SplitSettings(patience=0)), 1000) == (Route.OWN_WRITE, None)


def test_who_is_not_heard_does_not_serve_until_it_is() -> None:
    made = choice(1000)
    assert go(made, now=101.6) == (Route.DOWN, None)
    made.log.heard(1000, 101.6)
    made.heard(made.replicas[0], 101.6, replayed=1000)
    assert go(made, now=101.6) == (Route.REPLICA, "r0")
    made.lost(made.replicas[0])
    assert go(made, now=101.6) == (Route.DOWN, None)


@given(
    replayed=st.lists(st.none() | st.integers(0, 1100), max_size=4),
    wanted=st.integers(0, 1200) | st.just(NOWHERE),
    now=st.floats(100, 110),
    seed=st.integers(),
)
def test_a_replica_that_is_chosen_has_what_was_written_and_is_near_enough(
    replayed: list[int | None], wanted: int, now: float, seed: int
) -> None:
    made = choice(*replayed)
    route, replica = made.route(now, Random(seed), wanted)
    assert (replica is not None) == (route in (Route.REPLICA, Route.WAITED))
    if replica is not None:
        assert made.lag(replica, now) <= 5
        assert route is Route.WAITED or replica.replayed >= wanted
        assert now <= 101.5


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_lag", 1), ("max_lag", inf), ("interval", 0), ("patience", -1), ("orphaned", inf), ("max_lag", float("nan"))],
)
def test_settings_that_cannot_work_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        SplitSettings(**{field: value})
