"""What callers get of an upstream that has died: the last good answer, a fixed one, or the error."""

import json
from functools import partial
from typing import Any

import msgspec
import pytest

from nova_api.policies import BackoffPolicy, BreakerPolicy, FallbackPolicy, RetryPolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.app import App, Call
from .support.message import Message, chunked, request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, outbound, with_fields
from .support.waiting import eventually

KEEPS = FallbackPolicy(mode="Enforce", stale_for=Duration(60))
FIXED = FallbackPolicy(mode="Enforce", body='{"items":[]}')
BOTH = FallbackPolicy(mode="Enforce", stale_for=Duration(60), body="[]", status=203, content_type="text/x-fixed")
QUICK = RetryPolicy(attempts=2, backoff=BackoffPolicy(base=Duration(0.001), max=Duration(0.001)))


def in_front_of(address: tuple[str, int], fallback: FallbackPolicy, **fields: Any) -> ProxyConfig:
    """An outbound with this fallback, without a breaker in the way."""
    defaults: dict[str, Any] = {
        "pool": ONCE,
        "circuit_breaker": BreakerPolicy(mode="Off"),
        "retry": QUICK,
        "timeout": TimeoutPolicy(request=Duration(2), attempt=Duration(0.3), connect=Duration(0.3)),
    }
    return document(outbound(address, fallback=fallback, **(defaults | fields)))


def kind(message: Message) -> str | None:
    return message.get("x-nova-fallback")


def dying(start: StartSidecar, app: StartApp, fallback: FallbackPolicy, first: bytes) -> tuple[Sidecar, App]:
    """A sidecar in front of an app that gives one answer and then 500s."""

    def answer(_: Call) -> bytes:
        return first if len(it.calls) == 1 else response("500 Broken", body=b"trace")

    it = app(answer)
    return start(in_front_of(it.address, fallback)), it


def test_the_last_good_answer(start: StartSidecar, app: StartApp) -> None:
    good = response("200 OK", "Content-Type: text/plain", "Age: 5", "X-Version: 7", body=b"good")
    sidecar, it = dying(start, app, KEEPS, good)
    with sidecar.connect() as client:
        fresh = client.exchange(request("GET", "/list?page=1"))
        assert (fresh.status, kind(fresh)) == (200, None)
        it.stop()
        stale = client.exchange(request("GET", "/list?page=1"))
        head = client.exchange(request("HEAD", "/list?page=1"), "HEAD")
        other = client.exchange(request("GET", "/list?page=2"))

    assert (stale.status, stale.body, kind(stale)) == (200, b"good", "stale")
    assert (stale.get("content-type"), stale.get("x-version")) == ("text/plain", "7")
    assert 5 <= int(stale.get("age") or 0) <= 15
    assert stale.get("x-nova-reject") is None
    assert stale.get("x-correlation-id") != fresh.get("x-correlation-id")
    assert (head.status, head.get("content-length"), kind(head)) == (200, "4", "stale")
    assert (other.status, other.get("x-nova-reject")) == (503, "connect_failure")
    assert sidecar.metric("nova_fallbacks_total", kind="stale") == 2
    assert sidecar.metric("nova_rejected_total", reason="connect_failure") == 1
    assert sidecar.metric("nova_fallback_kept_bytes") > 0
    lines = eventually(lambda: [each for each in sidecar.log if each.get("path") == "/list"][3:])
    assert lines
    logged = [(each["status"], each["reason"]) for each in sidecar.log if each.get("path") == "/list"]
    assert logged == [(200, ""), (200, "connect_failure"), (200, "connect_failure"), (503, "connect_failure")]


