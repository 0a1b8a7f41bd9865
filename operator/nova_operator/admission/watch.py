"""Keeps a replica's certificate the one in the Secret.

The Secret is read rather than mounted: a mounted one follows within a minute or two, and a new installation would
answer nothing for as long. While it cannot be read, or holds nothing usable, the certificate in use stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from nova_operator.admission.certificates import Pair, expiry, read
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.kinds import SECRET

FIRST: Final = 1.0
"""Seconds between two looks while there is no certificate yet."""

log = structlog.get_logger()


class CertificateWatch:
    """`wear` takes a certificate into use, or raises ValueError; `poll` in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        secret: str,
        wear: Callable[[Pair], None],
        metrics: AdmissionMetrics,
        *,
        poll: float,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._secret = secret
        self._wear = wear
        self._metrics = metrics
        self._poll = poll
        self._worn: Pair | None = None
        self._told = False
        self.ready = asyncio.Event()
        """Set once there is a certificate."""

    def __repr__(self) -> str:
        return f"<CertificateWatch {self._namespace}/{self._secret} {'ready' if self.ready.is_set() else 'waits'}>"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(self._poll if self._worn is not None else FIRST)

    async def _look(self) -> None:
        try:
            secret = await self._cluster.get(SECRET, self._namespace, self._secret)
        except ClusterError as error:
            log.warning("webhook certificate not read", error=str(error), retry_in=self._poll)
            return
        pair = read(secret or {}).current
        if pair is None:
            self._tell_missing()
        elif pair != self._worn:
            self._put_on(pair)

    def _put_on(self, pair: Pair) -> None:
        try:
            self._wear(pair)
        except ValueError as error:
            log.warning("webhook certificate not read", error=str(error), retry_in=self._poll)
            return
        self._worn = pair
        self._metrics.certificate_expiry.set(expiry(pair.certificate).timestamp())
        self.ready.set()
        log.info("webhook certificate in use", until=expiry(pair.certificate).isoformat())

    def _tell_missing(self) -> None:
        if not self._told:
            self._told = True
            log.warning("no webhook certificate yet", error=f"Secret {self._namespace}/{self._secret} has none")
