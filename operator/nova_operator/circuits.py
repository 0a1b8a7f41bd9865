"""The breakers of a service, over all of its sidecars: CircuitOpen, and which upstreams it speaks of. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from nova_api.status import OpenBreaker
from nova_operator import reasons
from nova_operator.observation import Observation
from nova_operator.verdict import Verdict

NAMED: Final = 8
"""Upstreams that the message names; status.openBreakers has all."""


def open_breakers(seen: Observation, upstreams: tuple[str, ...] | None) -> tuple[OpenBreaker, ...]:
    """The upstreams whose breaker is not closed in at least one sidecar, by name.

    Of the upstreams given: whoever can create a pod can make up others. All that are told for None.
    """
    told = (name for report in seen.heard for name, state in report.breakers.items() if state != "closed")
    pods = Counter(name for name in told if upstreams is None or name in upstreams)
    return tuple(OpenBreaker(upstream=name, pods=pods[name]) for name in sorted(pods))


def circuit_verdict(seen: Observation, upstreams: tuple[str, ...] | None) -> Verdict:
    """CircuitOpen: True while calls to some upstream are refused without a try."""
    if upstreams == ():
        return Verdict("False", reasons.NO_UPSTREAMS, "spec.upstreams is empty")
    if not seen.heard:
        return Verdict("Unknown", reasons.NOT_REPORTED, "no sidecar has reported its breakers yet")
    opened = open_breakers(seen, upstreams)
    if not opened:
        return Verdict("False", reasons.BREAKERS_CLOSED, "the breakers of all upstreams are closed")
    named = ", ".join(f"{one.upstream} in {one.pods} of {_pods(len(seen.heard))}" for one in opened[:NAMED])
    more = f" and {len(opened) - NAMED} other upstreams" if len(opened) > NAMED else ""
    return Verdict(
        "True",
        reasons.BREAKERS_OPEN,
        f"calls to {named}{more} are refused until probes succeed: look after the upstream; the sidecars close by "
        "themselves",
    )


def summary(seen: Observation, upstreams: tuple[str, ...]) -> str:
    """``2/3``: of three upstreams, two have a closed breaker everywhere; ``?/3`` while no sidecar has reported."""
    if not upstreams:
        return "0/0"
    if not seen.heard:
        return f"?/{len(upstreams)}"
    return f"{len(upstreams) - len(open_breakers(seen, upstreams))}/{len(upstreams)}"


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"
