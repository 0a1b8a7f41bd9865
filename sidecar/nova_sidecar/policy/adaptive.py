"""A concurrency limit that finds itself: the app says through its latency how many requests it can work on at once.

An app with c workers answers in its service time S as long as at most c requests are with it. Beyond that, requests
queue inside of the app: throughput stays at c / S and latency grows with the number n in flight, n * S / c (Little's
law). The limit sought is the n at which latency is `tolerance` times S: all workers are busy, with a short queue that
keeps them so, and no longer one.

Two averages of latency are kept. The short one is the present. The long one stands for S, so it may only learn from
what shows S: moments when fewer requests are in flight than workers are believed to be there, and anything faster
than itself. It does not learn from a full app; an average that did would take every overload for the new normal, and
the limit would drift up with it. The limit follows the gradient: in each window it moves a part of the way towards
limit * tolerance * long / short, which is the number sought as soon as the app is full.

Rules:

* The limit grows only when it was used: a quiet service proves nothing. It is used when nearly as many are in flight
  as may be, or when somebody was refused for its sake (`press`): a tenant's share of it, or what a lower class may have
  of it, can be full long before it is itself.
* No dips: nothing is measured by lowering the limit on purpose.
* A sinking limit is a test of its own cause. If requests queue in the app, latency falls with the limit, and at the
  point that was predicted all is well again. If latency stays high there, it was not a queue: the app itself has
  become slower. Then the present latency is the new long average, and the limit grows back from it (drift guard).
* A window ends after `WINDOW` and one latency, whichever is longer, so that each step sees what the last one did.
* Calls without an answer (timeouts, resets) have no latency; where they are more than `DROPS` of a window the limit
  sinks by a tenth.

What cannot be told apart from outside: an app that becomes faster while it is full from one that gets more workers.
The limit then grows too far, and is corrected as soon as load eases. The control law and the averages are in the
tradition of TCP Vegas and of Netflix' concurrency-limits (Gradient2).
"""

from math import log
from typing import Any, Final

from nova_api.policies import BackpressurePolicy

WINDOW: Final = 0.1
"""Shortest window, seconds."""
LONGEST_WINDOW: Final = 1.0
"""A window that has not got its samples by then ends with what it has, seconds."""
SAMPLES: Final = 10
"""Calls a window should have."""
DROPS: Final = 0.1
"""Share of calls without an answer from which on a window counts as overload."""
LEAST_TOLERANCE: Final = 1.1
"""With less than this, noise alone would pull the limit down."""

_SHORT_WEIGHT: Final = 60  # calls: a window of so many moves the short average half way
_LONG_WEIGHT: Final = 600  # calls that the long average rests on at most
_WARM_UP: Final = 60  # calls whose mean is the first long average; the limit stays where it is meanwhile
_GROW: Final = 0.3
_SINK: Final = 0.4
_STEP: Final = 2.0  # most by which one target differs from the limit
_NEARLY: Final = 1.05
_HIGHER: Final = 1.03  # an average that still creeps up has no new top
_PASSED: Final = 2  # windows that still see what began before the limit stood still
_GROWN: Final = 1.25  # latency over what is known of S up to which a growing app still shows S
_HELD_CALLS: Final = 100  # calls a verdict is made from, and it needs
_EVIDENCE: Final = log(1.3)  # a limit that differs so much from the one it is compared with
_FALLS: Final = 0.6  # latency that follows the limit at least so steeply is a queue (1: in proportion)
_PROBE: Final = 1.5  # the lowest limit is left by this factor to see whether latency follows
_MOST_PATIENCE: Final = 320  # windows between two such looks


