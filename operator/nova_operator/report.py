"""Tells what was seen of a service: its status, and Events of what changed in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from nova_api.model import builtins
from nova_api.status import NovaServiceStatus
from nova_operator import reasons, status
from nova_operator.announce import Announcer
from nova_operator.cluster import Cluster, StaleError
from nova_operator.desired.metadata import Manifest
from nova_operator.events import Allowance, Event, transitions
from nova_operator.kinds import NOVA_SERVICE
from nova_operator.metrics import Metrics
from nova_operator.mirror import Mirror
from nova_operator.observation import Observation

PROGRESS_PACE: Final = 1.0
"""Seconds from one write of a status to the next if only counts have changed: pods of a service start one by one, and
each of them would be a write, as dear as that of a Service."""

PROGRESS_PACE_BEHIND: Final = 60.0
"""The same while services wait for their turn."""


class Told(msgspec.Struct):
    """What was told of one service so far; losing it costs a write that changes nothing, and some Events more."""

    allowance: Allowance = msgspec.field(default_factory=Allowance)
    asked: NovaServiceStatus | None = None
    kept: NovaServiceStatus | None = None
    """What the API server kept of the status that it was asked to write, where that is less: an older definition has
    fewer fields."""

    written_at: float = float("-inf")
    """When the status was written last, in monotonic seconds."""

    generation: int = 0
    changed_at: float | None = None
    """When this generation was first seen, in monotonic seconds; None once it has converged."""

    degraded: str = ""
    """Reason of Degraded, as it is counted."""


class Reporter:
    """Writes what changed, and nothing where nothing did. `wall` gives the time, `busy` says whether services wait for
    their turn."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        announcer: Announcer,
        metrics: Metrics,
        wall: Callable[[], datetime],
        *,
        busy: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._announcer = announcer
        self._metrics = metrics
        self._wall = wall
        self._busy = busy

    async def report(
        self, document: Manifest, upstreams: tuple[str, ...] | None, seen: Observation, told: Told, *, created: bool
    ) -> float | None:
        """The seconds until the service must be looked at once more, None if it need not; `upstreams` are the names
        that its spec gives.

        At once (0) if it turned out to have been changed since it was read: the mirror knows the change from here, so
        its event, which comes later, is no news. Later if there is progress that was not written yet.
        """
        metadata, before = document["metadata"], status.read(document.get("status"))
        subject = status.Subject(name=metadata["name"], generation=metadata["generation"], upstreams=upstreams)
        wall, now = self._wall(), time.monotonic()
        after = status.build(subject, seen, before, wall.isoformat(timespec="seconds").replace("+00:00", "Z"))
        again: float | None = None
        if after != before and not (after == told.asked and before == told.kept):
            if (pause := self._pause(before, after, told, now)) > 0:
                return pause
            written = await self._write(document, after)
            told.written_at = now
            kept = status.read(written.get("status"))
            told.asked, told.kept = (None, None) if kept == after else (after, kept)
            again = 0.0 if _wanted_by_people(written) != _wanted_by_people(document) else None
        events = [Event("Normal", reasons.CREATED, "Create", "created the Deployment")] if created else []
        events += transitions(before, after)
        self._measure(before, after, told, time.monotonic())
        await self._announcer.announce(events, document, told.allowance, time.monotonic(), wall)
        return again

    async def replaced(self, document: Manifest, notes: tuple[str, ...], told: Told) -> None:
        """Tell of objects that were made anew. At once: a status may be written later or not at all, and a Deployment
        that is replaced takes its pods along."""
        events = [Event("Warning", reasons.REPLACED, "Replace", note) for note in notes]
        await self._announcer.announce(events, document, told.allowance, time.monotonic(), self._wall())

    def _pause(self, before: NovaServiceStatus, after: NovaServiceStatus, told: Told, now: float) -> float:
        """Seconds until a status may be written; one that says more than progress may at once."""
        if not status.is_progress(before, after):
            return 0.0
        return told.written_at + (PROGRESS_PACE_BEHIND if self._busy() else PROGRESS_PACE) - now

    def forget(self, told: Told) -> None:
        """The service is gone."""
        self._metrics.degraded(told.degraded, "")

    def _measure(self, before: NovaServiceStatus, after: NovaServiceStatus, told: Told, now: float) -> None:
        if told.generation != after.observed_generation:
            told.generation = after.observed_generation
            told.changed_at = now if before.observed_generation != after.observed_generation else None
        if told.changed_at is not None and status.holds(after, "Converged"):
            self._metrics.converged(now - told.changed_at)
            told.changed_at = None
        degraded = next((one.reason for one in after.conditions if one.type == "Degraded" and one.status == "True"), "")
        self._metrics.degraded(told.degraded, degraded)
        told.degraded = degraded

    async def _write(self, document: Manifest, after: NovaServiceStatus) -> Manifest:
        metadata = {name: document["metadata"][name] for name in ("name", "namespace", "uid")}
        patch = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "metadata": metadata}
        patch["status"] = builtins(after)
        with self._mirror.writing() as heard:
            written = await self._cluster.merge(NOVA_SERVICE, patch, subresource="status")
        self._mirror.written(NOVA_SERVICE, written, heard)
        if written["metadata"]["uid"] != metadata["uid"]:  # for a status the API server pays no heed to it
            raise StaleError(f"NovaService {metadata['name']} was made anew while its status was written")
        return written


def _wanted_by_people(document: Manifest) -> Manifest:
    """A NovaService without what the operator and the API server write themselves."""
    own = ("resourceVersion", "managedFields")
    metadata = {name: value for name, value in document["metadata"].items() if name not in own}
    return {**document, "metadata": metadata, "status": None}
