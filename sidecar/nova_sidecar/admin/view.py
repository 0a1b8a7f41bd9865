"""What the admin servers can know and do: one object over the running sidecar."""

import time
from dataclasses import dataclass, field
from typing import Any

from nova_sidecar.admin.drain import Drain
from nova_sidecar.admin.traffic import traffic
from nova_sidecar.build import Build, build
from nova_sidecar.config import Reloader
from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.telemetry.sink import LineSink
from nova_sidecar.telemetry.tracing import Tracer


@dataclass(slots=True, kw_only=True)
class View:
    """Reads the running sidecar at the moment it is asked."""

    proxy: Proxy
    reloader: Reloader
    drain: Drain
    sink: LineSink
    tracer: Tracer
    version: str
    build: Build = field(default_factory=build)
    """Whether the data path is machine code."""
    listening: bool = False
    """Whether every listener of the data path is open."""
    started: float = field(default_factory=time.time)
    """Start of the process, seconds since the epoch."""
    began: float = field(default_factory=time.monotonic)
    """The same on the clock that does not step."""

    def unready(self) -> str | None:
        """Why no new traffic is wanted; None when it is."""
        if not self.listening:
            return "starting: listeners are not open yet"
        if self.proxy.draining:
            return f"{self.drain.phase}: this instance is leaving"
        return None

    def status(self) -> dict[str, Any]:
        """What the operator reads of every pod."""
        reloader, config = self.reloader, self.reloader.document.config
        refusal = reloader.refusal
        return {
            "service": config.service,
            "namespace": config.namespace,
            "version": self.version,
            "configHash": reloader.document.hash,
            "generation": reloader.generation,
            "lastError": None if refusal is None else refusal._asdict(),
            "ready": self.unready() is None,
            "phase": self.drain.phase,
            "inFlight": self.proxy.in_flight,
            "breakers": self.breakers(),
            "traffic": traffic(self.proxy.stats.ports.values()),
            "uptimeSeconds": round(time.monotonic() - self.began, 3),
        }

    def breakers(self) -> dict[str, str]:
        """State by upstream: closed, open or half_open."""
        return {name: port["breaker"]["state"] for name, port in self.stats()["outbound"].items()}

    def stats(self) -> dict[str, Any]:
        """State of every port, pool, limiter and breaker, as the data path keeps it, and of the export of spans."""
        return {"build": self.build, **self.proxy.snapshot(time.monotonic()), "tracing": self.tracer.snapshot()}
