"""After much traffic of every kind the process is as it was: no connection, no descriptor, no memory left behind."""

from nova_api.policies import PoolPolicy
from nova_api.units import Duration, Share

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.message import chunked, request, response
from .support.sidecar import document, inbound, outbound
from .support.waiting import eventually

SHORT = PoolPolicy(idle_timeout=Duration(0.2), jitter=Share(0))


def test_everything_comes_back(start: StartSidecar, app: StartApp) -> None:
    def answer(call: Call) -> bytes:
        if call.request.target == "/chunked":
            return response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"x" * 10_000, b"y")
        return response("500 Oops" if call.request.target == "/500" else "200 OK", body=b"x" * 10_000)

    upstream = app(answer)
    sidecar = start(document(inbound(upstream.address, pool=SHORT), outbound(upstream.address, pool=SHORT)))

    def traffic(rounds: int) -> None:
        for turn in range(rounds):
            for name in ("web", "db"):
                with sidecar.connect(name) as client:
                    for target in ("/", "/chunked", "/500") if turn % 10 == 0 else ("/", "/chunked", f"/{turn}"):
                        client.exchange(request("POST", target, body=b"b" * 1000))
                    client.send(request("GET", "/") + b"garbage" if turn % 3 else request("GET", "/unread"))
                    if turn % 2:
                        client.reset()

    def idle() -> bool:
        return sidecar.metric("nova_requests_in_flight") == 0 and sidecar.sockets <= sockets

    sockets = sidecar.sockets
    traffic(150)
    eventually(idle)
    settled = sidecar.rss

    traffic(450)

    eventually(idle)
    assert sidecar.metric("nova_downstream_connections") == 0
    assert sidecar.rss - settled < 4 << 20
    eventually(
        lambda: sidecar.metric("nova_connections_closed_total") == sidecar.metric("nova_connections_opened_total")
    )
