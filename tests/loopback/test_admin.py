"""The admin servers: what they say, to whom, and what they do not let anybody do."""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nova_api.proxy import Address, Admin, DrainPolicy, Tls, digest, encode
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimit, RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy, Tenant
from nova_api.units import Duration

from .conftest import StartSidecar
from .support import tokens
from .support.certificates import Authority
from .support.fleet import STORED
from .support.message import request
from .support.peer import Peer
from .support.ports import free_ports
from .support.sidecar import Sidecar, document, inbound, outbound, run_once
from .support.waiting import eventually, holds

APP = ("127.0.0.1", 9)
DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(address: Address, method: str, path: str, headers: Mapping[str, str] = {}) -> Answer:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    try:
        connection.request(method, path, headers=dict(headers))
        found = connection.getresponse()
        return Answer(found.status, dict(found.getheaders()), found.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    running = Sidecar.start(document(inbound(APP), outbound(APP)), tmp_path_factory.mktemp("admin"))
    yield running
    assert running.stop() == 0
    assert not running.complaints()


@pytest.fixture
def status(sidecar: Sidecar) -> Address:
    return sidecar.config.admin.status


@pytest.fixture
def control(sidecar: Sidecar) -> Address:
    return sidecar.config.admin.control


@pytest.mark.parametrize("surface", ["status", "control"])
def test_probes(sidecar: Sidecar, surface: str) -> None:
    address = getattr(sidecar.config.admin, surface)
    assert ask(address, "GET", "/healthz").body == b"ok\n"
    ready = ask(address, "GET", "/readyz")
    assert (ready.status, ready.body) == (200, b"ready\n")
    assert ready.headers["Cache-Control"] == "no-store"


def test_a_probe_may_use_head(status: Address) -> None:
    assert ask(status, "HEAD", "/healthz")[::2] == (200, b"")


def test_status_is_what_the_operator_reads(sidecar: Sidecar, status: Address) -> None:
    found = ask(status, "GET", "/status").json()
    assert found.pop("uptimeSeconds") > 0
    assert found.pop("version")
    assert found.pop("traffic")["requests"] == sidecar.metric("nova_requests_total", direction="inbound")
    assert found == {
        "service": "shop",
        "namespace": "default",
        "configHash": digest(encode(sidecar.config)),
        "generation": 1,
        "lastError": None,
        "ready": True,
        "phase": "serving",
        "inFlight": 0,
        "breakers": {"db": "closed"},
    }


def test_config_is_the_document_byte_for_byte(sidecar: Sidecar, control: Address) -> None:
    assert ask(control, "GET", "/config").body == encode(sidecar.config)


def test_stats_know_ports_and_upstreams(control: Address) -> None:
    found = ask(control, "GET", "/stats").json()
    assert set(found["inbound"]) == {"web"}
    assert set(found["outbound"]) == {"db"}


@pytest.mark.parametrize("path", ["/config", "/stats", "/drain", "/", "/metrics/", "/../config", "//config"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_cluster_reads_nothing_else(status: Address, method: str, path: str) -> None:
    assert ask(status, method, path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/status", "GET"), ("DELETE", "/config", "GET"), ("PUT", "/healthz", "GET"), ("GET", "/drain", "POST")],
)
def test_other_methods(control: Address, method: str, path: str, allowed: str) -> None:
    found = ask(control, method, path)
    assert found.status == 405
    assert found.headers["Allow"] == allowed


@pytest.mark.parametrize("host", ["evil.example", "evil.example:15021", "127.0.0.1.evil.example", "", "10.0.0.1"])
def test_a_rebound_name_reads_nothing(control: Address, host: str) -> None:
    found = ask(control, "GET", "/config", {"Host": host})
    assert found.status == 403
    assert b"shop" not in found.body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:15021", "[::1]"])
def test_names_of_this_machine(control: Address, host: str) -> None:
    assert ask(control, "GET", "/config", {"Host": host}).status == 200


def test_the_cluster_may_use_any_name(status: Address) -> None:
    assert ask(status, "GET", "/healthz", {"Host": "shop-abc.market:15020"}).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:15021"])
def test_a_page_in_a_browser_cannot_drain(sidecar: Sidecar, control: Address, origin: str) -> None:
    assert ask(control, "POST", "/drain", {"Origin": origin}).status == 403
    assert ask(sidecar.config.admin.status, "GET", "/status").json()["phase"] == "serving"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\nHELO\r\n",
    ],
    ids=["long line", "long field", "many fields", "tls", "smtp"],
)
def test_heads_out_of_bounds(sidecar: Sidecar, status: Address, head: bytes) -> None:
    with Peer.connect((status.host, status.port)) as client:
        client.send_if_open(head)
        assert client.expect_closed().startswith(b"HTTP/1.0 400") or client.received.startswith(b"HTTP/1.1 400")
    assert ask(status, "GET", "/healthz").status == 200


def test_silent_connections_do_not_keep_probes_out(status: Address) -> None:
    silent = [socket.create_connection((status.host, status.port)) for _ in range(300)]
    try:
        assert ask(status, "GET", "/healthz").status == 200
    finally:
        for each in silent:
            each.close()


def test_a_scraper_keeps_its_connection(status: Address) -> None:
    connection = http.client.HTTPConnection(status.host, status.port, timeout=5)
    for _ in range(3):
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        first = connection.sock
    assert connection.sock is first
    connection.close()


def test_metrics_as_text_and_as_openmetrics(status: Address) -> None:
    text = ask(status, "GET", "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain")
    openmetrics = ask(status, "GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")

    names = {family.name for family in parse_text(text.body.decode())}
    assert names == {family.name for family in parse_openmetrics(openmetrics.body.decode())}


def _samples(body: bytes) -> dict[tuple[str, ...], float]:
    return {
        (s.name, *(f"{key}={value}" for key, value in sorted(s.labels.items()))): s.value
        for family in parse_text(body.decode())
        for s in family.samples
    }


def test_every_metric_is_documented_and_every_documented_metric_is_there(start: StartSidecar, tmp_path: Path) -> None:
    """With its type and its labels, since alerts are written from the page; some ports have metrics of their own."""
    (tmp_path / "ca.crt").write_bytes(Authority().certificate)
    everything = start(
        document(
            inbound(APP),
            inbound(APP, "calls", protocol="grpc"),
            outbound(APP),
            outbound(APP, "relayed", protocol="tcp"),
            outbound(APP, "secret", tls=Tls(server_name="db", directory=str(tmp_path))),
            affinity=STORED,
            store=STORED.store,
            jwt=tokens.policy(issuers=[tokens.of(None, jwksUrl="http://127.0.0.1:9/keys")], mode="Shadow"),
            cache=CachePolicy(mode="Enforce", tier="Redis"),
            coalescing=CoalescingPolicy(mode="Enforce"),
            idempotency=IdempotencyPolicy(mode="Shadow"),
            pool_guard=PoolGuardPolicy(mode="Shadow"),
            rate_limit=RateLimitPolicy(mode="Enforce", limits=(RateLimit(name="clients", rate=100),)),
            tenancy=TenancyPolicy(mode="Enforce", tenants=(Tenant(name="acme", rate=100),)),
        )
    )
    everything.control("POST", "/pool-guard?pool=main&source=5f0c5f0c5f0c5f0c&held=1&size=2&exhausted=0")
    found = {}
    for family in parse_text(everything.status("/metrics")[1].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    sidecars, _, _ = DOCUMENTED.read_text().partition("## The operator")
    rows = [line.split("|")[1:4] for line in sidecars.splitlines() if line.startswith("| `")]
    documented = {
        name.strip(" `"): (kind.strip(), {label.strip(" `") for label in labels.split(",") if label.strip()})
        for name, kind, labels in rows
    }
    assert found == documented


def test_counters_start_at_zero_and_are_there_before_they_count(status: Address) -> None:
    samples = _samples(ask(status, "GET", "/metrics").body)
    counted = {key: value for key, value in samples.items() if key[0].endswith("_total") and key[0].startswith("nova_")}
    assert ("nova_requests_total", "code=5xx", "direction=outbound", "name=db") in counted
    assert ("nova_rejected_total", "direction=inbound", "name=web", "reason=overloaded") in counted
    assert ("nova_breaker_transitions_total", "cause=consecutive", "from=closed", "to=open", "upstream=db") in counted
    assert not {key for key, value in counted.items() if value}


def test_the_process_is_measured(status: Address) -> None:
    samples = _samples(ask(status, "GET", "/metrics").body)
    assert 0 < samples[("process_cpu_seconds_total",)] < 60
    assert 20e6 < samples[("process_resident_memory_bytes",)] < 100e6
    assert abs(samples[("process_start_time_seconds",)] - time.time()) < 600


def test_counts_of_a_request(start: StartSidecar) -> None:
    sidecar = start(document(inbound(APP)))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
    eventually(lambda: sidecar.metric("nova_requests_total", code="5xx") == 1)
    assert sidecar.metric("nova_rejected_total", reason="connect_failure") == 1
    assert sidecar.metric("nova_request_duration_seconds_count") == 1
    assert sidecar.metric("nova_request_duration_seconds_bucket", le="+Inf") == 1


def test_one_address_for_both_surfaces(start: StartSidecar) -> None:
    both = Address(host="127.0.0.1", port=free_ports(1)[0])
    sidecar = start(document(inbound(APP), admin=Admin(status=both, control=both)))
    assert sidecar.control("GET", "/config")[0] == 200
    assert sidecar.status("/readyz")[0] == 200


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        there, free = Address(host="127.0.0.1", port=port), Address(host="127.0.0.1", port=0)
        ended = run_once(encode(document(admin=Admin(status=there, control=free))), tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"nova-sidecar: $.admin.status: cannot listen on 127.0.0.1:{port} (")
    assert "choose another" in ended.stderr


def test_draining_is_told_everywhere(start: StartSidecar) -> None:
    sidecar = start(document(inbound(APP), drain=DrainPolicy(delay=Duration(1), timeout=Duration(5))))
    status = sidecar.config.admin.status

    begun = ask(sidecar.config.admin.control, "POST", "/drain")

    assert begun.status == 202
    assert begun.json()["phase"] == "leaving"
    assert 5 < begun.json()["secondsLeft"] <= 6
    ready = ask(status, "GET", "/readyz")
    assert (ready.status, ready.body) == (503, b"leaving: this instance is leaving\n")
    assert ask(status, "GET", "/status").json()["ready"] is False
    assert ask(status, "GET", "/healthz").status == 200
    assert sidecar.metric("nova_phase", phase="leaving") == 1
    eventually(lambda: ask(status, "GET", "/status").json()["phase"] == "drained")
    holds(lambda: sidecar.process.poll() is None, for_seconds=0.2)


def test_waiting_for_the_drain_line_by_line(start: StartSidecar) -> None:
    sidecar = start(document(inbound(APP), drain=DrainPolicy(delay=Duration(1.2), timeout=Duration(5))))
    found = ask(sidecar.config.admin.control, "POST", "/drain?wait=true")
    lines = [json.loads(line) for line in found.body.splitlines()]
    assert [line["phase"] for line in lines] == ["leaving", "leaving", "drained"]
    assert lines[-1] == {"phase": "drained", "inFlight": 0, "secondsLeft": 0.0, "complete": True}
