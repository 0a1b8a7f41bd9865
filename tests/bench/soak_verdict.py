"""Whether a process stays what it was: samples over time, a straight line through them, and what is wrong.

Memory is judged by its slope over the second half, by least squares: in the first half caches fill, and the difference
of two samples would be noise of the allocator. A leak of 100 bytes per exchange shows: at the usual pace of a soak that
are 1.5 MiB in a minute. The bound is 8 bytes per exchange; what is left below it are ports that a changed document took
away, which wait for the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The sidecar at one moment; `seconds` since the beginning."""

    seconds: float
    rss_kib: int
    descriptors: int
    tasks: int
    in_flight: int
    downstream: int
    upstream: int
    websockets: int
    exchanges: int
    cpu_seconds: float


@dataclass(frozen=True)
class Bounds:
    """What counts as flat."""

    rss_kib_per_minute: float = 128.0
    descriptors_per_minute: float = 2.0


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through these points, by least squares; 0 for less than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def per_minute(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """How fast a figure grows over the second half of the time."""
    half = (samples[0].seconds + samples[-1].seconds) / 2 if samples else 0.0
    return 60 * slope([(each.seconds, value(each)) for each in samples if each.seconds >= half])


def problems(samples: Sequence[Sample], before: Sample, after: Sample, bounds: Bounds) -> list[str]:
    """What is not flat under load, and what is left when the load is over; `before` is the sidecar before any."""
    found = []
    for name, growth, most in (
        ("resident memory, KiB", per_minute(samples, lambda each: each.rss_kib), bounds.rss_kib_per_minute),
        ("descriptors", per_minute(samples, lambda each: each.descriptors), bounds.descriptors_per_minute),
    ):
        if growth > most:
            found.append(f"{name}: grows by {growth:.1f} a minute, at most {most:g} are flat")
    for name, left, at_most in (
        ("exchanges in flight", after.in_flight, 0),
        ("connections from callers", after.downstream, 0),
        ("WebSockets", after.websockets, 0),
        ("tasks", after.tasks, before.tasks),
        ("descriptors", after.descriptors, before.descriptors + after.upstream),
    ):
        if left > at_most:
            found.append(f"{name}: {left} are left when the load is over, {at_most} were expected")
    return found
