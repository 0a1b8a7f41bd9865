"""Which partitions there should be, and which may go."""

from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from nova_data.outbox.partitions import Partition, missing, over, wanted

NOW = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)


def test_a_partition_is_a_day_in_utc() -> None:
    partition = Partition(date(2026, 12, 31))
    assert partition.name == "outbox_events_p20261231"
    assert (partition.begin, partition.end) == ("2026-12-31 00:00:00+00", "2027-01-01 00:00:00+00")


def test_those_of_today_and_the_coming_days_are_wanted_wherever_the_clock_stands() -> None:
    names = ["outbox_events_p20261129", "outbox_events_p20261130", "outbox_events_p20261201"]
    assert [one.name for one in wanted(NOW, 2)] == names
    assert [one.name for one in wanted(NOW.astimezone(timezone(timedelta(hours=9))), 2)] == names
    assert [one.name for one in missing(NOW, {names[1], "other"}, 2)] == [names[0], names[2]]


def test_those_that_ended_long_enough_ago_may_go() -> None:
    there = {"outbox_events_p20261121", "outbox_events_p20261122", "outbox_events_default", "outbox_events_p20269999"}
    assert [one.name for one in over(NOW, there, 7)] == ["outbox_events_p20261121"]
    assert [one.name for one in over(NOW + timedelta(minutes=30), there, 7)] == [
        "outbox_events_p20261121",
        "outbox_events_p20261122",
    ]


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_a_name_tells_its_day(day: date) -> None:
    assert Partition.named(Partition(day).name) == Partition(day)