def test_the_answer_to_a_get_with_content_is_never_the_last_good_one(start: StartSidecar, app: StartApp) -> None:
    """What goes on of its head, where the content comes in chunks, is the same as of a plain one."""

    def answer(call: Call) -> bytes:
        return response("200 OK", body=b"fat" if call.request.body else b"good")

    it = app(answer)
    sidecar = start(in_front_of(it.address, KEEPS))
    with sidecar.connect() as client:
        plain = request("GET", "/list")
        fat = request("GET", "/list", "Transfer-Encoding: chunked") + chunked(b"what?")
        bodies = [client.exchange(each).body for each in (plain, plain, fat)]
        it.stop()
        stale = client.exchange(plain)
        nothing = client.exchange(fat)
    assert bodies == [b"good", b"good", b"fat"]
    assert (stale.body, kind(stale)) == (b"good", "stale")
    assert (nothing.status, kind(nothing)) == (503, None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuse", "connect_failure"),
        ("reset", "upstream_reset"),
        ("stall", "attempt_timeout"),
        ("garbage", "bad_response"),
        ("500", "upstream_error"),
        ("500 chunked", "upstream_error"),
        ("503", "upstream_error"),
    ],
)
def test_every_way_to_fail(start: StartSidecar, listener: Listener, fault: str, reason: str) -> None:
    sidecar = start(in_front_of(listener.address, FIXED, retry=RetryPolicy(mode="Off")))
    with sidecar.connect() as client:
        if fault == "refuse":
            listener.close()
        client.send(request())
        if fault != "refuse":
            it = listener.accept()
            it.request()
        if fault == "reset":
            it.reset()
        elif fault == "garbage":
            it.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        elif fault == "500 chunked":
            it.send(response("500 Oops", "Transfer-Encoding: chunked", body=None) + chunked(b"trace")[:-5])
        elif fault not in {"stall", "refuse"}:
            it.send(response(f"{fault} Oops", body=b"trace"))
        answer = client.response()
        assert (answer.status, answer.body, kind(answer)) == (200, b'{"items":[]}', "static")
        assert answer.get("content-type") == "application/json"
        assert answer.get("date") is not None
    line = eventually(lambda: [each for each in sidecar.log if each.get("event") == "exchange"])
    assert (line[0]["status"], line[0]["reason"]) == (200, reason)
    assert sidecar.metric("nova_fallbacks_total", kind="static") == 1
    assert sidecar.metric("nova_requests_in_flight") == 0
    assert sidecar.metric("nova_pool_connections", state="active") == 0


def test_an_open_breaker_has_a_fallback(start: StartSidecar, app: StartApp) -> None:
    it = app(lambda _: response("500 Down"))
    sidecar = start(in_front_of(it.address, FIXED, circuit_breaker=BreakerPolicy(failure_threshold=2)))
    with sidecar.connect() as client:
        for _ in range(5):
            assert kind(client.exchange(request())) == "static"
    assert len(it.calls) == 2
    assert sidecar.metric("nova_breaker_state", state="open") == 1


