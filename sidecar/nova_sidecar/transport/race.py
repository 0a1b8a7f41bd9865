"""Several addresses for one connection: the first that answers wins (RFC 8305, "Happy Eyeballs").

A host may have an address that nobody answers at: a family without a route, a pod that died a moment ago and is still
in DNS. Whoever waits for a connection should not wait for that one. So a further address is tried when the one before
has not answered for `STAGGER` seconds, or at once when it has failed; the first connection that is made is used, and
the others are given up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

T = TypeVar("T")

STAGGER: Final = 0.25
"""Seconds between two attempts (RFC 8305 section 5: Connection Attempt Delay)."""


async def race(
    attempt: Callable[[T], Awaitable[Any]],
    following: Callable[[], T | None],
    *,
    lost: Callable[[T, BaseException | None], None],
    stagger: float = STAGGER,
) -> T:
    """The candidate whose attempt succeeded first. `following` gives the next candidate, None while there is none;
    the first time there must be one. `lost` hears of every other candidate that was begun: with its error, or None
    where it was given up without one.

    Raises the error of the last attempt to fail when all do. Cancelled itself, it cancels what it began and tells
    `lost` of nothing.
    """
    running: dict[asyncio.Future[Any], T] = {}
    error: BaseException | None = None
    try:
        while True:
            candidate = following()
            if candidate is not None:
                running[asyncio.ensure_future(attempt(candidate))] = candidate
            elif not running:
                assert error is not None, "a race needs a candidate"  # noqa: S101 - a rule for the caller
                raise error
            patience = stagger if candidate is not None else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            winner = next((running[task] for task in done if task.exception() is None), None)
            if winner is not None:
                _tell(running, winner, lost)
                return winner
            for task in done:
                error = task.exception()
                lost(running.pop(task), error)
    finally:
        await _give_up(running)


def _tell(running: dict[asyncio.Future[Any], T], winner: T, lost: Callable[[T, BaseException | None], None]) -> None:
    for task, candidate in running.items():
        if candidate is not winner:
            lost(candidate, task.exception() if task.done() else None)


async def _give_up(running: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what is left and wait until it has ended, so that nothing is opened after the race is over."""
    for task in running:
        task.cancel()
    if pending := [task for task in running if not task.done()]:
        await asyncio.wait(pending)
    for task in running:
        if not task.cancelled():
            task.exception()  # an error that nobody takes would be logged
