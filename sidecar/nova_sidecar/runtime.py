"""One running sidecar: data path, admin servers, reload and drain, put together and taken apart in order.

`Sidecar` is used by the command (`run`) and, inside another process, by ``nova dev``.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from nova_api.errors import ConfigError
from nova_api.proxy import ProxyConfig
from nova_sidecar.admin.collector import ProxyCollector
from nova_sidecar.admin.drain import Drain
from nova_sidecar.admin.exposition import Exposition
from nova_sidecar.admin.pages import Pages
from nova_sidecar.admin.process import RuntimeCollector
from nova_sidecar.admin.server import AdminListenError, AdminServers
from nova_sidecar.admin.view import View
from nova_sidecar.build import VERSION
from nova_sidecar.config import Document, Reloader, load
from nova_sidecar.pipeline.proxy import ListenError, Proxy
from nova_sidecar.telemetry.accesslog import AccessLogWriter
from nova_sidecar.telemetry.logs import Logs, get_logger, log_loop_errors
from nova_sidecar.telemetry.sink import LineSink
from nova_sidecar.telemetry.tracing import Exporter, Tracer
from nova_sidecar.transport.resolver import DnsResolver, SystemResolver

STDOUT: Final = 1
FLUSH_TIMEOUT: Final = 1.0
CUT_SHORT: Final = 130  # as a shell reports an end by SIGINT

_FIXED: Final = ("service", "namespace", "admin", "resolver")


class StartError(Exception):
    """The sidecar cannot start on this machine; the message says what to do."""


class Sidecar:
    """Everything of one sidecar. `start` and `close` come in pairs; all methods belong to the event loop's thread."""

    def __init__(
        self,
        path: Path,
        document: Document,
        sink: LineSink,
        *,
        reload: Callable[[Path], Document] = load,
        notify: Callable[[Reloader], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        config = document.config
        self.logs = Logs(sink, service=config.service, namespace=config.namespace, level=config.log_level)
        self.logs.install()
        log_loop_errors(loop)
        sink.attach(loop)
        self._access_log = AccessLogWriter(sink, loop.call_later, service=config.service, namespace=config.namespace)
        self._resolver = SystemResolver() if config.resolver == "system" else DnsResolver()
        self.tracer = Tracer(loop, partial(_exporter, config.service, config.namespace))
        self.tracer.configure(_collector(config))
        rng = Random()  # noqa: S311 - for jitter and correlation ids, which are no secrets
        self.proxy = Proxy(config, resolver=self._resolver, access_log=self._access_log, rng=rng, spans=self.tracer)
        self.drain = Drain(self.proxy)
        self.reloader = Reloader(path, document, apply=self._apply, load=reload, notify=notify)
        self.view = View(
            proxy=self.proxy,
            reloader=self.reloader,
            drain=self.drain,
            sink=sink,
            tracer=self.tracer,
            version=VERSION,
        )
        exposition = Exposition((ProxyCollector(self.view), RuntimeCollector(self.view)))
        self.admin = AdminServers(config.admin, Pages(self.view, exposition))

    async def start(self) -> None:
        """Open the admin servers, then the data path, then watch the file. Raises StartError and leaves nothing open.

        The admin servers come first, so that a probe is answered (not ready) from the beginning.
        """
        try:
            await self.admin.start()
            await self.proxy.start()
        except (AdminListenError, ListenError) as error:
            await self.close()
            raise StartError(str(error)) from error
        self.view.listening = True
        self.reloader.start()
        settle_memory()
        get_logger().info(
            "serving",
            version=self.view.version,
            build=self.view.build,
            hash=self.reloader.document.hash,
            address=[f"{host}:{port}" for host, port in self.proxy.inbound_addresses.values()],
        )

    async def leave(self) -> bool:
        """Drain, then let the app's own calls finish for as long as is left of drain.timeout. True: nothing was cut."""
        complete = await self.drain.wait()
        await self.drain.wait_outbound(self.proxy.config.drain.timeout if complete else 0)
        return complete

    async def close(self) -> None:
        """Close everything now."""
        self.reloader.stop()
        self.view.listening = False
        await self.proxy.close()
        await self.admin.close()
        await self._resolver.close()
        self._access_log.close()
        self.tracer.close()

    async def _apply(self, document: Document) -> None:
        """Put a document into force. Raises ConfigError and changes nothing when it cannot be."""
        _refuse_fixed(self.reloader.document.config, document.config)
        try:
            await self.proxy.apply(document.config)
        except ListenError as error:
            raise ConfigError(error.path, error.rule) from error
        self.tracer.configure(_collector(document.config))
        self.logs.set_level(document.config.log_level)


def _collector(config: ProxyConfig) -> str | None:
    return config.tracing.endpoint if config.tracing.mode == "Enforce" else None


def _exporter(service: str, namespace: str, endpoint: str) -> Exporter:
    """Called in the exporting thread, so that these imports hold nobody up."""
    from nova_sidecar.telemetry.otlp import OtlpExporter  # noqa: PLC0415 - 15 MB, only where tracing is on

    return OtlpExporter(endpoint, service=service, namespace=namespace, version=VERSION)


def _refuse_fixed(now: ProxyConfig, then: ProxyConfig) -> None:
    """Some of it only a new process can change."""
    for name in _FIXED:
        if getattr(now, name) != getattr(then, name):
            raise ConfigError(f"$.{name}", "expected what it was at the start; a restart takes over a new value")


def settle_memory() -> None:
    """Take what the start made out of the garbage collector's sight and let it run less often.

    Modules, policies and precomputed bytes live as long as the process. A full collection would walk all of them,
    10 ms or more in the middle of requests, and find nothing. What requests leave behind is freed by reference
    counting; cycles are the exception, so a hundred times the default number of new objects may pass between runs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(70_000, 20, 20)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's event loop, about twice as fast, where it is there; asyncio's own elsewhere."""
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(path: Path, document: Document) -> int:
    """Serve until SIGTERM or SIGINT, and drain. Returns the exit code: 0, or 1 when the start failed."""
    sink = LineSink(STDOUT)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(path, document, sink))
    finally:
        sink.drain(FLUSH_TIMEOUT)


async def _serve(path: Path, document: Document, sink: LineSink) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = time.monotonic()

    def on_signal(number: signal.Signals) -> None:
        get_logger().info("signal", signal=number.name)
        if number == signal.SIGINT and stop.is_set():
            sink.drain(FLUSH_TIMEOUT)
            os._exit(CUT_SHORT)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    sidecar = Sidecar(path, document, sink)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reloader.look_now)
    try:
        await sidecar.start()
    except StartError as error:
        print(f"nova-sidecar: {error}", file=sys.stderr)
        return 1
    await stop.wait()
    await sidecar.leave()
    await sidecar.close()
    get_logger().info("stopped", seconds=round(time.monotonic() - began, 3))
    return 0