class AdaptiveLimit:
    """The limit, and what is known about latency. Seconds throughout; `limit` is a number of requests.

    `observe` takes calls one by one and decides once per window; a call costs 115 ns (tests/unit/policy/cost.py).
    """

    __slots__ = (
        "_busy", "_count", "_dropped", "_ends", "_first", "_fresh", "_goal", "_held", "_held_calls", "_held_seconds",
        "_highest", "_known", "_lowest", "_open_since", "_patience", "_peak", "_pressed", "_probed", "_seen", "_start",
        "_sum", "_tolerance", "_top", "_top_limit", "_usable", "limit", "long", "relearned", "short",
    )  # fmt: skip

    def __init__(self, policy: BackpressurePolicy, now: float, in_flight: int = 0) -> None:
        self.short = 0.0
        """Present latency; 0 while nothing is known."""
        self.long = 0.0
        """Latency of the app when it is not full; 0 while nothing is known."""
        self.relearned = 0
        """How often the long average was found to be out of date."""
        self._take_over(policy)
        self.limit = float(min(max(self._lowest, in_flight), self._highest))
        self._first = True
        self._seen = 0
        self._known = 0  # calls that the long average rests on
        self._start = True  # the first growth, up to the first sign of a queue, goes in doubles
        self._fresh = True  # the long average was begun lately, and no queue was seen since
        self._content()
        self._peak = 0
        self._pressed = False
        self._open(now)

    def configure(self, policy: BackpressurePolicy) -> None:
        """Take over new bounds and tolerance; what was learned stays."""
        self._take_over(policy)
        self.limit = min(max(self.limit, self._lowest), self._highest)

    def _take_over(self, policy: BackpressurePolicy) -> None:
        self._highest = float(policy.max_concurrency)
        self._lowest = min(float(policy.adaptive.min_concurrency), self._highest)
        self._tolerance = max(policy.adaptive.tolerance, LEAST_TOLERANCE)
        self._usable = policy.threshold

    def observe(self, seconds: float, in_flight: int, now: float) -> bool:
        """A call was answered after so long, with so many in flight, itself included. True: look at `limit` again."""
        self._sum += seconds
        self._busy += in_flight
        self._count += 1
        if in_flight > self._peak:  # noqa: PLR1730 - at half the price of a call of max
            self._peak = in_flight
        return now >= self._ends and self._close(now)

    def drop(self, in_flight: int, now: float) -> bool:
        """A call got no answer: it timed out, or its connection broke. True: look at `limit` again."""
        self._dropped += 1
        self._peak = max(self._peak, in_flight)
        return now >= self._ends and self._close(now)

    def press(self) -> None:
        """A request was refused because of the limit, or of a share of it."""
        self._pressed = True

    # --- once per window

    def _open(self, now: float) -> None:
        self._open_since = now
        self._ends = now + max(WINDOW, min(self.short, LONGEST_WINDOW))
        self._sum = 0.0
        self._busy = 0
        self._count = 0
        self._dropped = 0
        self._peak = 0
        self._pressed = False

    def _close(self, now: float) -> bool:
        if self._count + self._dropped < SAMPLES and now - self._open_since < LONGEST_WINDOW:
            return False
        before = int(self.limit)
        if self._dropped > DROPS * (self._count + self._dropped):
            self._start = self._fresh = False
            self._move(self.limit * 0.9)
        if self._count and self._first:
            self._first = False  # only what was quick can have come back by now: it would be a wrong beginning
        elif self._count:
            mean = self._sum / self._count
            self._learn(mean, self._count, self._busy / self._count)
            if not self._dropped and self._seen >= _WARM_UP:
                self._steer(mean, self._count)
        self._open(now)
        return int(self.limit) != before

    def _learn(self, mean: float, count: int, in_flight: float) -> None:
        self._seen += count
        if self._seen - count < _WARM_UP:
            self.long += (mean - self.long) * count / self._seen
            self.short, self._known = self.long, self._seen
            return
        self.short += (mean - self.short) * count / (count + _SHORT_WEIGHT)
        calm = not self._pressed and in_flight <= self._usable * self.limit / self._tolerance
        growing = self._fresh and mean < self.long * min((3 + self._tolerance) / 4, _GROWN)
        if calm or growing:
            self.long += (mean - self.long) * count / (count + self._known)
        elif self.short < self.long:
            self.long += (self.short - self.long) * count / (count + self._known)
        else:
            return
        self._known = min(self._known + count, _LONG_WEIGHT)

    def _steer(self, mean: float, count: int) -> None:
        ratio = self._tolerance * self.long / self.short
        limit = self.limit
        used = self._pressed or self._peak + 1 >= 0.9 * self._usable * limit
        if self._probed:
            self._look(mean, count)
        elif ratio >= 1:
            self._content()
            if used:
                grow = 1.0 if self._start and ratio > (1 + self._tolerance) / 2 else _GROW
                self._start = self._start and grow == 1.0
                self._move(limit + (min(ratio, _STEP) - 1) * limit * grow)
        elif used:
            self._start = self._fresh = False
            self._sink(max(ratio, 1 / _STEP), mean, count)

    # --- too slow: a queue, or the app itself?

    def _content(self) -> None:
        """Latency is well: whatever was suspected is forgotten."""
        self._top = self._top_limit = self._goal = 0.0
        self._probed = 0.0
        self._patience = _PASSED
        self._hold_anew()

    def _hold_anew(self) -> None:
        self._held = self._held_calls = 0
        self._held_seconds = 0.0

    def _hold(self, mean: float, count: int) -> float:
        """Collect calls at one limit; their mean latency when they are enough, else 0."""
        self._held += 1
        if self._held > _PASSED:
            self._held_calls += count
            self._held_seconds += mean * count
        enough = self._held_calls >= _HELD_CALLS
        return self._held_seconds / self._held_calls if enough else 0.0

    def _sink(self, ratio: float, mean: float, count: int) -> None:
        """Sink, not below the point where latency should be well again, and look there whether it is."""
        limit = self.limit
        if self.short > self._top * _HIGHER:
            self._top, self._top_limit, self._goal = self.short, limit, limit * ratio
            self._hold_anew()
        if limit > self._goal * _NEARLY and limit > self._lowest:
            self._move(max(limit - (1 - ratio) * limit * _SINK, self._goal))
            return
        held = self._hold(mean, count)
        if not held:
            return
        sunk = log(self._top_limit / limit)
        if sunk >= _EVIDENCE and log(self._top / held) < _FALLS * sunk:
            self._relearn(held, self._held_calls)
            return
        if sunk >= _EVIDENCE:  # it was a queue, and is not short enough yet: the next look is from here
            self._top, self._top_limit = held, limit
        self._goal = limit * min(ratio, 0.9)
        if limit > self._lowest:
            self._hold_anew()
        elif self._held > self._patience and limit * _PROBE <= self._highest:
            self._probed = held
            self._move(limit * _PROBE)
            self._hold_anew()

    def _look(self, mean: float, count: int) -> None:
        """Somewhat above the lowest limit: does latency follow?"""
        held = self._hold(mean, count)
        if not held:
            return
        before, self._probed = self._probed, 0.0
        if log(held / before) < _FALLS * log(_PROBE):
            self._relearn(before, _HELD_CALLS)
            return
        self._patience = min(self._patience * 4, _MOST_PATIENCE)
        self._move(self._lowest)
        self._hold_anew()

    def _relearn(self, latency: float, calls: int) -> None:
        self.long, self._known = latency, calls
        self._fresh = True
        self.relearned += 1
        self._content()

    def _move(self, limit: float) -> None:
        self.limit = min(max(limit, self._lowest), self._highest)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "limit": int(self.limit),
            "shortLatencySeconds": self.short,
            "longLatencySeconds": self.long,
            "relearned": self.relearned,
        }

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.limit:.1f} short={self.short:.4f} long={self.long:.4f}>"
