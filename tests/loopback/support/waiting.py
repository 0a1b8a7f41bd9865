"""Wait for a condition instead of for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.crowd import CROWD

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 5.0, every: float = 0.02) -> T:
    """The first true value of `condition`, which may also fail an assertion until it holds.

    Raises:
        AssertionError: it did not hold `within` seconds, of a machine of its own; carries the last value or the last
            failed assertion.
    """
    deadline = time.monotonic() + within * CROWD
    while True:
        failure: AssertionError | None = None
        value = None
        try:
            value = condition()
        except AssertionError as error:
            failure = error
        if value:
            return value
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"still {value!r} after {within * CROWD} s")
        time.sleep(every)


def holds(condition: Callable[[], bool], *, for_seconds: float, every: float = 0.02) -> None:
    """Watch that `condition` stays true; for what must *not* happen while something else is stuck."""
    deadline = time.monotonic() + for_seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(every)
