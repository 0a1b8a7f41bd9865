"""The share of failed and the share of slow calls of one upstream, and when somebody has to look at them.

They are looked at when they may have risen: on a call that failed or was slow, on the one that makes the minimum, and
on the first one of a second, when older calls have left the window. All others are successes that only need counting,
up to `quiet_until` (see `policy.window`).
"""

from math import inf
from typing import Final, Literal

from nova_api.policies import BreakerPolicy, WindowPolicy
from nova_sidecar.policy.window import CountWindow, TimeWindow, make_window, minimum

_ROUNDING: Final = 1e-9


class Rates:
    """See the module. `slow_from` is the number of seconds from which on a call is slow."""

    __slots__ = ("_failure_rate", "_least_calls", "_policy", "_slow_rate", "_window", "slow_from")

    def __init__(self, policy: BreakerPolicy, now: float) -> None:
        self._policy: WindowPolicy | None = None
        self._window: CountWindow | TimeWindow | None = None
        self.configure(policy, now)

    def configure(self, policy: BreakerPolicy, now: float) -> None:
        """Take over a new policy. A window of another type or length begins empty."""
        self._failure_rate = float(policy.window.failure_rate)
        self._slow_rate = float(policy.slow_call.rate)
        self._least_calls = minimum(policy.window)
        self.slow_from = float(policy.slow_call.duration) or inf
        before, self._policy = self._policy, policy.window
        if policy.mode == "Off" or not (policy.window.failure_rate or policy.slow_call.duration):
            self._window = None
        elif self._window is None or before is None or _shape(before) != _shape(policy.window):
            self._window = make_window(policy.window, now)

    def settle(self, passed: int, now: float) -> None:
        """Take over plain successes that were only counted, and the time."""
        if self._window is not None:
            self._window.settle(passed, now)

    def count(self, *, failed: bool, slow: bool) -> None:
        """One more call, after `settle`."""
        if self._window is not None:
            self._window.count(failed=failed, slow=slow)

    def clear(self, now: float) -> None:
        """Begin anew."""
        if self._window is not None:
            self._window.clear(now)

    def reached(self) -> Literal["failure_rate", "slow_rate"] | None:
        """Which of the two has come to its limit."""
        window = self._window
        if window is None or window.calls < self._least_calls:
            return None
        calls, failed, slow = window.calls, window.failed, window.slow
        if failed and self._failure_rate and failed + _ROUNDING >= self._failure_rate * calls:
            return "failure_rate"
        if slow and slow + _ROUNDING >= self._slow_rate * calls:
            return "slow_rate"
        return None

    @property
    def quiet_until(self) -> float:
        """The instant up to which plain successes need only be counted; minus infinity: none."""
        window = self._window
        if window is None:
            return inf
        return window.quiet_until if window.calls >= self._least_calls else -inf

    def snapshot(self) -> dict[str, int]:
        """What is in the window, as of the last `settle`."""
        window = self._window
        return {
            "calls": window.calls if window else 0,
            "failedCalls": window.failed if window else 0,
            "slowCalls": window.slow if window else 0,
        }

    def __repr__(self) -> str:
        return f"<Rates {self._window!r}>"


def _shape(policy: WindowPolicy) -> tuple[str, int]:
    """What a window must have in common with another to go on with its counts."""
    return (policy.type, policy.calls if policy.type == "Count" else int(policy.duration))
