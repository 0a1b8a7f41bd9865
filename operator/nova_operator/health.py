"""/healthz, /readyz and /metrics.

They are answered by the loop that does the work, so a loop that is stuck gives no answer, and the probes fail.
"""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from nova_operator.metrics import Metrics
from nova_operator.pulse import DEAD, UNREADY, Pulse


class State(msgspec.Struct):
    """How far the process has come; told by `process`, read by the probes."""

    connected: bool = False
    """The API server has answered."""

    leading: bool = False
    watching: bool = False
    """The watches are open."""

    webhooks: bool = True
    """The webhooks answer, where they are wanted."""

    pulse: Pulse = msgspec.field(default_factory=Pulse)

    def unready(self, now: float) -> str | None:
        """Why this replica is not ready at that monotonic time; None when it is. One that waits for the lease is: it
        is what an update of the operator waits for."""
        if not self.connected:
            return "the API server has not answered yet, or has no NovaServices"
        if not self.webhooks:
            return "the webhooks do not answer yet"
        if self.leading and not self.watching:
            return "the watches are not open"
        return self.pulse.silent(now, UNREADY) if self.leading else None

    def dead(self, now: float) -> str | None:
        """Why this replica should be started anew; None when it should not."""
        return self.pulse.silent(now, DEAD) if self.leading else None


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
            return _probe(self._state.dead(time.monotonic()))
        if request.path == "/readyz":
            return _probe(self._state.unready(time.monotonic()))
        if request.path == "/metrics":
            headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            return web.Response(body=self._metrics.render(), headers=headers)
        return web.Response(status=404)


def _probe(trouble: str | None) -> web.Response:
    return web.Response(text="ok\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")
