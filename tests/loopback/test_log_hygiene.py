"""Secrets and personal data, pushed over real sockets through everything that logs, counts or traces; none comes out.

The table is every kind once through every place; the random ones are drawn anew on each run.
"""

import contextlib
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from nova_api.policies import BreakerPolicy, RetryPolicy, TracingPolicy
from nova_api.units import Share
from nova_sidecar.telemetry.logs import VOCABULARY
from tests.secrets import ANY, TABLE, Secret

from .conftest import StartApp, StartSidecar
from .services.process import Service, running
from .support.collector import Collector
from .support.grpcapp import GrpcApp, GrpcClient
from .support.grpcapp import request as grpc_request
from .support.message import request
from .support.peer import Ended, Listener
from .support.ports import free_ports
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually

ECHOING: Final = Path(__file__).with_name("support") / "echoing.py"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
RANDOM: Final = 15
"""Random secrets; each goes through every place."""
METHODS: Final = frozenset("!#$%&'*+-.^_`|~")


pytestmark = pytest.mark.timeout(180)


def drawn(count: int) -> list[Secret]:
    """So many random secrets."""
    found: list[Secret] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(ANY)
    def draw(secret: Secret) -> None:
        found.append(secret)

    draw()
    return found


@pytest.fixture(scope="module")
def secrets() -> list[Secret]:
    return [*TABLE, *drawn(RANDOM)]


def leaked(secrets: Iterable[Secret], *outputs: str) -> list[tuple[str, str, str]]:
    """Kind, text and the line it was found in."""
    return [
        (secret.kind, secret.text, line)
        for output in outputs
        for line in output.splitlines()
        for secret in secrets
        if secret.found_in(line)
    ]


def in_a_line(text: str) -> str:
    """As the value of a field: visible ASCII and blanks."""
    return urllib.parse.quote(text, safe=" !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~")


def in_a_path(text: str) -> str:
    """As a part of a path, as it is where it may stand there, else percent-encoded."""
    return urllib.parse.quote(text, safe="!$&'()*+,;=:@/%")


def targets(text: str) -> Sequence[str]:
    whole = urllib.parse.quote(text, safe="")
    return (f"/users/{in_a_path(text)}", f"/a?b={whole}&{whole}=1", f"/users/{whole}/orders", f"/{whole}")


def push(sidecar: Sidecar, port: str, secret: Secret) -> None:
    """Through every part of a request, well formed or not."""
    text, line = secret.text, in_a_line(secret.text)
    sampled = f"traceparent: 00-{TRACE}-01"
    for target in targets(text):
        ask(sidecar, port, request("GET", target, sampled))
    fields = (
        f"X-Correlation-Id: {line}", f"Authorization: {line}", f"Cookie: {line}", f"X-Api-Key: {line}",
        f"tracestate: vendor={line}", f"User-Agent: {line}", f"X-Forwarded-For: {line}",
        f"x-request-timeout-ms: {line}",
        f"{''.join(each for each in text if each.isalnum() and each.isascii())}: 1",
    )  # fmt: skip
    for field in fields:
        ask(sidecar, port, request("GET", "/", field, sampled))
    method = "".join(each for each in text if (each.isalnum() and each.isascii()) or each in METHODS)
    for head in (
        f"{method} / HTTP/1.1\r\nHost: x\r\n{sampled}\r\n\r\n",
        f"GET {line} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {line}\r\n\r\n",
        f"GET / {line}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n",
        f"POST /{in_a_path(text)} HTTP/1.1\r\nHost: x\r\nContent-Length: {line}\r\n\r\n",
    ):
        ask(sidecar, port, head.encode())


def ask(sidecar: Sidecar, port: str, data: bytes) -> None:
    """Send it; whatever comes back, or that the connection is closed, is fine."""
    with sidecar.connect(port) as client:
        client.send(data)
        client.finish()
        with contextlib.suppress(Ended, ConnectionError):
            client.response(data.split(b" ", 1)[0].decode())


def call(channel: GrpcClient, secret: Secret) -> None:
    """A gRPC call with the secret in its method, its metadata and the message of its status."""
    line = in_a_line(secret.text)
    metadata = (("correlation-id", line), ("authorization", line), ("traceparent", f"00-{TRACE}-01"))
    method = channel.channel.unary_unary(f"/{in_a_path(secret.text)}/Do")
    for made in (lambda: method(b"", metadata=metadata, timeout=10), lambda: failing(channel, line, metadata)):
        with pytest.raises(grpc.RpcError):
            made()


