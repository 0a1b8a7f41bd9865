"""One id per request: taken over or made, passed on, echoed and logged, on every answer there is."""

import re

import pytest

from nova_api.policies import BackpressurePolicy, BreakerPolicy, CorrelationPolicy

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.peer import Listener
from .support.ports import free_ports
from .support.sidecar import ONCE, document, inbound, outbound
from .support.waiting import eventually
from .support.wire import Wire

HEADER = "x-correlation-id"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.mark.parametrize("name", ["x-correlation-id", "X-Correlation-ID"])
def test_taken_over(wire: Wire, name: str) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", f"{name}: order-4711.a_b"))

    assert arrived.get(HEADER) == "order-4711.a_b"
    app.send(response())
    assert client.response().get(HEADER) == "order-4711.a_b"


def test_made_where_there_is_none(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request())

    made = arrived.get(HEADER) or ""
    assert UUID.fullmatch(made)
    app.send(response())
    assert client.response().get(HEADER) == made


def test_every_request_gets_its_own(wire: Wire) -> None:
    client = wire.client()
    seen = set()
    for _ in range(200):
        client.send(request())
        app = wire.app()
        seen.add(app.request().get(HEADER))
        app.send(response())
        client.response()
    assert len(seen) == 200


@pytest.mark.parametrize(
    "given",
    ["", "a b", "a" * 129, "a,b", "<script>", "mail@example.com", "ä", 'quote"', "line%0a\ttab"],
    ids=["empty", "space", "long", "comma", "tag", "mail", "umlaut", "quote", "tab"],
)
def test_what_could_do_harm_is_replaced(wire: Wire, given: str) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", f"X-Correlation-Id: {given}"))

    made = arrived.get(HEADER) or ""
    assert UUID.fullmatch(made)
    app.send(response())
    assert client.response().get(HEADER) == made


def test_two_ids_become_one(wire: Wire) -> None:
    """Whoever reads the first and whoever reads the last must read the same."""
    client, app, arrived = wire.arrived(request("GET", "/", "X-Correlation-Id: one", "X-Correlation-Id: two"))

    assert len(arrived.all(HEADER)) == 1
    app.send(response())
    assert client.response().get(HEADER) == arrived.get(HEADER)


def test_the_app_cannot_answer_with_another_one(wire: Wire) -> None:
    answer = wire.answered(request("GET", "/", "X-Correlation-Id: mine"), response("200 OK", "X-Correlation-Id: other"))

    assert answer.all(HEADER) == ["mine"]


@pytest.mark.parametrize("side", ["web", "db"], ids=["inbound", "outbound"])
def test_in_the_log(wire: Wire, side: str) -> None:
    wire.answered(request("GET", "/logged?secret=1", f"X-Correlation-Id: log-{side}"), response(), side)

    line = eventually(lambda: [each for each in wire.sidecar.log if each.get("correlation_id") == f"log-{side}"])[0]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/logged", 200)
    assert "secret" not in wire.sidecar.text


def test_refusals_carry_it(start: StartSidecar) -> None:
    """The caller that got no answer from the app needs the id most."""
    nobody = ("127.0.0.1", free_ports(1)[0])
    sidecar = start(
        document(
            inbound(nobody),
            outbound(nobody, "open", circuit_breaker=BreakerPolicy(mode="ForcedOpen")),
            outbound(nobody, "gone"),
        )
    )
    for name in ("web", "open", "gone"):
        with sidecar.connect(name) as client:
            refusal = client.exchange(request("GET", "/", f"X-Correlation-Id: refused-{name}"))
            assert refusal.status == 503
            assert refusal.get(HEADER) == f"refused-{name}"
            eventually(lambda: [line for line in sidecar.log if line.get("correlation_id") == f"refused-{name}"])  # noqa: B023 - called before the loop goes on


def test_overload_refusals_carry_one(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(inbound(listener.address), backpressure=BackpressurePolicy(max_concurrency=1, threshold=0.5))
    )
    with sidecar.connect() as busy, sidecar.connect() as client:
        busy.send(request())
        listener.accept().request()
        assert UUID.fullmatch(client.exchange(request()).get(HEADER) or "")


def test_malformed_requests_get_one_too(wire: Wire) -> None:
    """Nothing of a malformed head is taken over, not even its id; the answer has one to look for in the log."""
    refusal = wire.refused(b"GET / HTTP/1.1\r\nHost: a\r\nX-Correlation-Id: evil\r\nBad Header: 1\r\n\r\n")

    made = refusal.get(HEADER) or ""
    assert UUID.fullmatch(made)
    eventually(lambda: [line for line in wire.sidecar.log if line.get("correlation_id") == made])


def test_complete_coverage(start: StartSidecar, app: StartApp) -> None:
    """Every line of the access log has an id, whatever became of the request, and there is a line for each."""
    upstream = app(lambda call: response("500 Oops" if "fail" in call.request.target else "200 OK"))
    sidecar = start(document(inbound(upstream.address)))
    sent = 0
    for number in range(30):
        with sidecar.connect() as client:
            for target in ("/ok", "/fail", f"/{number}"):
                client.exchange(request("GET", target))
                sent += 1
            client.exchange(b"BROKEN\r\n\r\n")
            sent += 1

    lines = eventually(lambda: [each for each in sidecar.log if "path" in each][sent - 1 :] and
                       [each for each in sidecar.log if "path" in each])  # fmt: skip
    assert len(lines) == sent
    assert all(line["correlation_id"] for line in lines)
    assert len({line["correlation_id"] for line in lines}) == sent


def test_another_header(start: StartSidecar, app: StartApp) -> None:
    upstream = app()
    sidecar = start(document(inbound(upstream.address), correlation=CorrelationPolicy(header="x-request-id")))
    with sidecar.connect() as client:
        answer = client.exchange(request("GET", "/", "X-Request-Id: r1", "X-Correlation-Id: c1"))

    assert (answer.get("x-request-id"), answer.get(HEADER)) == ("r1", None)
    assert upstream.requests[0].get("x-request-id") == "r1"
    assert upstream.requests[0].get(HEADER) == "c1"  # somebody else's field now


def test_switched_off(start: StartSidecar, app: StartApp) -> None:
    upstream = app()
    sidecar = start(document(inbound(upstream.address, pool=ONCE), correlation=CorrelationPolicy(mode="Off")))
    with sidecar.connect() as client:
        assert client.exchange(request()).get(HEADER) is None
        client.exchange(request("GET", "/", "X-Correlation-Id: through"))

    assert [each.get(HEADER) for each in upstream.requests] == [None, "through"]
