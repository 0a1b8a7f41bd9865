"""Keeps a replica's certificate the one in the Secret.

The Secret is read rather than mounted: a mounted one follows within a minute or two, and a new installation would
answer nothing for as long. While it cannot be read, or holds nothing usable, the certificate in use stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from nova_operator.admission.certificates import Pair, expiry, read
from nova_operator.admission.rounds import rounds
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.cluster import Cluster
from nova_operator.kinds import SECRET

FIRST: Final = 1.0
"""Seconds between two looks while there is no certificate yet."""

log = structlog.get_logger()


class CertificateWatch:
    """`wear` takes a certificate into use, or raises ValueError; then `ready` is called. `poll` in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        secret: str,
        wear: Callable[[Pair], None],
        metrics: AdmissionMetrics,
        *,
        poll: float,
        ready: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._secret = secret
        self._wear = wear
        self._metrics = metrics
        self._poll = poll
        self._worn: Pair | None = None
        self._told = False
        self._ready = ready

    def __repr__(self) -> str:
        return f"<CertificateWatch {self._namespace}/{self._secret} {'ready' if self._worn else 'waits'}>"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await rounds("read the certificate", self._look, min(self._poll, FIRST))

    async def _look(self) -> float:
        pair = read(await self._cluster.get(SECRET, self._namespace, self._secret) or {}).current
        if pair is None:
            self._tell_missing()
        elif pair != self._worn:
            self._put_on(pair)
        return self._poll if self._worn is not None else min(self._poll, FIRST)

    def _put_on(self, pair: Pair) -> None:
        try:
            self._wear(pair)
        except ValueError as error:
            log.warning("webhook certificate not usable", error=str(error), retry_in=self._poll)
            return
        self._worn = pair
        self._metrics.certificate_expiry.set(expiry(pair.certificate).timestamp())
        self._ready()
        log.info("webhook certificate in use", until=expiry(pair.certificate).isoformat())

    def _tell_missing(self) -> None:
        if not self._told:
            self._told = True
            log.warning("no webhook certificate yet", error=f"Secret {self._namespace}/{self._secret} has none")