def failing(channel: GrpcClient, line: str, metadata: Sequence[tuple[str, str]]) -> None:
    channel.unary(grpc_request(status=3, message=line), metadata=metadata, timeout=10)


def test_the_sidecar_logs_counts_and_traces_none_of_them(
    start: StartSidecar, app: StartApp, listener: Listener, secrets: list[Secret]
) -> None:
    collector, grpc_app = Collector(), GrpcApp()
    off = {"circuit_breaker": BreakerPolicy(mode="Off"), "retry": RetryPolicy(mode="Off")}
    sidecar = start(
        document(
            inbound(app().address),
            inbound(grpc_app.address, "calls", protocol="grpc"),
            outbound(("127.0.0.1", free_ports(1)[0]), "dead", **off),
            outbound(listener.address, "odd", **off),
            tracing=TracingPolicy(mode="Enforce", endpoint=collector.endpoint, sample=Share(1.0)),
            log_level="debug",
        )
    )
    try:
        with GrpcClient(sidecar.address("calls")) as channel:
            for secret in secrets:
                push(sidecar, "web", secret)
                call(channel, secret)
        for secret in secrets:
            ask(sidecar, "dead", request("GET", targets(secret.text)[0]))
            answer_oddly(sidecar, listener, secret)
        admin = [admin_pages(sidecar, secret) for secret in secrets]
        eventually(lambda: sidecar.stats()["tracing"]["pending"] == 0, within=30)
        said = sidecar.status("/metrics")[1].decode() + json.dumps(sidecar.stats())
    finally:
        grpc_app.stop()
        collector.close()
    traced = "\n".join(f"{span.name} {json.dumps(span.attributes)} {span.events}" for span in collector.spans)
    assert len(collector.spans) > 5 * len(secrets)
    assert len([line for line in sidecar.log if line["event"] == "exchange"]) > 15 * len(secrets)
    assert leaked(secrets, sidecar.text, said, traced, *admin) == []
    assert leaked(secrets, b"\n".join(collector.bodies).decode("latin-1")) == []
    assert {name for line in sidecar.log for name in line} <= set(VOCABULARY)
    assert sidecar.text.isascii() or all(line.isprintable() for line in sidecar.text.splitlines())
    assert max(map(len, sidecar.text.splitlines())) < 8192


def answer_oddly(sidecar: Sidecar, listener: Listener, secret: Secret) -> None:
    """An upstream that answers with the secret in place of HTTP, or in its status line."""
    line = in_a_line(secret.text).encode()
    for answer in (b"HTTP/1.1 200 " + line + b"\r\nContent-Length: 0\r\n" + line + b"\r\n\r\n", line + b"\r\n\r\n"):
        with sidecar.connect("odd") as client:
            client.send(request("GET", "/odd"))
            upstream = listener.accept()
            upstream.request()
            upstream.send(answer)
            upstream.close()
            assert client.response().status in {200, 502}


def admin_pages(sidecar: Sidecar, secret: Secret) -> str:
    """What the admin surface answers to a path that is none."""
    return sidecar.status(f"/{in_a_path(secret.text)}")[1].decode()


def test_the_operator_logs_and_counts_none_of_them(secrets: list[Secret]) -> None:
    given = json.dumps([secret.text for secret in secrets])
    done = subprocess.run(
        [sys.executable, "-P", ECHOING], input=given, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    for event in ("work postponed", "work failed", "admission refused", "sidecar not injected", "review failed",
                  "library message", "kubernetes event"):  # fmt: skip
        assert events.count(event) >= len(secrets), event
    assert leaked(secrets, done.stdout) == []
    assert all(line.isprintable() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def catalog() -> Any:
    with running("catalog") as service:
        yield service


def test_the_services_log_none_of_them(catalog: Service, secrets: list[Secret]) -> None:
    seen = []
    for number, secret in enumerate(secrets):
        for target in targets(secret.text):
            catalog.call(target)
        catalog.call("/items", x_correlation_id=in_a_line(secret.text).encode("ascii", "replace").decode())
        catalog.call("/faults", "POST", {"mode": in_a_line(secret.text)})
        catalog.call("/items", x_correlation_id=f"last-{number}")
        seen += until(catalog, f"last-{number}")
    assert len(seen) > 5 * len(secrets)
    assert leaked(secrets, "\n".join(json.dumps(line, ensure_ascii=False) for line in seen)) == []


def until(service: Service, identity: str) -> list[dict[str, Any]]:
    """The lines up to the one of this request."""
    found: list[dict[str, Any]] = []
    while not found or found[-1].get("correlation_id") != identity:
        found.append(service.line("request"))
    return found
