"""How long a WebSocket may stay, without a clock, and what a client is told in the end."""

import pytest

from nova_services.messaging.staying import CODES, life


@pytest.mark.parametrize(
    ("expires", "expected"),
    [(None, 60.0), (1030.0, 30.0), (1061.0, 60.0), (1000.0, 0.0), (900.0, 0.0), (1e300, 60.0)],
)
def test_a_websocket_lives_as_long_as_its_token_and_no_longer_than_any(expires: float | None, expected: float) -> None:
    assert life(expires, 1000.0, 60.0) == expected


def test_what_a_client_may_do_about_it_is_told_by_the_code() -> None:
    numbers = {why: code.number for why, code in CODES.items()}
    assert len(set(numbers.values())) == len(numbers)
    own = {why for why, number in numbers.items() if 4000 <= number <= 4999}
    assert own == {"expired", "logged_out", "crowded"}
    assert all(len(code.reason.encode()) <= 123 for code in CODES.values())
