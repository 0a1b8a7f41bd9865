"""What every replica does for the webhooks, leader or not: read the certificate and answer.

In a thread of its own, with its own event loop and its own connections to the API server. When the leader's watches
begin anew, Kopf ends every task of its loop that is younger than itself, and a review under way would be one of them;
nor does a review wait for the reconciles that a restarted operator has a thousand of.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
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
    """`start` it, `close` it. It listens at once, and answers once there is a certificate; then `ready` is called, in
    the thread. `connect` opens the thread's own way to the API server, and `hooks` makes what answers from it."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Cluster]],
        hooks: Callable[[Cluster], Hooks],
        metrics: AdmissionMetrics,
        namespace: str,
        secret: str,
        *,
        poll: float,
        ready: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._hooks = hooks
        self._metrics = metrics
        self._namespace = namespace
        self._secret = secret
        self._poll = poll
        self._ready = ready
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Replica {'runs' if self._thread is not None and self._thread.is_alive() else 'rests'}>"

    async def start(self, port: int) -> None:
        """Listen. Raises OSError if the port is taken, ClusterError if it is not known how to reach the API server."""
        listens: Future[int] = Future()
        loop = type(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._run, args=(loop, port, listens), name="webhooks", daemon=True)
        self._thread.start()
        try:
            taken = await asyncio.wrap_future(listens)
        except asyncio.CancelledError:
            self._stop()
            raise
        log.info("webhooks listen", webhook_port=taken)

    async def close(self) -> None:
        """Answer what has been asked, and no more."""
        self._stop()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, loop: Callable[[], asyncio.AbstractEventLoop], port: int, listens: Future[int]) -> None:
        try:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(self._serve(port, listens))
        except Exception as error:  # whatever it is, whoever waits for the port has to hear of it
            if listens.done():
                log.exception("webhooks ended")
            else:
                listens.set_exception(error)

    async def _serve(self, port: int, listens: Future[int]) -> None:
        stop, here = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: _call(here, stop.set)
        async with self._connect() as cluster:
            hooks = self._hooks(cluster)
            by_path = dict(zip(PATHS, zip(WEBHOOKS, (hooks.validate, hooks.inject), strict=True), strict=True))
            server = WebhookServer(by_path, self._metrics)
            listens.set_result(await server.start(port))
            watch = CertificateWatch(
                cluster, self._namespace, self._secret, server.wear, self._metrics, poll=self._poll, ready=self._ready
            )
            watching = asyncio.create_task(watch.run())
            await stop.wait()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await server.stop()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(function)
