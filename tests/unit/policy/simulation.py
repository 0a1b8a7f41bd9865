"""An app with a known optimum, in virtual time: workers, a queue in front of them, and callers behind a limiter.

The optimum is the concurrency at which latency is `tolerance` times the service time while all workers are busy. By
Little's law n requests on c workers take n * S / c each, so that is tolerance * c, within the limit's bounds.

Callers come with exponential gaps (a Poisson process). Whoever finds the limiter full is refused and gone.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from nova_api.policies import AdaptivePolicy, BackpressurePolicy
from nova_sidecar.policy.adaptive import AdaptiveLimit
from nova_sidecar.policy.limiter import Limiter

Draw = Callable[[Random, float], float]


def fixed(_rng: Random, mean: float) -> float:
    """Every request takes the same time."""
    return mean


def exponential(rng: Random, mean: float) -> float:
    """As in the textbook's M/M/c."""
    return rng.expovariate(1 / mean)


def lognormal(rng: Random, mean: float) -> float:
    """A long tail, as web services have: the 99th percentile is five times the median."""
    return rng.lognormvariate(-0.245, 0.7) * mean


def policy(tolerance: float = 1.5, least: int = 8, most: int = 512, threshold: float = 1.0) -> BackpressurePolicy:
    """A policy with an adaptive limit."""
    return BackpressurePolicy(
        max_concurrency=most,
        threshold=threshold,
        adaptive=AdaptivePolicy(mode="Enforce", min_concurrency=least, tolerance=tolerance),
    )


class App:
    """Runs in virtual time. Change `workers`, `service` (seconds) and `rate` (calls per second) between `run`s."""

    def __init__(self, given: BackpressurePolicy, workers: int, service: float, draw: Draw, seed: int) -> None:
        self.workers = workers
        self.service = service
        self.rate = 0.0
        self.now = 0.0
        self.limiter: Limiter[int] = Limiter(given, 0.0)
        adaptive = self.limiter.adaptive
        assert adaptive is not None
        self.adaptive: AdaptiveLimit = adaptive
        self.refused = self.answered = 0
        self.trace: list[tuple[float, int]] = []
        """The limit every 50 ms."""
        self._tolerance = given.adaptive.tolerance
        self._threshold = given.threshold
        self._bounds = (given.adaptive.min_concurrency, given.max_concurrency)
        self._draw = draw
        self._rng = Random(seed)
        self._queue: deque[float] = deque()
        self._working: list[tuple[float, float]] = []
        self._next_call = 0.0
        self._next_look = 0.0

    @property
    def optimum(self) -> float:
        """See the module; as a limit, of which only the share below the threshold is used."""
        least, most = self._bounds
        return min(max(self._tolerance * self.workers / self._threshold, least), most)

    @property
    def in_flight(self) -> int:
        """Requests with the app."""
        return len(self._queue) + len(self._working)

    def overload(self, times: float = 2.0) -> None:
        """So many times as many callers as all workers can answer."""
        self.rate = times * self.workers / self.service

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        ends = self.now + seconds
        self._next_call = max(self._next_call, self.now)
        while True:
            done = self._working[0][0] if self._working else float("inf")
            self.now = min(done, self._next_call, self._next_look)
            if self.now >= ends:
                self.now = ends
                return
            if self.now == self._next_look:
                self.trace.append((self.now, int(self.adaptive.limit)))
                self._next_look += 0.05
            elif self.now == done:
                self._finish()
            else:
                self._next_call = self.now + self._rng.expovariate(self.rate)
                self._arrive()

    def limits(self, since: float) -> list[int]:
        """The limit at every look since then."""
        return [limit for at, limit in self.trace if at >= since]

    def _admit(self) -> bool:
        return self.limiter.admit(self.now) is None

    def _arrive(self) -> None:
        if not self._admit():
            self.refused += 1
            return
        self._queue.append(self.now)
        self._begin()

    def _begin(self) -> None:
        while self._queue and len(self._working) < self.workers:
            heappush(self._working, (self.now + self._draw(self._rng, self.service), self._queue.popleft()))

    def _finish(self) -> None:
        _, came = heappop(self._working)
        self.answered += 1
        moved = self.adaptive.observe(self.now - came, self.limiter.in_flight, self.now)
        self.limiter.release(self.now)
        if moved:
            self.limiter.resize(self.now)
        self._begin()
