"""The calls that a rate is taken over: the last so many, or those of the last so many seconds.

Almost all calls are plain successes: neither failed nor slow. Such a call can only lower both rates, except that in
a Time window older calls leave as time passes. So whoever watches a rate need not look at it on a plain success
before `quiet_until`, the end of the present second (a Count window: never). It counts such calls in a plain int and
hands them over with `settle` before anything else is told. That keeps the price of a success at one addition.

Rules:

* A Count window is not kept call by call. Calls are numbered; the window holds the numbers of those that failed or
  were slow, and a number leaves when it is `length` calls old. Each number enters and leaves once: O(1) per call on
  average, and as much memory as there are bad calls in it.
* A Time window has a bucket per whole second of the clock, the present one included; a bucket leaves whole. The
  totals are kept, never added up anew: O(1) per call, and a step per second that has passed.
* Time that goes back is taken for no time.
"""

from collections import deque
from math import floor, inf
from typing import Final

from nova_api.policies import WindowPolicy


class CountWindow:
    """The last `length` calls."""

    __slots__ = ("_failed_at", "_length", "_seen", "_slow_at")

    quiet_until: Final = inf

    def __init__(self, length: int) -> None:
        self._length = length
        self._seen = 0
        self._failed_at: deque[int] = deque()
        self._slow_at: deque[int] = deque()

    def settle(self, passed: int, now: float) -> None:
        """Take over plain successes since the last call told."""
        self._seen += passed
        self._forget()

    def count(self, *, failed: bool, slow: bool) -> None:
        """One more call."""
        self._seen += 1
        if failed:
            self._failed_at.append(self._seen)
        if slow:
            self._slow_at.append(self._seen)
        self._forget()

    @property
    def calls(self) -> int:
        """Calls in the window."""
        return min(self._seen, self._length)

    @property
    def failed(self) -> int:
        """Failed ones among them."""
        return len(self._failed_at)

    @property
    def slow(self) -> int:
        """Slow ones among them."""
        return len(self._slow_at)

    def clear(self, now: float) -> None:
        """Begin anew."""
        self._seen = 0
        self._failed_at.clear()
        self._slow_at.clear()

    def _forget(self) -> None:
        oldest = self._seen - self._length
        for numbers in (self._failed_at, self._slow_at):
            while numbers and numbers[0] <= oldest:
                numbers.popleft()

    def __repr__(self) -> str:
        return f"<CountWindow calls={self.calls} failed={self.failed} slow={self.slow}>"


class TimeWindow:
    """The calls of the last `seconds` whole seconds, the present one included."""

    __slots__ = ("_calls", "_failed", "_second", "_slow", "calls", "failed", "quiet_until", "slow")

    def __init__(self, seconds: int, now: float) -> None:
        self._calls = [0] * seconds  # per second, at its number modulo the length
        self._failed = [0] * seconds
        self._slow = [0] * seconds
        self.clear(now)

    def settle(self, passed: int, now: float) -> None:
        """Take over plain successes of the present second, then let time pass."""
        self._calls[self._second % len(self._calls)] += passed
        self.calls += passed
        if now >= self.quiet_until:
            self._advance(floor(now))

    def count(self, *, failed: bool, slow: bool) -> None:
        """One more call, in the second that `settle` came to."""
        at = self._second % len(self._calls)
        self._calls[at] += 1
        self.calls += 1
        if failed:
            self._failed[at] += 1
            self.failed += 1
        if slow:
            self._slow[at] += 1
            self.slow += 1

    def clear(self, now: float) -> None:
        """Begin anew."""
        for buckets in (self._calls, self._failed, self._slow):
            buckets[:] = [0] * len(buckets)
        self.calls = self.failed = self.slow = 0
        self._second = floor(now)
        self.quiet_until = float(self._second + 1)

    def _advance(self, second: int) -> None:
        length = len(self._calls)
        for entered in range(max(self._second + 1, second - length + 1), second + 1):
            at = entered % length
            self.calls -= self._calls[at]
            self.failed -= self._failed[at]
            self.slow -= self._slow[at]
            self._calls[at] = self._failed[at] = self._slow[at] = 0
        self._second = second
        self.quiet_until = float(second + 1)

    def __repr__(self) -> str:
        return f"<TimeWindow calls={self.calls} failed={self.failed} slow={self.slow}>"


def make_window(policy: WindowPolicy, now: float) -> CountWindow | TimeWindow:
    """An empty window."""
    return CountWindow(policy.calls) if policy.type == "Count" else TimeWindow(int(policy.duration), now)


def minimum(policy: WindowPolicy) -> int:
    """Calls before a rate is looked at: in a Count window never more than it holds."""
    return min(policy.minimum_calls, policy.calls) if policy.type == "Count" else policy.minimum_calls
