"""What is heard goes into the mirror, and the service it concerns into the queue. Nothing else happens here.

Kopf tells of the NovaServices, `watch` of their children and pods. Kopf's change handlers would write their progress
and a copy of the object into annotations of everything they handle, and finalizers. Its event handlers write nothing,
which is also made sure of below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import kopf

from nova_operator.desired.defaults import Platform
from nova_operator.kinds import (
    CHILDREN,
    HTTP_ROUTE,
    NOVA_SERVICE,
    OPTIONAL_CHILDREN,
    POD,
    POD_MONITOR,
    PROMETHEUS_RULE,
    TOOL_POD,
    Kind,
)
from nova_operator.mirror import Mirror, News, ServiceKey, service_key
from nova_operator.watch import pauses

WATCHED: Final = (NOVA_SERVICE, *CHILDREN, POD, TOOL_POD)
"""What every API server has; see `watched`."""

BURST: Final = 0.02
"""Seconds for which news of children are gathered: a write is often followed by several events."""

LONGEST_BURST: Final = 5.0
"""The same for what is in motion while the operator is behind: it is looked at less often then, to have done with the
rest."""


class Add(Protocol):
    """Puts a service into the queue, see `runner.Runner.add`."""

    def __call__(self, key: ServiceKey, delay: float = 0.0, *, in_motion: bool = False) -> None:
        """After so many seconds."""


class Feed:
    """Takes watch events in; `add` puts a service into the queue, `listed` hears that Kopf has listed, which does not
    tell what is gone; `lag` says by how many seconds the queue is behind."""

    def __init__(
        self,
        mirror: Mirror,
        add: Add,
        listed: Callable[[], None],
        lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._mirror = mirror
        self._add = add
        self._listed = listed
        self._lag = lag

    def take(self, kind: Kind, change: str | None, manifest: dict[str, Any]) -> None:
        """`change` is ADDED, MODIFIED, DELETED, or None for an object that was listed. One whose label was changed is
        news to the service that it is of now, and to the one that it was of before."""
        before = self._mirror.home(kind, manifest)
        news = self._drop(kind, manifest) if change == "DELETED" else self._mirror.put(kind, manifest)
        for service in {before, service_key(kind, manifest)}:
            if service is not None and news is not News.NONE:
                self._tell(kind, service, news)
        if change is None:
            self._listed()

    def _tell(self, kind: Kind, service: ServiceKey, news: News) -> None:
        if kind is NOVA_SERVICE:
            self._add(service)
        elif news is News.CHANGE:
            self._add(service, BURST)
        else:
            self._add(service, min(LONGEST_BURST, BURST + self._lag()), in_motion=True)

    def _drop(self, kind: Kind, manifest: dict[str, Any]) -> News:
        if not self._mirror.drop(kind, manifest):
            return News.NONE
        return News.PROGRESS if kind in {POD, TOOL_POD} else News.CHANGE


def watched(platform: Platform) -> tuple[Kind, ...]:
    """What there is to watch on this API server."""
    served = {
        HTTP_ROUTE: platform.http_routes,
        POD_MONITOR: platform.pod_monitors,
        PROMETHEUS_RULE: platform.prometheus_rules,
    }
    return WATCHED + tuple(kind for kind in OPTIONAL_CHILDREN if served[kind])


def registry(feed: Feed, login: Callable[..., Any]) -> kopf.OperatorRegistry:
    """An event handler for NovaServices, and how to log in."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(login)
    group, _, version = NOVA_SERVICE.api_version.rpartition("/")

    @kopf.on.event(group, version, NOVA_SERVICE.plural, id=NOVA_SERVICE.plural, registry=handlers)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        feed.take(NOVA_SERVICE, event["type"], dict(event["object"]))

    return handlers


def longest_watch(resync: float) -> int:
    """Seconds after which the API server closes a watch; it takes whole ones only."""
    return max(60, round(resync))


def settings(resync: float, silence: float) -> kopf.OperatorSettings:
    """Kopf as a source of events: it writes nothing, never gives up, and opens a watch that has been silent for
    `silence` seconds anew."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.scanning.disabled = True  # no permission to list namespaces and CustomResourceDefinitions is needed
    chosen.peering.standalone = True
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = _Patience()
    chosen.watching.server_timeout = longest_watch(resync)
    chosen.watching.client_timeout = longest_watch(resync) + 10
    chosen.watching.connect_timeout = 5
    chosen.watching.inactivity_timeout = silence
    chosen.queueing.exit_timeout = 0.5
    chosen.queueing.idle_timeout = (
        1.0  # a task and a queue for each object that was heard of; the handler needs neither
    )
    chosen.process.ultimate_exiting_timeout = None  # the process itself sees to that
    return chosen


class _Patience:
    """As Kopf wants it; it begins anew with each request."""

    def __iter__(self) -> Iterator[float]:
        return pauses()


class _NoDiffBase(kopf.DiffBaseStorage):
    """Kopf prepares for change handlers by copying every object it hears of. There are none, so it need not."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None
