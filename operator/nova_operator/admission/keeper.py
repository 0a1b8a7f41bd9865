"""The leader makes and renews the webhooks' certificate, and tells the API servers whom to trust.

Level-based like everything that writes: each round looks at the Secret and at the webhook configurations and takes at
most one step (`certificates.step`), so it may be killed between any two calls. Writes of the Secret carry the resource
version that was read; of two leaders, one of which does not know yet that it is none, one wins.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from nova_operator.admission.certificates import bundle, read, step, write
from nova_operator.admission.rounds import rounds
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import MUTATING_WEBHOOKS, SECRET, VALIDATING_WEBHOOKS, Kind

FIELD_MANAGER: Final = "nova-operator-certificates"
"""Of its own, so that a chart or Argo CD may be told whose field caBundle is."""

_LONGEST_SETTLE: Final = 60.0
"""Seconds after which API servers have heard of a changed webhook configuration; they watch them."""

RETRY: Final = 2.0
"""Seconds until a round that failed is tried again: without a first one no API server trusts the webhooks."""

log = structlog.get_logger()


class Keeper:
    """`configuration` is the name of both webhook configurations; `names` are those the webhooks are called by."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        secret: str,
        configuration: str,
        names: Sequence[str],
        *,
        lifetime: float,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._secret = secret
        self._configuration = configuration
        self._names = tuple(names)
        self._lifetime = timedelta(seconds=lifetime)
        self._settle = min(_LONGEST_SETTLE, lifetime / 20)
        self._wall = wall
        self._bundle = b""
        self._since = 0.0
        """Since when all configurations have had `_bundle`, in monotonic seconds."""

    def __repr__(self) -> str:
        return f"<Keeper {self._namespace}/{self._secret}>"

    async def run(self) -> None:
        """Round after round, until cancelled."""
        await rounds("tend the certificate", self._round, min(RETRY, self._settle / 2))

    async def _round(self) -> float:
        await self.tend(time.monotonic())
        return self._settle / 2

    async def tend(self, now: float) -> None:
        """One round; `now` in monotonic seconds. Raises ClusterError."""
        secret = await self._cluster.get(SECRET, self._namespace, self._secret)
        if secret is None:
            raise ClusterError(f"there is no Secret {self._namespace}/{self._secret}: make an empty one")
        before = read(secret)
        settled = bundle(before) == self._bundle and now - self._since >= self._settle
        after = step(before, self._names, self._wall(), self._lifetime, settled=settled)
        if after != before:
            await self._cluster.replace(SECRET, write(secret, after))
            log.info("webhook certificate written", why=_why(before.current is None, after.coming is not None))
        await self._spread(bundle(after), now)

    async def _spread(self, wanted: bytes, now: float) -> None:
        """Let every configuration have the bundle."""
        changed = [await self._put(kind, wanted) for kind in (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)]
        if any(changed) or wanted != self._bundle:
            self._bundle, self._since = wanted, now

    async def _put(self, kind: Kind, wanted: bytes) -> bool:
        """Whether it had to be changed. A configuration that is not there needs no bundle: the chart may leave one
        out. With its uid an apply cannot bring back one that was deleted meanwhile."""
        found = await self._cluster.get(kind, None, self._configuration)
        text = base64.b64encode(wanted).decode()
        hooks = (found or {}).get("webhooks") or []
        if found is None or all(hook["clientConfig"].get("caBundle") == text for hook in hooks):
            return False
        metadata = {"name": self._configuration, "uid": found["metadata"]["uid"]}
        ours: Manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        ours["webhooks"] = [{"name": hook["name"], "clientConfig": {"caBundle": text}} for hook in hooks]
        await self._cluster.apply(ours, manager=FIELD_MANAGER)
        log.info("webhook configuration told of the certificate", child=f"{kind.kind}/{self._configuration}")
        return True


def _why(first: bool, staged: bool) -> str:
    if first:
        return "missing"
    return "renewal begins" if staged else "renewed"
