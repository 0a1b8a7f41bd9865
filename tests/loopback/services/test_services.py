"""The reference services as they run in a pod: real processes, real sockets."""

import http.client
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from .process import Service, running


@pytest.fixture(scope="module")
def catalog() -> Iterator[Service]:
    """A catalog that serves 40 requests a second: two slots of 50 ms."""
    with running("catalog", "--slots", "2", "--service-time-ms", "50") as service:
        yield service


@pytest.fixture(scope="module")
def storefront(catalog: Service) -> Iterator[Service]:
    with running("storefront", "--catalog-url", f"http://127.0.0.1:{catalog.port}") as service:
        yield service


def test_the_page_has_the_catalogs_items(storefront: Service) -> None:
    answer = storefront.call("/")
    assert answer.status == 200
    assert [item["id"] for item in answer.body["catalog"]["items"]] == ["tea", "cup", "pot"]


def test_one_id_is_in_both_logs_and_in_the_answer(storefront: Service, catalog: Service) -> None:
    identity = f"test-{uuid.uuid4()}"
    answer = storefront.call("/?token=secret", x_correlation_id=identity)
    assert answer.headers["x-correlation-id"] == identity
    line = storefront.line("request", correlation_id=identity)
    assert (line["service"], line["method"], line["path"], line["status"]) == ("storefront", "GET", "/", 200)
    assert "secret" not in str(line)
    assert catalog.line("request", correlation_id=identity)["path"] == "/items"


def test_an_id_is_made_where_there_is_none_or_a_harmful_one(catalog: Service) -> None:
    for headers in ({}, {"x_correlation_id": "jane@example.org"}):
        made = catalog.call("/healthz", **headers).headers["x-correlation-id"]
        assert uuid.UUID(made).version == 4


def test_an_unknown_path_is_answered_with_an_id_too(catalog: Service) -> None:
    answer = catalog.call("/nowhere", x_correlation_id="lost")
    assert (answer.status, answer.headers["x-correlation-id"]) == (404, "lost")
    assert catalog.line("request", correlation_id="lost")["status"] == 404


def test_faults_are_switched_on_and_off(catalog: Service, storefront: Service) -> None:
    assert catalog.call("/faults", "POST", {"mode": "errors", "errorRate": 1}).status == 200
    try:
        assert catalog.call("/items").status == 500
        failed = storefront.call("/")
        assert (failed.status, failed.body["reason"]) == (502, "status 500")
        assert catalog.call("/healthz").status == 200
        catalog.call("/faults", "POST", {"mode": "slow", "latencyMs": 200})
        start = time.monotonic()
        assert catalog.call("/items").status == 200
        assert time.monotonic() - start >= 0.25
    finally:
        assert catalog.call("/faults", "POST", {"mode": "off"}).body == {"mode": "off"}
    assert storefront.call("/").status == 200


def test_the_catalog_says_what_it_was_asked_and_what_may_be_kept(catalog: Service) -> None:
    before = catalog.call("/answered").body["answered"]
    assert catalog.call("/items").headers["cache-control"] == "public, max-age=60"
    assert catalog.call("/answered").body == {"answered": before + 1}


def test_a_wrong_fault_is_refused_and_changes_nothing(catalog: Service) -> None:
    answer = catalog.call("/faults", "POST", {"mode": "slow", "latencyMs": "long"})
    assert answer.status == 400
    assert "$.latencyMs" in answer.body["error"]
    assert catalog.call("/items").status == 200


def test_work_beyond_the_capacity_queues_up(catalog: Service) -> None:
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: catalog.call("/items").status, range(8)))
    assert statuses == [200] * 8
    assert time.monotonic() - start >= 0.2  # 8 requests, two at a time, 50 ms each


class Refusing(BaseHTTPRequestHandler):
    """Answers as a sidecar whose breaker is open."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("x-nova-reject", "circuit_open")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_storefront_passes_on_why_the_sidecar_refused(refusing: str) -> None:
    with running("storefront", "--catalog-url", refusing) as storefront:
        answer = storefront.call("/")
    assert (answer.status, answer.headers["x-nova-reject"]) == (503, "circuit_open")
    assert answer.body["reason"] == "circuit_open"


def test_the_storefront_lives_without_a_catalog() -> None:
    with running("storefront", "--catalog-url", "http://127.0.0.1:1") as storefront:
        answer = storefront.call("/")
        assert (answer.status, answer.body["reason"]) == (502, "unreachable")
        assert storefront.line("catalog unreachable")["error"] == "ClientConnectorError"
        assert storefront.call("/healthz").status == 200


def test_a_port_that_is_taken_is_said_in_a_line(catalog: Service) -> None:
    words = ["catalog", "--host", "127.0.0.1", "--port", str(catalog.port)]
    done = subprocess.run(
        [sys.executable, "-m", "nova_services", *words], capture_output=True, text=True, timeout=40, check=False
    )
    said = f"port {catalog.port} of 127.0.0.1 cannot be listened on: Address already in use"
    assert (done.returncode, done.stderr) == (1, f"nova_services catalog: {said}\n")


def test_sigterm_lets_requests_in_flight_finish() -> None:
    with running("catalog", "--service-time-ms", "600") as service:
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
            connection.request("GET", "/items")
            assert service.call("/healthz").status == 200  # accepted later, so the request before it is in hand
            service.terminate()
            service.line("stopping")
            assert connection.getresponse().status == 200
        assert service.process.wait(timeout=10) == 0
        service.line("stopped")
        with pytest.raises(ConnectionRefusedError):
            service.call("/healthz")


@pytest.mark.parametrize("arguments", [[], ["shop"], ["catalog", "--port", "70000"], ["catalog", "--slots", "0"]])
def test_a_wrong_command_line_is_refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    from nova_services.__main__ import main  # noqa: PLC0415 - the process is tested above, its usage here

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m nova_services" in capfd.readouterr().err


def test_load_goes_on_until_whoever_started_it_has_enough(catalog: Service) -> None:
    command = [sys.executable, "-m", "nova_services.load", "run", "--rate=30", "--seconds=50", "--until-eof"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{catalog.port}/items"], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        catalog.line("request", path="/items")
        output, _ = process.communicate(timeout=30)
    report = json.loads(output)
    assert 0 < report["requests"] < 30 * 50
    assert report["statuses"] == {"200": report["requests"]}


def test_load_carries_the_headers_it_is_given() -> None:
    class Noting(Refusing):
        """Remembers who called."""

        seen: ClassVar[list[str | None]] = []

        def do_GET(self) -> None:
            self.seen.append(self.headers["authorization"])
            super().do_GET()

    with HTTPServer(("127.0.0.1", 0), Noting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        command = [sys.executable, "-m", "nova_services.load", "run", "--rate=50", "--seconds=0.1"]
        url = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run(
            [*command, "--header=authorization:Bearer a.b.c", url], capture_output=True, check=True, timeout=30
        )
        server.shutdown()
        thread.join()
    assert json.loads(done.stdout)["rejects"] == {"circuit_open": 5}
    assert Noting.seen == ["Bearer a.b.c"] * 5
