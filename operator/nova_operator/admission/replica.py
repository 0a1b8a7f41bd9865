"""What every replica does for the webhooks, leader or not: read the certificate and answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from nova_operator.admission.hooks import Hooks
from nova_operator.admission.server import WebhookServer
from nova_operator.admission.watch import CertificateWatch
from nova_operator.admission_metrics import WEBHOOKS, AdmissionMetrics
from nova_operator.cluster import Cluster

PATHS: Final = ("/validate", "/inject")
"""Of the webhooks of `WEBHOOKS`, as the chart's configurations name them."""

log = structlog.get_logger()


class Replica:
    """`start` it, `close` it. It listens at once, and answers once there is a certificate; then `ready` is called."""

    def __init__(
        self,
        cluster: Cluster,
        hooks: Hooks,
        metrics: AdmissionMetrics,
        namespace: str,
        secret: str,
        *,
        poll: float,
        ready: Callable[[], None],
    ) -> None:
        by_path = dict(zip(PATHS, zip(WEBHOOKS, (hooks.validate, hooks.inject), strict=True), strict=True))
        self._server = WebhookServer(by_path, metrics)
        self._watch = CertificateWatch(cluster, namespace, secret, self._server.wear, metrics, poll=poll, ready=ready)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Replica {self._server!r} {self._watch!r}>"

    async def start(self, port: int) -> None:
        """Listen. Raises OSError if the port is taken."""
        taken = await self._server.start(port)
        self._task = asyncio.create_task(self._watch.run())
        log.info("webhooks listen", webhook_port=taken)

    async def close(self) -> None:
        """Answer what has been asked, and no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._server.stop()
