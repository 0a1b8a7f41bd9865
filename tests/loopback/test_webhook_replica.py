"""The webhooks of a replica live apart from its event loop: what Kopf does there, or what blocks it, does no harm."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nova_api import names
from nova_operator.admission.certificates import Stored, make, write
from nova_operator.admission.hooks import Hooks
from nova_operator.admission.replica import Replica
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.desired.defaults import Defaults
from nova_operator.kinds import SECRET, Kind

GIVEN = make(("127.0.0.1",), datetime.now(UTC), timedelta(days=1))
DEFAULTS = Defaults(sidecar_image="nova/sidecar:1", sidecar_requests={"cpu": "50m"})
POD = {"metadata": {"labels": {names.LABEL_INJECT: "shop"}}, "spec": {"containers": [{"name": "app"}]}}
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u-1", "operation": "CREATE", "namespace": "market", "object": POD},
}


class Slow:
    """A cluster with a certificate, in which a NovaService is not there as slowly as a test wants."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    async def get(self, kind: Kind, _namespace: str, _name: str) -> dict[str, Any] | None:
        if kind is SECRET:
            return write({}, Stored(GIVEN))
        self.asked.set()
        while not self.go_on.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.01)
        return None


def replica(cluster: Slow, ready: threading.Event) -> Replica:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        yield cluster

    metrics = AdmissionMetrics(CollectorRegistry())
    return Replica(connect, lambda one: Hooks(one, DEFAULTS, "Ignore"), metrics, "n", "s", poll=1.0, ready=ready.set)


def ask(port: int) -> dict[str, Any]:
    context = ssl.create_default_context(cadata=GIVEN.authority.decode())
    connection = HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request("POST", "/inject", json.dumps(REVIEW), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())["response"]
    finally:
        connection.close()
    return answer


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_review_outlives_the_tasks_of_the_loop_and_a_loop_that_stands_still() -> None:
    """Kopf, when it stops, ends what is younger than itself; here everything is, and the loop is blocked as well."""
    cluster, ready, port = Slow(), threading.Event(), free_port()

    async def run(pool: ThreadPoolExecutor) -> dict[str, Any]:
        one = replica(cluster, ready)
        await one.start(port)
        assert await asyncio.to_thread(ready.wait, 20)
        asked = pool.submit(ask, port)
        assert cluster.asked.wait(20)  # blocks the loop
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        cluster.go_on.set()
        answer = asked.result(20)  # blocks it again, until the answer is there
        await one.close()
        return answer

    with ThreadPoolExecutor() as pool:
        answer = asyncio.run(run(pool))
    assert answer["allowed"] is True
    assert "there is no NovaService shop" in answer["warnings"][0]


def test_what_was_asked_is_answered_before_it_ends() -> None:
    cluster, ready, port = Slow(), threading.Event(), free_port()

    async def run(pool: ThreadPoolExecutor) -> dict[str, Any]:
        one = replica(cluster, ready)
        await one.start(port)
        assert await asyncio.to_thread(ready.wait, 20)
        asked = pool.submit(ask, port)
        assert await asyncio.to_thread(cluster.asked.wait, 20)
        closing = asyncio.create_task(one.close())
        while _listens(port):  # noqa: ASYNC110 - a socket tells nobody that it no longer listens
            await asyncio.sleep(0.01)
        cluster.go_on.set()
        await closing
        return await asyncio.wrap_future(asked)

    with ThreadPoolExecutor() as pool:
        assert asyncio.run(run(pool))["allowed"] is True


def test_a_port_that_is_taken_is_told_where_it_was_asked_for() -> None:
    async def run(port: int) -> None:
        one = replica(Slow(), threading.Event())
        with pytest.raises(OSError, match="in use"):
            await one.start(port)
        await one.close()

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        asyncio.run(run(taken.getsockname()[1]))


def _listens(port: int) -> bool:
    """Asked without a connection, which would still be in its handshake when the server ends."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # fails beside a listener, not beside connections
        try:
            other.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False
