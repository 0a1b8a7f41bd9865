import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy import deadline


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1500", 1.5),
        (b"0", 0.0),
        (b"007", 0.007),
        (b"999999999", 999_999.999),
        (b"1000000000", None),  # ten digits
        (b"", None),
        (b" 15", None),
        (b"+15", None),
        (b"-15", None),
        (b"1e3", None),
        (b"1_000", None),
        (b"1.5", None),
        (b"15, 20", None),
        ("²".encode("latin-1"), None),
        ("٣".encode(), None),
    ],
)
def test_the_header_is_digits_or_ignored(value: bytes, expected: float | None) -> None:
    assert deadline.parse(value) == expected


@pytest.mark.parametrize(
    ("header", "ends"),
    [(None, 115.0), (b"2000", 102.0), (b"20000", 115.0), (b"0", 100.0), (b"never", 115.0)],
)
def test_a_caller_may_shorten_the_budget_but_not_extend_it(header: bytes | None, ends: float) -> None:
    assert deadline.begin(100.0, 15.0, header) == ends


def test_an_attempt_ends_with_its_budget_or_the_request() -> None:
    assert deadline.attempt_ends(100.0, 5.0, 115.0) == 105.0
    assert deadline.attempt_ends(112.0, 5.0, 115.0) == 115.0


@pytest.mark.parametrize(("waited", "blamed"), [(0.02, False), (2.4, False), (2.5, True), (5.0, True)])
def test_no_answer_speaks_against_an_upstream_that_had_half_of_the_budget(waited: float, blamed: bool) -> None:
    assert deadline.patient(waited, 5.0) is blamed


@pytest.mark.parametrize(
    ("left", "value"), [(1.5, b"1500"), (0.0019, b"1"), (0.0005, b"0"), (0.0, b"0"), (-3.0, b"0"), (-0.0005, b"0")]
)
def test_what_is_left_is_passed_on_rounded_down(left: float, value: bytes) -> None:
    assert deadline.encode(0.0, left) == value


@given(now=st.floats(0, 1e6), budget=st.floats(0, 3600), spent=st.floats(0, 3600))
def test_the_budget_never_grows_on_its_way(now: float, budget: float, spent: float) -> None:
    ends = deadline.begin(now, budget)
    passed_on = deadline.parse(deadline.encode(now + spent, ends))
    assert passed_on is not None
    left = max(0.0, ends - (now + spent))
    assert left - 0.001 - 1e-9 <= passed_on <= left + 1e-9


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"5u", 5e-6), (b"99999999n", 0.099999999),
        (b"", None), (b"m", None), (b"5", None), (b"5x", None), (b"-5m", None), (b"123456789m", None), (b"1.5S", None),
    ],
)  # fmt: skip
def test_grpc_timeouts(value: bytes, seconds: float | None) -> None:
    parsed = deadline.parse_grpc(value)
    assert parsed == (None if seconds is None else pytest.approx(seconds))


@given(left=st.floats(-10, 1e9))
def test_a_grpc_timeout_never_grows_on_its_way(left: float) -> None:
    passed_on = deadline.parse_grpc(deadline.encode_grpc(0.0, left))
    assert passed_on is not None
    assert 0 <= passed_on <= max(0.0, left) + 1e-6
    assert passed_on > min(left, 99_999_999) - 1 - 1e-6
