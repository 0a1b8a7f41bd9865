"""The life of the operator process: connect, lead, watch and reconcile, leave."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from kubernetes.aio.client import ApiClient, Configuration

from nova_api import names
from nova_operator import access
from nova_operator.admission.repairer import Repairer
from nova_operator.cluster import ClusterError
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.election import Election
from nova_operator.health import HealthServer, State
from nova_operator.kinds import NOVA_SERVICE
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.options import Options
from nova_operator.pulse import Pulse
from nova_operator.sidecars_http import HttpSidecars
from nova_operator.system import System
from nova_operator.watches import Watches

if TYPE_CHECKING:
    from nova_operator.admission.replica import Replica

RETRY: Final = 2.0
"""Seconds between two attempts to find the API server and the definition of NovaServices."""

log = structlog.get_logger()


class LeaseLostError(Exception):
    """Another replica may be acting: this one must stop at once."""


class Process:
    """One replica. `run` returns when it was told to stop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._metrics = Metrics()
        self._state = State(pulse=Pulse(options.watch_silence))
        self._metrics.watch_silence.set_function(lambda: self._state.pulse.longest(time.monotonic()))
        self._stop = asyncio.Event()
        self._me = f"{socket.gethostname()}_{uuid4().hex[:8]}"

    def __repr__(self) -> str:
        return f"<Process {self._me} {self._state}>"

    def stop(self) -> None:
        """Ask it to end."""
        self._stop.set()

    async def run(self) -> None:
        """Raises ClusterError if it does not know how to reach the API server, LeaseLostError, OSError for the port."""
        self._catch_signals()
        configuration = await access.configuration(self._options.kubeconfig)
        health = HealthServer(self._state, self._metrics)
        port = await health.start(self._options.metrics_port)
        log.info("started", identity=self._me, metrics_port=port, namespaces=list(self._options.namespaces) or "all")
        try:
            async with access.client(configuration) as api:
                await self._until_stopped(self._serve(configuration, api))
        finally:
            await health.stop()
            log.info("stopped", identity=self._me)

    async def _until_stopped(self, work: Any) -> None:
        """Do the work, or drop it when the process is told to stop."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _serve(self, configuration: Configuration, api: ApiClient) -> None:
        kube = Kube(api, self._metrics)
        platform = await self._connect(kube)
        webhooks = await self._answer_reviews(platform)
        try:
            await self._take_part(configuration, kube, platform)
        finally:
            if webhooks is not None:
                await webhooks.close()

    async def _answer_reviews(self, platform: Platform) -> Replica | None:
        """Serve the webhooks, whoever leads. Raises OSError for the port."""
        if self._options.webhook_port is None:
            return None
        from nova_operator.admission import wiring  # noqa: PLC0415 - it brings cryptography, which costs memory

        def ready() -> None:
            self._state.webhooks = True

        self._state.webhooks = False
        admission = self._metrics.admission
        replica = wiring.replica(self._another_way, self._options, self._defaults(platform), admission, ready)
        await replica.start(self._options.webhook_port)
        return replica

    @contextlib.asynccontextmanager
    async def _another_way(self) -> AsyncIterator[Kube]:
        """To the API server, for another thread."""
        configuration = await access.configuration(self._options.kubeconfig)
        async with access.client(configuration) as api:
            yield Kube(api, self._metrics)

    async def _take_part(self, configuration: Configuration, kube: Kube, platform: Platform) -> None:
        """Lead, once the others let it."""
        if self._options.leader_election_namespace is None:
            await self._lead(configuration, kube, platform)
            return
        async with access.client(configuration) as own:  # a renewal does not wait behind writes that hang
            leases = Kube(own, self._metrics)
            election = Election(leases, self._options.leader_election_namespace, names.OPERATOR_NAME, self._me)
            await election.acquire()
            try:
                await self._lead_while_held(configuration, kube, platform, election)
            finally:
                await election.release()

    async def _connect(self, kube: Kube) -> Platform:
        """Wait for the API server and for the NovaService kind."""
        while True:
            try:
                platform = Platform.of(*await kube.version())
                if await kube.serves(NOVA_SERVICE):
                    break
                log.warning("the API server has no NovaServices yet: install the chart nova-crds", retry_in=RETRY)
            except ClusterError as error:
                log.warning("API server not reachable", error=str(error), retry_in=RETRY)
            await asyncio.sleep(RETRY)
        self._state.connected = True
        return platform

    async def _lead_while_held(
        self, configuration: Configuration, kube: Kube, platform: Platform, election: Election
    ) -> None:
        lead = asyncio.create_task(self._lead(configuration, kube, platform))
        keep = asyncio.create_task(election.keep())
        try:
            await asyncio.wait({lead, keep}, return_when=asyncio.FIRST_COMPLETED)
            if keep.done():
                raise LeaseLostError("the lease was lost, another replica takes over")
            await lead
        finally:
            for task in (lead, keep):
                task.cancel()
            await asyncio.gather(lead, keep, return_exceptions=True)

    async def _lead(self, configuration: Configuration, kube: Kube, platform: Platform) -> None:
        self._state.leading = True
        self._metrics.leader.set(1)
        sidecars = HttpSidecars()
        system = self._system(kube, sidecars, platform)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(system.run())
                group.create_task(self._watches(kube).run(configuration, system))
                group.create_task(self._repairer(kube, system).run())
                if self._options.webhook_port is not None and self._options.webhook_certificates == "made":
                    from nova_operator.admission import wiring  # noqa: PLC0415 - see above

                    group.create_task(wiring.keeper(kube, self._options).run())
        finally:
            self._state.leading = self._state.watching = False
            self._metrics.leader.set(0)
            await sidecars.close()

    def _watches(self, kube: Kube) -> Watches:
        return Watches(
            self._options,
            self._state,
            self._metrics,
            self._me,
            stop=self.stop,
            catch_signals=self._catch_signals,
            connect=lambda: self._connect(kube),
        )

    def _repairer(self, kube: Kube, system: System) -> Repairer:
        options = self._options
        admission = self._metrics.admission
        return Repairer(
            kube, options.namespaces, system.missed, system.services.add, admission, poll=options.injection_poll
        )

    def _defaults(self, platform: Platform) -> Defaults:
        options = self._options
        return Defaults(
            sidecar_image=options.sidecar_image,
            sidecar_pull_policy=options.sidecar_pull_policy,
            sidecar_requests=options.sidecar_requests,
            data_image=options.data_image,
            operator_namespace=options.leader_election_namespace,
            platform=platform,
        )

    def _system(self, kube: Kube, sidecars: HttpSidecars, platform: Platform) -> System:
        options = self._options
        return System(
            kube,
            sidecars,
            self._defaults(platform),
            metrics=self._metrics,
            identity=self._me,
            workers=options.workers,
            poll=options.sidecar_poll,
            resync=options.resync,
            discovery=options.discovery,
        )

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
