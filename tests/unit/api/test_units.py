import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.units import Duration, Share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("250ms", 0.25), ("5s", 5), ("1h30m", 5400), ("1.5s", 1.5), ("1m1m", 120), ("720h", 2_592_000)],
)
def test_duration_reads_the_text_form_of_go(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.025, "25ms"), (0.0003, "0.3ms"), (59.9996, "59s999.6ms"), (300, "5m"), (5401, "1h30m1s")],
)
def test_duration_writes_the_shortest_exact_form(seconds: float, text: str) -> None:
    assert str(Duration(seconds)) == text


@pytest.mark.parametrize(
    "value", ["", "5", "5 s", "-5s", "s", "5s\n", "1d", "\u0661s", "0" * 32 + "s", 5, None, ["5s"]]
)
def test_duration_refuses_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 250ms"):
        Duration.parse(value)


def test_duration_ends_at_thirty_days() -> None:
    with pytest.raises(ValueError, match="at most 720h, got '720h1ms'"):
        Duration.parse("720h1ms")


@given(st.integers(min_value=0, max_value=30 * 24 * 3600 * 10**9))
def test_duration_round_trip_keeps_every_nanosecond(nanoseconds: int) -> None:
    duration = Duration(nanoseconds / 1e9)
    again = Duration.parse(str(duration))
    assert again == pytest.approx(duration, abs=1e-9)
    assert str(again) == str(duration)


@pytest.mark.parametrize(("text", "share"), [("0%", 0), ("20%", 0.2), ("12.5%", 0.125), ("100%", 1), ("100.0%", 1)])
def test_share_reads_per_cent(text: str, share: float) -> None:
    assert Share.parse(text) == share


@pytest.mark.parametrize("value", ["", "20", "101%", "100.1%", "-1%", "20%\n", "0." + "1" * 40 + "%", 0.2, None])
def test_share_refuses_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share such as 20%, from 0% to 100%"):
        Share.parse(value)


@given(st.integers(min_value=0, max_value=10**8))
def test_share_round_trip_keeps_a_millionth_of_a_per_cent(millionths: int) -> None:
    share = Share(millionths / 1e8)
    assert Share.parse(str(share)) == pytest.approx(share, abs=1e-12)


def test_repr_reads_like_the_manifest() -> None:
    assert repr(Duration(90)) == "Duration('1m30s')"
    assert repr(Share(0.2)) == "Share('20%')"
