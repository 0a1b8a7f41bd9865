"""The operator's own code beside an API server that repeats what somebody wrote: ``python echoing.py``.

Secrets come on standard input. Each is in an object that is refused, in an answer that is no Status, in a review, in
the name of a service that a pod asks for, in an exception of ours, and in a line of a library. The log goes to standard
output, the metrics follow as lines of their own.
"""

import asyncio
import json
import logging
import socket
import ssl
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import structlog
from aiohttp import web
from kubernetes.aio.client import Configuration
from prometheus_client import generate_latest

from nova_operator import access, logs
from nova_operator.admission.certificates import Pair, make
from nova_operator.admission.hooks import Hooks
from nova_operator.admission.review import Answer, Request
from nova_operator.admission.rounds import rounds
from nova_operator.admission.server import WebhookServer
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.cluster import RefusedError
from nova_operator.desired.defaults import Defaults
from nova_operator.kinds import DEPLOYMENT
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.mirror import ServiceKey
from nova_operator.runner import Runner

DEFAULTS = Defaults(sidecar_image="nova/sidecar:1", sidecar_requests={"cpu": "50m"})
log = structlog.get_logger()


class Server:
    """An API server that refuses everything, and repeats `secret` in doing so."""

    def __init__(self) -> None:
        self.secret = ""
        self.port = 0
        self._plain = False

    async def start(self) -> web.AppRunner:
        """Listen on a free port."""
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner  # type: ignore[return-value]  # it is cleaned up alike

    async def _answer(self, _request: web.BaseRequest) -> web.Response:
        self._plain = not self._plain
        if self._plain:
            return web.Response(status=503, text=f"upstream connect error: {self.secret}\r\nnext line")
        echoed = {"name": "DB_PASSWORD", "value": self.secret}
        message = f'Deployment.apps "shop" is invalid: spec.template.spec.containers[0].env[0]: {json.dumps(echoed)}'
        return web.json_response({"kind": "Status", "status": "Failure", "message": message}, status=422)


async def ask_cluster(kube: Kube) -> None:
    """Rounds whose work the API server refuses."""
    asked, enough = 0, asyncio.Event()

    async def job() -> float:
        nonlocal asked
        asked += 1
        if asked > 2:
            enough.set()
            await asyncio.Event().wait()
        await kube.get(DEPLOYMENT, "market", "shop")
        return 0.0

    await until(enough, rounds("tend the certificate", job, 0.0))


async def until(enough: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do what does not end by itself."""
    task = asyncio.ensure_future(work)
    await enough.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def work(secret: str) -> None:
    """A reconciliation that fails by a fault of ours."""
    done = asyncio.Event()

    async def job(_key: Any) -> float | None:
        done.set()
        raise KeyError(secret)

    runner = Runner("reconcile", job, 1, Random(1))
    runner.add(ServiceKey("market", "shop"))
    await until(done, runner.run())


async def review(hooks: Hooks, pair: Pair, metrics: AdmissionMetrics, secret: str) -> None:
    """Reviews over TLS: one refused, one for a service that cannot be, one that ends with a fault."""

    async def broken(_: Request) -> Answer:
        raise RuntimeError(f"cannot read {secret}")

    async def refusing(_: Request) -> Answer:
        raise RefusedError(secret)

    server = WebhookServer(
        {
            "/validate": ("novaservices", hooks.validate), "/inject": ("pods", hooks.inject),
            "/broken": ("pods", broken), "/refusing": ("pods", refusing),
        },
        metrics,
    )  # fmt: skip
    server.wear(pair)
    port = await server.start(free_port())
    spec = {"image": "a:1", "ports": [{"port": 80}], secret: 1, "env": [{"name": "A", "value": secret}]}
    service = {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": {"name": secret}, "spec": spec}
    pod = {"metadata": {"name": secret, "labels": {"nova.dev/inject": secret}}, "spec": {"containers": []}}
    for path, document in (("/validate", service), ("/inject", pod), ("/broken", pod), ("/refusing", pod)):
        await post(port, pair, path, secret, document)
    await server.stop()


def free_port() -> int:
    """The server listens by IPv4 and IPv6, which would be two ports if each took any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


async def post(port: int, pair: Pair, path: str, namespace: str, document: Any) -> None:
    """One review on a connection of its own."""
    asked = {"uid": "u-1", "operation": "CREATE", "namespace": namespace, "object": document}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}).encode()
    context = ssl.create_default_context(cadata=pair.authority.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def main() -> None:
    """Each secret through everything."""
    logs.configure("debug")
    metrics = Metrics()
    server = Server()
    runner = await server.start()
    pair = make(("127.0.0.1",), datetime.now(UTC), timedelta(days=1))
    async with access.client(Configuration(host=f"http://127.0.0.1:{server.port}")) as api:
        kube = Kube(api, metrics)
        for secret in json.load(sys.stdin):
            server.secret = secret
            await ask_cluster(kube)
            await work(secret)
            await review(Hooks(kube, DEFAULTS, "Ignore"), pair, metrics.admission, secret)
            logging.getLogger("kopf.objects").warning("Lost %s", secret, exc_info=ValueError(secret))
            log.info("kubernetes event", service="shop", namespace="market", reason="ConfigRejected", note=secret)
    await runner.cleanup()
    for line in generate_latest(metrics.registry).decode().splitlines():
        print(json.dumps({"metric": line}))


if __name__ == "__main__":
    asyncio.run(main())
