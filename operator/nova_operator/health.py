"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import msgspec
from aiohttp import web

from nova_operator.metrics import Metrics


class State(msgspec.Struct):
    """How far the process has come; told by `process`, read by the probes."""

    connected: bool = False
    """The API server has answered."""

    leading: bool = False
    watching: bool = False
    """The watches are open."""

    webhooks: bool = True
    """The webhooks answer, where they are wanted."""

    @property
    def ready(self) -> bool:
        """A replica that waits for the lease is ready: it is what an update of the operator waits for."""
        return self.connected and self.webhooks and (self.watching or not self.leading)


class HealthServer:
    """Serves on all addresses: the kubelet and Prometheus come from outside the pod."""

    def __init__(self, state: State, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics
        self._runner: web.ServerRunner | None = None

    async def start(self, port: int) -> int:
        """Listen; returns the port, which matters for 0. Raises OSError if it is taken."""
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "0.0.0.0", port)  # noqa: S104 - see above
        await site.start()
        assert self._runner.addresses  # noqa: S101 - it listens
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        if request.path == "/healthz":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            return web.Response(text="ready\n") if self._state.ready else web.Response(status=503, text="not ready\n")
        if request.path == "/metrics":
            headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            return web.Response(body=self._metrics.render(), headers=headers)
        return web.Response(status=404)
