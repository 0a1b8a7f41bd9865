"""Whether a canary does worse than the stable version beside it, over the same time.

Errors: the canary's share of failed requests is compared with the stable version's plus what the checks allow. It is
worse when its lower bound is above the other's upper bound.

Latency: the sidecars count durations in buckets, so that a p99 is known to a bucket only. The first bound at or above
the stable version's p99 times the allowed ratio is the line. The canary's p99 is beyond it when more than one request
in a hundred is, and it is worse when, besides, its share of such requests is above the stable version's: a service
whose own p99 lies at the line must not be blamed. The line depends on the data, so each of the possible lines gets its
part of the error.

All looks of all steps together are wrong with the probability 1 - confidence at most: it is shared out evenly among
steps, then among the two questions, then among the two bounds of each (union bound).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from nova_api.rollout import RolloutChecks
from nova_operator.rollout.evidence import Figures
from nova_operator.rollout.sequential import lower_bound, upper_bound

TAIL: Final = 0.01
"""Share of the requests that are beyond a p99."""

THE_WORST: Final = 0.5
"""Share of failed requests for which nobody waits until samples are enough."""

Outcome = Literal["good", "bad", "few"]


class Judgement(msgspec.Struct, frozen=True):
    """What is known of a canary: nothing against it, something, or too little to say."""

    outcome: Outcome
    message: str


def judge(checks: RolloutChecks, stable: Figures, canary: Figures, *, steps: int, alone: bool) -> Judgement:
    """Compare them. `alone`: the stable version is not meant to get requests, so that there is nothing to compare
    with, and only a canary that fails most requests is bad."""
    error = (1 - checks.confidence) / (2 * steps)
    found = _errors(checks, stable, canary, error, alone=alone)
    if found is None and not alone and _enough(checks, stable, canary):
        found = _latency(checks, stable, canary, error)
    if found is not None:
        return Judgement("bad", found)
    if canary.requests < checks.minimum_samples:
        return _too_few("canary", checks)
    if not alone and stable.requests < checks.minimum_samples:
        return _too_few("stable version", checks)
    return Judgement("good", f"nothing is wrong in {canary.requests} requests to the canary")


def p99(figures: Figures) -> float | None:
    """The 99th percentile in seconds, interpolated in its bucket; infinite past the last bound, None without
    requests."""
    beyond = sum(figures.durations) * (1 - TAIL)
    if beyond == 0:
        return None
    begin = 0.0
    for bound, count in zip(figures.bounds, figures.durations, strict=False):
        if count >= beyond:
            return begin + (bound - begin) * beyond / count
        begin, beyond = bound, beyond - count
    return float("inf")


def _enough(checks: RolloutChecks, *both: Figures) -> bool:
    return all(one.requests >= checks.minimum_samples for one in both)


def _too_few(whose: str, checks: RolloutChecks) -> Judgement:
    return Judgement("few", f"the {whose} got fewer than the {checks.minimum_samples} requests that a verdict takes")


def _errors(checks: RolloutChecks, stable: Figures, canary: Figures, error: float, *, alone: bool) -> str | None:
    least = lower_bound(canary.failed, canary.requests, error / 2)
    most = 0.0 if alone else upper_bound(stable.failed, stable.requests, error / 2)
    allowed = most + checks.max_error_increase
    if alone or not _enough(checks, canary):
        allowed = max(THE_WORST, allowed)
    if least <= allowed:
        return None
    beside = "" if alone else f", of the stable version {_share(stable)}"
    return f"of the canary's requests {_share(canary)} failed{beside}"


def _latency(checks: RolloutChecks, stable: Figures, canary: Figures, error: float) -> str | None:
    usual = p99(stable)
    if usual is None or canary.bounds != stable.bounds:
        return None
    line = next((bound for bound in stable.bounds if bound >= usual * checks.max_latency_ratio), None)
    if line is None:
        return None  # beyond the last bound nothing can be told apart
    part = error / (2 * len(stable.bounds))
    samples, others = sum(canary.durations), sum(stable.durations)
    least = lower_bound(canary.longer_than(line), samples, part) if samples else 0.0
    most = upper_bound(stable.longer_than(line), others, part)
    if least <= max(TAIL, most):
        return None
    return (
        f"of the canary's requests {canary.longer_than(line) / samples:.1%} took longer than {line:g} s, "
        f"of the stable version's {stable.longer_than(line) / others:.1%}"
    )


def _share(figures: Figures) -> str:
    return f"{figures.failed / max(1, figures.requests):.1%} ({figures.failed} of {figures.requests})"