def test_the_callers_deadline_ends_in_a_fallback(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(in_front_of(listener.address, FIXED))
    with sidecar.connect() as client:
        client.send(request("GET", "/", "x-nova-deadline-ms: 150"))
        listener.accept()
        assert kind(client.response()) == "static"


def test_a_kept_answer_before_the_fixed_one(start: StartSidecar, app: StartApp) -> None:
    sidecar, _ = dying(start, app, BOTH, response(body=b"good"))
    with sidecar.connect() as client:
        client.exchange(request("GET", "/known"))
        assert kind(client.exchange(request("GET", "/known"))) == "stale"
        fixed = client.exchange(request("GET", "/unknown"))
    assert (fixed.status, fixed.body, fixed.get("content-type"), kind(fixed)) == (203, b"[]", "text/x-fixed", "static")


def test_retries_come_first(start: StartSidecar, app: StartApp) -> None:
    it: App = app(lambda _: response("200 OK" if len(it.calls) == 2 else "503 Busy", body=b"real"))
    sidecar = start(in_front_of(it.address, FIXED))
    with sidecar.connect() as client:
        answer = client.exchange(request())
    assert (answer.body, kind(answer)) == (b"real", None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_is_made_up_for_what_changes_something(start: StartSidecar, app: StartApp, method: str) -> None:
    it = app(lambda _: response("500 Broken"))
    sidecar = start(in_front_of(it.address, BOTH))
    with sidecar.connect() as client:
        answer = client.exchange(request(method, "/orders", body=b"1 bike"))
    assert (answer.status, kind(answer)) == (500, None)


def test_the_callers_own_faults_have_no_fallback(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(in_front_of(listener.address, FIXED))
    with sidecar.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = client.response()
    assert (answer.status, kind(answer)) == (400, None)


@pytest.mark.parametrize("framing", ["chunked", "close", "pieces"])
def test_answers_in_pieces_are_kept_whole(start: StartSidecar, listener: Listener, framing: str) -> None:
    body = bytes(range(256)) * 40
    sidecar = start(in_front_of(listener.address, KEEPS, retry=RetryPolicy(mode="Off")))
    with sidecar.connect() as client:
        client.send(request())
        it = listener.accept()
        it.request()
        if framing == "chunked":
            it.send(response("200 OK", "Transfer-Encoding: chunked", body=None))
            it.send(chunked(body[:100], body[100:], trailers=["X-Sum: 1"]))
        elif framing == "close":
            it.send(response("200 OK", body=None) + body)
        else:
            it.send(response("200 OK", body=body)[:-1])
            client.head()
            client.read_exactly(len(body) - 1)
            it.send(body[-1:])
        it.close()
        if framing == "pieces":
            assert client.read_exactly(1) == body[-1:]
        else:
            assert client.response().body == body
        listener.close()
    with sidecar.connect() as client:
        answer = client.exchange(request())
        assert (answer.body, answer.get("transfer-encoding"), kind(answer)) == (body, None, "stale")


def test_half_an_answer_is_not_kept(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(in_front_of(listener.address, KEEPS, retry=RetryPolicy(mode="Off")))
    with sidecar.connect() as client:
        client.send(request())
        it = listener.accept()
        it.request()
        it.send(response("200 OK", "Content-Length: 100", body=None) + b"half")
        client.head()
        client.read_until(b"half")
        it.reset()
        client.expect_closed()
    listener.close()
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
    assert sidecar.metric("nova_fallback_kept_bytes") == 0


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        (["Authorization: Bearer x"], ""),
        (["Cookie: a=b"], ""),
        ([], "Set-Cookie: a=b"),
        ([], "Cache-Control: private"),
        ([], "Cache-Control: no-store"),
        ([], "Vary: *"),
    ],
)
def test_what_belongs_to_somebody_is_not_kept(start: StartSidecar, app: StartApp, lines: list[str], field: str) -> None:
    sidecar, _ = dying(start, app, KEEPS, response("200 OK", *filter(None, [field]), body=b"yours"))
    with sidecar.connect() as client:
        assert client.exchange(request("GET", "/", *lines)).body == b"yours"
        for mine in (lines, []):
            assert client.exchange(request("GET", "/", *mine)).status == 500
    assert sidecar.metric("nova_fallback_kept_bytes") == 0


def test_a_kept_answer_is_not_given_to_somebody_with_credentials(start: StartSidecar, app: StartApp) -> None:
    sidecar, _ = dying(start, app, KEEPS, response(body=b"for all"))
    with sidecar.connect() as client:
        client.exchange(request())
        assert client.exchange(request("GET", "/", "Cookie: me")).status == 500
        assert client.exchange(request()).body == b"for all"


def test_variants_and_tenants_are_told_apart(start: StartSidecar, app: StartApp) -> None:
    sidecar, _ = dying(start, app, KEEPS, response("200 OK", "Vary: Accept-Language", body=b"hallo"))
    german = ["Accept-Language: de", "X-Tenant-Id: blue"]
    with sidecar.connect() as client:
        client.exchange(request("GET", "/", *german))
        assert client.exchange(request("GET", "/", *german)).body == b"hallo"
        for lines in (["Accept-Language: en", german[1]], [german[1]], [german[0]], [german[0], "X-Tenant-Id: red"]):
            assert client.exchange(request("GET", "/", *lines)).status == 500, lines


def test_too_old_is_not_answered(start: StartSidecar, app: StartApp) -> None:
    sidecar, _ = dying(start, app, FallbackPolicy(mode="Enforce", stale_for=Duration(0.2)), response(body=b"good"))
    with sidecar.connect() as client:
        client.exchange(request())
        eventually(lambda: client.exchange(request()).status == 500)
    assert sidecar.metric("nova_fallback_kept_bytes") == 0


def test_memory_is_bounded_and_large_answers_pass(start: StartSidecar, app: StartApp) -> None:
    size, limit = 3_000, 40_000
    it = app(lambda call: response(body=b"x" * (limit if call.request.target == "/large" else size)))
    sidecar = start(in_front_of(it.address, FallbackPolicy(mode="Enforce", stale_for=Duration(60), max_bytes=limit)))
    with sidecar.connect() as client:
        assert len(client.exchange(request("GET", "/large")).body) == limit
        for number in range(30):
            client.exchange(request("GET", f"/{number}"))
        assert 0 < sidecar.metric("nova_fallback_kept_bytes") <= limit
        it.stop()
        answers = {n: client.exchange(request("GET", f"/{n}")).status for n in ("large", 0, 15, 28, 29)}
    assert answers == {"large": 503, 0: 503, 15: 503, 28: 200, 29: 200}


def test_shadow_counts_and_answers_nothing(start: StartSidecar, app: StartApp) -> None:
    policy = FallbackPolicy(mode="Shadow", stale_for=Duration(60), body="[]")
    sidecar, _ = dying(start, app, policy, response(body=b"good"))
    with sidecar.connect() as client:
        client.exchange(request())
        for target in ("/", "/other"):
            answer = client.exchange(request("GET", target))
            assert (answer.status, answer.body, kind(answer)) == (500, b"trace", None)
    for each in ("stale", "static"):
        assert sidecar.metric("nova_shadow_fallbacks_total", kind=each) == 1
        assert sidecar.metric("nova_fallbacks_total", kind=each) == 0


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body(start: StartSidecar, app: StartApp, status: int) -> None:
    policy = FallbackPolicy(mode="Enforce", status=status, body="never sent")
    sidecar = start(in_front_of(app(lambda _: response("500 Broken")).address, policy))
    with sidecar.connect() as client:
        for _ in range(2):
            answer = client.exchange(request())
            assert (answer.status, answer.get("content-length"), kind(answer)) == (status, None, "static")


def answers(client: Peer, expected: str | None) -> bool:
    """Whether this kind of fallback is what a client gets now."""
    return kind(client.exchange(request())) == expected


def test_a_reload_switches_it(start: StartSidecar, app: StartApp) -> None:
    sidecar, _ = dying(start, app, KEEPS, response(body=b"good"))
    config = sidecar.config
    with sidecar.connect() as client:
        client.exchange(request())
        assert kind(client.exchange(request())) == "stale"
        for policy, expected in ((FallbackPolicy(), None), (FIXED, "static")):
            changed = msgspec.structs.replace(config.outbound[0], fallback=policy)
            sidecar.reload(with_fields(config, outbound=(changed,)))
            eventually(partial(answers, client, expected))
    shown = json.loads(sidecar.control("GET", "/stats")[1])["outbound"]["db"]["fallback"]
    assert shown == {"mode": "Enforce", "keptResponses": 0, "keptBytes": 0}


def test_long_questions_take_their_place_in_the_memory(start: StartSidecar, app: StartApp) -> None:
    """A thousand short answers to long targets: what bounds the memory counts the targets, too."""
    it = app(lambda _: response("200 OK", "Vary: X-Long", body=b"1"))
    limit = 64 * 1024
    policy = FallbackPolicy(mode="Enforce", stale_for=Duration(60), max_bytes=limit)
    sidecar = start(document(outbound(it.address, fallback=policy)))
    with sidecar.connect() as client:
        for number in range(100):
            client.exchange(request("GET", f"/{number:04}/{'x' * 2000}", "X-Long: " + "y" * 2000))
    shown = sidecar.stats()["outbound"]["db"]["fallback"]
    assert 0 < shown["keptResponses"] <= limit // 4000
    assert shown["keptBytes"] <= limit
