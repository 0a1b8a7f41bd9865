"""What the app says of its database pools, and whether requests are worth sending to it.

A request that the app would refuse for want of a connection costs the app its work until then, and the sidecar a place.
So the app's guard (`nova_data.pool_guard`) reports how much of each pool is in use, and while that is above the
threshold requests are refused here. The app's own guard stays the exact one: a report is older than what it says.

Rules:

* An app may be several processes, each with a pool of its own under the same name. Callers cannot choose between them,
  so what counts is the share of all their connections together.
* A report counts for `lifetime` seconds. An app that died with its pool full must not be shut out for good.
* One full pool is enough: a request does not say which one it needs. `paths` says which requests need any.
* Reports are bounded: in number of pools and processes, in numbers that make sense, and in rate. Whoever sends them is
  in the pod, but a loop in an app must not become the sidecar's load.
* The verdict is made when a report comes or goes, so that a request costs a comparison.
"""

import re
from enum import StrEnum
from math import inf
from typing import Any, Final, NamedTuple

from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_sidecar.policy.paths import Paths
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

MOST_POOLS: Final = 16
"""Names of pools in the life of a sidecar: each is a label of metrics."""
MOST_SOURCES: Final = 64
"""Pools of processes at once."""
MOST_COUNTED: Final = 4 * MOST_SOURCES
RATE: Final = 100.0
"""Reports a second, and as many in a burst: five times what `MOST_POOLS` pools of an app at its threshold send."""
LARGEST: Final = 1_000_000
_POOL: Final = re.compile(r"[a-zA-Z0-9._-]{1,32}")
_SOURCE: Final = re.compile(r"[0-9a-f]{16}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_FIELDS: Final = ("pool", "source", "held", "size", "exhausted")


class PoolReport(NamedTuple):
    """What one process says of one pool: connections in use, connections there may be, and how often there was none."""

    pool: str
    source: str
    held: int
    size: int
    exhausted: int


class Taken(StrEnum):
    """What became of a report; the value is what people see in metrics."""

    ACCEPTED = "accepted"
    MALFORMED = "malformed"
    TOO_MANY = "too_many"  # pools, processes, or reports a second


def parse_report(query: str) -> PoolReport:
    """Read a report: each field once, in any order, and no other. Raises ValueError with the rule that was broken."""
    pairs = [part.partition("=") for part in query.split("&")]
    given = {name: value for name, _, value in pairs}
    if len(pairs) != len(_FIELDS) or set(given) != set(_FIELDS):
        raise ValueError(f"expected each of {', '.join(_FIELDS)} once")
    if not _POOL.fullmatch(given["pool"]):
        raise ValueError("pool: expected 1 to 32 letters, digits, hyphens, underscores and dots")
    if not _SOURCE.fullmatch(given["source"]):
        raise ValueError("source: expected 16 hexadecimal digits")
    numbers = [given[name] for name in _FIELDS[2:]]
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ValueError("held, size and exhausted: expected numbers from 0")
    held, size, exhausted = (int(number) for number in numbers)
    if not (1 <= size <= LARGEST and held <= size):
        raise ValueError(f"size: expected a number from 1 to {LARGEST}, and held no larger")
    return PoolReport(given["pool"], given["source"], held, size, exhausted)


class PoolGuard:
    """See the module. `now` in seconds on a clock that does not step."""

    __slots__ = (
        "_allowance", "_checked_until", "_counted", "_filled_at", "_heard", "_paths", "_policy", "_refusal",
        "exhausted", "reports",
    )  # fmt: skip

    def __init__(self, policy: PoolGuardPolicy) -> None:
        self._heard: dict[tuple[str, str], tuple[PoolReport, float]] = {}  # with the instant at which it counts no more
        self._counted: dict[tuple[str, str], int] = {}  # what each has reported last, the longest silent first
        self._allowance = RATE
        self._filled_at = -inf
        self._refusal: Reject | None = None
        self._checked_until = inf
        self.exhausted: dict[str, int] = {}
        """How often the app's guards had no connection, by pool."""
        self.reports: dict[Taken, int] = dict.fromkeys(Taken, 0)
        """Reports by what became of them."""
        self.configure(policy)

    def configure(self, policy: PoolGuardPolicy) -> None:
        """Take over a new policy; what was reported stays, as long as it was to count."""
        self._policy = policy
        self._paths = Paths(policy.paths)
        self._checked_until = -inf  # judged anew by whoever asks next

    @property
    def policy(self) -> PoolGuardPolicy:
        """What is in force."""
        return self._policy

    # --- reports

    def malformed(self) -> None:
        """Something came that is no report."""
        self.reports[Taken.MALFORMED] += 1

    def report(self, report: PoolReport, now: float) -> Taken:
        """Take a report, or say that there are too many."""
        key = (report.pool, report.source)
        self._forget(now)
        fits = key in self._heard or (
            len(self._heard) < MOST_SOURCES and (report.pool in self.exhausted or len(self.exhausted) < MOST_POOLS)
        )
        taken = Taken.ACCEPTED if fits and self._withdraw(now) else Taken.TOO_MANY
        self.reports[taken] += 1
        if taken is Taken.ACCEPTED:
            self._count(key, report.exhausted)
            self._heard[key] = (report, now + self._policy.lifetime)
            self._judge(now)
        return taken

    def _count(self, key: tuple[str, str], exhausted: int) -> None:
        """Processes count from their start; one that was silent for a while is not counted again."""
        before = self._counted.pop(key, 0)
        self._counted[key] = exhausted
        if len(self._counted) > MOST_COUNTED:
            del self._counted[next(iter(self._counted))]
        self.exhausted[key[0]] = self.exhausted.get(key[0], 0) + max(0, exhausted - before)

    def _withdraw(self, now: float) -> bool:
        self._allowance = min(RATE, self._allowance + (now - self._filled_at) * RATE)
        self._filled_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    # --- requests

    def admit(self, now: float) -> Reject | None:
        """The refusal, while a pool is above the threshold."""
        if now >= self._checked_until:
            self._forget(now)
            self._judge(now)
        return self._refusal

    def concerns(self, path: str) -> bool:
        """Whether a request to this path needs the database."""
        return self._paths.empty or path in self._paths

    def utilization(self, now: float) -> dict[str, float]:
        """By pool that was ever reported, the share that is in use; 0 for one that nobody reports any more."""
        self._forget(now)
        held, size = dict.fromkeys(self.exhausted, 0), dict.fromkeys(self.exhausted, 0)
        for report, _ in self._heard.values():
            held[report.pool] += report.held
            size[report.pool] += report.size
        return {pool: held[pool] / size[pool] if size[pool] else 0.0 for pool in held}

    def _judge(self, now: float) -> None:
        threshold = self._policy.threshold
        full = threshold < 1 and any(share > threshold for share in self.utilization(now).values())
        self._refusal = _SATURATED if full else None
        self._checked_until = min((until for _, until in self._heard.values()), default=inf)

    def _forget(self, now: float) -> None:
        old = [key for key, (_, until) in self._heard.items() if now >= until]
        for key in old:
            del self._heard[key]
        if old:
            self._checked_until = now

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        refusing = self.admit(now) is not None
        return {
            "mode": self._policy.mode,
            "refusing": refusing,
            "utilization": self.utilization(now),
            "sources": len(self._heard),
            "exhausted": dict(self.exhausted),
            "reports": {str(taken): count for taken, count in self.reports.items()},
        }

    def __repr__(self) -> str:
        return f"<PoolGuard {'refusing' if self._refusal else 'open'} pools={len(self.exhausted)}>"


_SATURATED: Final = Reject(Reason.DATABASE_SATURATED, OVERLOAD_RETRY_AFTER)
