"""Who of several replicas acts: the decisions of leader election on a Lease. Pure.

Rules: a Lease is changed only with the resourceVersion it was read with, so of two candidates one wins. Clocks of
different machines are never compared: a candidate counts from the moment at which *it* saw the Lease change last, and
takes over when its holder has been silent for leaseDurationSeconds. A leader that could not renew stops acting before
that time is over (`RENEW_DEADLINE` < `DURATION`). One that leaves gives the Lease back, and the next need not wait.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

from typing import Final

import msgspec

from nova_operator.desired.metadata import Manifest

DURATION: Final = 10
"""Seconds of silence after which a holder counts as gone: with a second for the next one to begin, a replica that was
killed is replaced well within 15 s."""

RENEW_DEADLINE: Final = 7.0
RETRY: Final = 2.0
"""Seconds between two attempts to renew."""

ATTEMPT: Final = RENEW_DEADLINE / 2
"""Most seconds for one of them. A request may be lost in silence, with a machine that has no power or a firewall that
forgot the connection, and has to leave time for another one. A write that takes longer than this each time costs the
lease; waiting for it longer would cost it whenever one is lost."""

WAIT: Final = 0.5
"""Seconds between two looks of a candidate: a read of one small object. It finds a Lease that was given back at once,
so that an update of the operator costs no pause."""


class Observer(msgspec.Struct):
    """What one candidate has seen of the Lease; times in monotonic seconds of its own."""

    record: tuple[str | None, str | None] | None = None
    since: float = 0.0

    def see(self, lease: Manifest, now: float) -> None:
        """Take note of the Lease as it is."""
        spec = lease.get("spec") or {}
        record = (spec.get("holderIdentity"), spec.get("renewTime"))
        if record != self.record:
            self.record, self.since = record, now


def may_take(lease: Manifest, me: str, observer: Observer, now: float) -> bool:
    """Whether `me` may write itself into the Lease, which `observer` has seen."""
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity")
    return holder in {None, "", me} or now - observer.since >= spec.get("leaseDurationSeconds", DURATION)


def held(lease: Manifest | None, namespace: str, name: str, me: str, wall: str) -> Manifest:
    """The Lease with `me` as holder; `wall` is the time in RFC 3339 with microseconds."""
    if lease is None:
        metadata = {"name": name, "namespace": namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    spec = dict(lease.get("spec") or {})
    if spec.get("holderIdentity") != me:
        spec["acquireTime"] = wall
        spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
    spec |= {"holderIdentity": me, "leaseDurationSeconds": DURATION, "renewTime": wall}
    return {**lease, "spec": spec}


def released(lease: Manifest, wall: str) -> Manifest:
    """The Lease without holder."""
    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": wall}
    return {**lease, "spec": spec}
