"""A retry budget: retries may be a share of the traffic, never a multiple of it.

A cap per request (three attempts) triples the load exactly when the upstream is failing under it, and stacked over
several services the factors multiply. A budget bounds the sum instead: of the requests of the last 10 s at most a
share may be retries (Finagle's RetryBudget, linkerd's retryBudget). A service with little traffic would never reach
one whole retry, so a few per second are always allowed.

The window is made of buckets of one second, each begun by the first event after the one before. Only the present
one is written and the sum of the others is kept, so counting a request is a comparison and an increment (50 ns). The
price: old traffic is forgotten in steps, so what counts reaches back 8 to 10 seconds, never further.
"""

from collections import deque
from math import inf
from typing import Any, Final

WINDOW: Final = 10
"""Seconds of traffic that count."""


class RetryBudget:
    """Counts requests and retries of the last 10 s, and says whether one more retry is allowed."""

    __slots__ = (
        "_bucket_ends",
        "_min_per_second",
        "_past",
        "_past_requests",
        "_past_retries",
        "_requests",
        "_retries",
        "_share",
    )

    def __init__(self, share: float, min_per_second: int) -> None:
        self._bucket_ends = -inf
        self._requests = 0  # of the present second
        self._retries = 0
        self._past: deque[tuple[float, int, int]] = deque()  # (end, requests, retries) of earlier seconds
        self._past_requests = 0
        self._past_retries = 0
        self.configure(share, min_per_second)

    def configure(self, share: float, min_per_second: int) -> None:
        """Take over new limits; what was counted stays."""
        self._share = float(share)
        self._min_per_second = min_per_second

    def deposit(self, now: float) -> None:
        """Count one request (not one attempt)."""
        if now >= self._bucket_ends:
            self._advance(now)
        self._requests += 1

    def withdraw(self, now: float) -> bool:
        """Count one retry if the budget allows it."""
        if now >= self._bucket_ends:
            self._advance(now)
        requests = self._past_requests + self._requests
        retries = self._past_retries + self._retries
        if self._retries >= self._min_per_second and retries + 1 > self._share * requests:
            return False
        self._retries += 1
        return True

    def snapshot(self, now: float) -> dict[str, Any]:
        """Requests and retries of the last 10 s."""
        if now >= self._bucket_ends:
            self._advance(now)
        return {
            "requests": self._past_requests + self._requests,
            "retries": self._past_retries + self._retries,
        }

    def _advance(self, now: float) -> None:
        if self._requests or self._retries:
            self._past.append((self._bucket_ends, self._requests, self._retries))
            self._past_requests += self._requests
            self._past_retries += self._retries
            self._requests = self._retries = 0
        while self._past and self._past[0][0] < now + 2 - WINDOW:
            _, requests, retries = self._past.popleft()
            self._past_requests -= requests
            self._past_retries -= retries
        self._bucket_ends = now + 1
