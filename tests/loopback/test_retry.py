"""What is safe to repeat is repeated, within a budget, and never anything else."""

import pytest

from nova_api.policies import BackoffPolicy, BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig
from nova_api.units import Duration, Share

from .conftest import StartApp, StartSidecar
from .support.app import Answer, Call
from .support.message import chunked, request, response
from .support.peer import Listener
from .support.ports import free_ports
from .support.sidecar import ONCE, Sidecar, document, outbound
from .support.waiting import eventually

QUICK = BackoffPolicy(base=Duration(0.001), max=Duration(0.01))


def upstream(address: tuple[str, int], **policy: object) -> ProxyConfig:
    """An outbound that retries, without a breaker in the way and without reuse of connections."""
    policy = {"backoff": QUICK, "min_per_second": 100} | policy
    return document(
        outbound(
            address,
            pool=ONCE,
            circuit_breaker=BreakerPolicy(mode="Off"),
            retry=RetryPolicy(**policy),  # type: ignore[arg-type]
            timeout=TimeoutPolicy(request=Duration(5), attempt=Duration(0.3)),
        )
    )


def suppressed(sidecar: Sidecar, reason: str) -> float:
    return sidecar.metric("nova_retries_suppressed_total", reason=reason)


def fails_first(times: int, status: str = "503 Busy") -> Answer:
    """An app that answers this status so many times and 200 from then on."""
    seen: list[Call] = []

    def answer(call: Call) -> bytes:
        seen.append(call)
        return response(status, body=b"no") if len(seen) <= times else response(body=call.request.body or b"yes")

    return answer


def test_503_is_repeated(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        assert client.exchange(request()).body == b"yes"
    assert len(it.requests) == 3
    assert sidecar.metric("nova_retries_total") == 2


def test_the_last_answer_is_passed_on(start: StartSidecar, app: StartApp) -> None:
    """Not a refusal of ours: what the upstream said is the truth."""
    it = app(fails_first(9))
    sidecar = start(upstream(it.address, attempts=3))
    with sidecar.connect() as client:
        answer = client.exchange(request())
        assert (answer.status, answer.body, answer.get("x-nova-reject")) == (503, b"no", None)
    assert len(it.requests) == 3
    assert suppressed(sidecar, "attempts_exhausted") == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_idempotent_methods_are_repeated_after_a_reset(start: StartSidecar, listener: Listener, method: str) -> None:
    sidecar = start(upstream(listener.address))
    with sidecar.connect() as client:
        client.send(request(method, "/", body=b"same" if method == "PUT" else None))
        first = listener.accept()
        first.request()
        first.reset()
        second = listener.accept()
        assert second.request().body == (b"same" if method == "PUT" else b"")
        second.send(response())
        assert client.response(method).status == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
def test_other_methods_are_not(start: StartSidecar, listener: Listener, method: str) -> None:
    sidecar = start(upstream(listener.address, when=("connect-failure", "reset", "503", "502", "timeout")))
    with sidecar.connect() as client:
        client.send(request(method, "/", body=b"once"))
        app = listener.accept()
        app.request()
        app.reset()
        assert client.response().status == 502
        client.send(request(method, "/", body=b"once"))
        app = listener.accept()
        app.request()
        app.send(response("503 Busy"))
        assert client.response().status == 503
    assert not listener.pending()
    assert suppressed(sidecar, "not_idempotent") == 2


def test_a_post_is_repeated_when_nothing_was_sent(start: StartSidecar) -> None:
    """A refused connection has delivered nothing, so there is nothing to do twice."""
    sidecar = start(upstream(("127.0.0.1", free_ports(1)[0]), attempts=4))
    with sidecar.connect() as client:
        answer = client.exchange(request("POST", "/", body=b"order"))
    assert (answer.status, answer.get("x-nova-reject")) == (503, "connect_failure")
    assert sidecar.metric("nova_retries_total") == 3


def test_a_restarting_upstream_gets_the_post_once(start: StartSidecar, app: StartApp) -> None:
    it = app(lambda call: response(body=call.request.body))
    sidecar = start(upstream(it.address, attempts=10, backoff=BackoffPolicy(base=Duration(0.2), max=Duration(0.5))))
    it.stop()
    with sidecar.connect() as client:
        client.send(request("POST", "/", body=b"order"))
        eventually(lambda: sidecar.metric("nova_retries_total") >= 1)
        it.restart()
        assert client.response().body == b"order"
    assert len(it.requests) == 1


@pytest.mark.parametrize("encoding", ["length", "chunked"])
def test_the_body_is_sent_again(start: StartSidecar, app: StartApp, encoding: str) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address))
    body = bytes(range(256)) * 200
    with sidecar.connect() as client:
        if encoding == "length":
            client.send(request("PUT", "/", body=body))
        else:
            client.send(request("PUT", "/", "Transfer-Encoding: chunked") + chunked(body[:1000], body[1000:]))
        assert client.response().body == body
    assert [each.body for each in it.requests] == [body] * 3


def test_a_body_that_is_too_large_is_sent_once(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address, max_body_bytes=1000))
    with sidecar.connect() as client:
        assert client.exchange(request("PUT", "/", body=b"x" * 1001)).status == 503
    assert len(it.requests) == 1
    assert suppressed(sidecar, "body_not_replayable") == 1


def test_a_refusal_in_the_middle_of_an_upload(start: StartSidecar, listener: Listener) -> None:
    """503 before the body is complete: it is repeated whole, with what the client still sends, or not at all."""
    sidecar = start(upstream(listener.address))
    with sidecar.connect() as client:
        client.send(request("PUT", "/", "Content-Length: 10") + b"01234")
        first = listener.accept()
        first.head()
        first.read_exactly(5)
        first.send(response("503 Busy", "Connection: close"))
        first.close()
        client.send_if_open(b"56789")
        eventually(lambda: client.poll() or listener.pending())
        if listener.pending():
            second = listener.accept()
            assert second.request().body == b"0123456789"
            second.send(response())
            assert client.response().status == 200
        else:
            assert client.response().status == 503


def test_only_what_the_policy_names(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(1, "502 Bad"))
    sidecar = start(upstream(it.address, when=("503",)))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 502
    assert len(it.requests) == 1
    assert suppressed(sidecar, "not_retryable_condition") == 1


def test_a_timeout_is_repeated_when_named(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(upstream(listener.address, when=("timeout",)))
    with sidecar.connect() as client:
        client.send(request())
        first = listener.accept()
        first.request()
        first.expect_closed()
        second = listener.accept()
        second.request()
        second.send(response(body=b"in time"))
        assert client.response().body == b"in time"


def test_nothing_is_repeated_once_the_client_has_seen_the_head(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(upstream(listener.address))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", "Content-Length: 100", body=None) + b"half")
        client.head()
        client.read_until(b"half")
        app.reset()
        client.expect_closed()
    assert not listener.pending()


def test_the_budget_bounds_retries(start: StartSidecar, app: StartApp) -> None:
    """An upstream that is down gets 20 % more load, not three times as much."""
    it = app(lambda _: response("503 Down"))
    sidecar = start(upstream(it.address, budget=Share(0.2), min_per_second=0, attempts=3))
    with sidecar.connect() as client:
        for _ in range(100):
            assert client.exchange(request()).status == 503
    assert 100 <= len(it.requests) <= 120
    assert sidecar.metric("nova_retries_total") == len(it.requests) - 100
    assert suppressed(sidecar, "budget_exhausted") >= 80


def test_retry_after_is_respected(start: StartSidecar, app: StartApp) -> None:
    """Asked to stay away for a minute with 5 s left, there is no second attempt to make."""
    it = app(lambda _: response("503 Down", "Retry-After: 60"))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        answer = client.exchange(request())
        assert (answer.status, answer.get("retry-after")) == (503, "60")
    assert len(it.requests) == 1
    assert suppressed(sidecar, "deadline") == 1


def test_shadow_counts_and_repeats_nothing(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(1))
    sidecar = start(upstream(it.address, mode="Shadow"))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
    assert len(it.requests) == 1
    assert suppressed(sidecar, "shadow") == 1
    assert sidecar.metric("nova_retries_total") == 0


def test_off_repeats_nothing(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(1))
    sidecar = start(upstream(it.address, mode="Off"))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
    assert len(it.requests) == 1


def test_the_same_correlation_id_on_every_attempt(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        made = client.exchange(request()).get("x-correlation-id")
    assert [each.get("x-correlation-id") for each in it.requests] == [made] * 3
    line = eventually(lambda: [each for each in sidecar.log if each.get("correlation_id") == made])
    assert [each["attempts"] for each in line] == [3]


def test_an_open_breaker_is_not_retried_against(start: StartSidecar, app: StartApp) -> None:
    """The breaker opens in the middle of the attempts: the next one is refused, not forced through."""
    it = app(lambda _: response("503 Down"))
    sidecar = start(
        document(
            outbound(
                it.address,
                circuit_breaker=BreakerPolicy(failure_threshold=2),
                retry=RetryPolicy(attempts=5, backoff=QUICK, min_per_second=100),
            )
        )
    )
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
    assert len(it.requests) == 2


def busy_twice(start: StartSidecar, app: StartApp, data: bytes, **policy: object) -> int:
    """How often an app that answers 503 twice is called for this request; the last answer is what the client gets."""
    it = app(fails_first(2))
    sidecar = start(upstream(it.address, **policy))
    with sidecar.connect() as client:
        client.send(data)
        answer = client.response()
    assert answer.status == (503 if len(it.requests) == 1 else 200)
    return len(it.requests)


@pytest.mark.parametrize(
    ("key", "calls"),
    [("Idempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9324", 3), ("Idempotency-Key:", 1), ("X-Key: 1", 1)],
)
def test_a_key_makes_a_post_repeatable(start: StartSidecar, app: StartApp, key: str, calls: int) -> None:
    assert busy_twice(start, app, request("POST", "/orders", key, body=b"1 bike")) == calls


@pytest.mark.parametrize(
    ("target", "calls"), [("/search", 3), ("/search?q=bike", 3), ("/search/all", 1), ("/quotes/7", 3), ("/", 1)]
)
def test_listed_paths_are_repeatable(start: StartSidecar, app: StartApp, target: str, calls: int) -> None:
    listed = ("/search", "/quotes/*")
    assert busy_twice(start, app, request("POST", target, body=b"?"), idempotent_paths=listed) == calls


def test_a_key_goes_on_and_is_the_same_on_every_attempt(start: StartSidecar, app: StartApp) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        client.exchange(request("POST", "/", "Idempotency-Key: abc", body=b"order"))
    assert [each.get("idempotency-key") for each in it.requests] == ["abc"] * 3
    assert [each.get("x-nova-attempt") for each in it.requests] == [None, "2", "3"]


def test_expect_and_a_further_attempt(start: StartSidecar, listener: Listener) -> None:
    """The client is told once to go on; what it sent is kept, trailers included."""
    sidecar = start(upstream(listener.address))
    with sidecar.connect() as client:
        client.send(request("PUT", "/", "Transfer-Encoding: chunked", "Expect: 100-continue"))
        first = listener.accept()
        first.head()
        first.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.response(interim=True).status == 100
        client.send(chunked(b"one", b"two", trailers=["X-Sum: 6"]))
        first.read_until(b"X-Sum: 6\r\n\r\n")
        first.reset()
        second = listener.accept()
        arrived = second.request()
        second.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (arrived.body, arrived.trailers) == (b"onetwo", [("X-Sum", "6")])
        second.send(response(body=b"done"))
        assert client.response(interim=True).body == b"done"


def test_expect_refused_by_the_first_attempt(start: StartSidecar, listener: Listener) -> None:
    """No byte of the body was asked for yet; the second attempt asks for it."""
    sidecar = start(upstream(listener.address))
    with sidecar.connect() as client:
        client.send(request("PUT", "/", "Content-Length: 5", "Expect: 100-continue"))
        first = listener.accept()
        first.head()
        first.send(response("503 Busy", "Connection: close"))
        second = listener.accept()
        second.head()
        second.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.response(interim=True).status == 100
        client.send(b"hello")
        assert second.read_exactly(5) == b"hello"
        second.send(response(body=b"done"))
        assert client.response().body == b"done"


def test_a_repetition_is_not_repeated_further_down(start: StartSidecar, app: StartApp) -> None:
    """The caller's sidecar retries already; three times three calls help nobody."""
    it = app(fails_first(9))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        for _ in range(2):  # a head that is remembered says the same as a new one
            assert client.exchange(request("GET", "/", "X-Nova-Attempt: 2")).status == 503
    assert [each.all("x-nova-attempt") for each in it.requests] == [["2"]] * 2
    assert suppressed(sidecar, "nested") == 2


@pytest.mark.parametrize("given", ["1", "0", "first", ""])
def test_other_attempt_numbers_are_not_believed(start: StartSidecar, app: StartApp, given: str) -> None:
    it = app(fails_first(2))
    sidecar = start(upstream(it.address))
    with sidecar.connect() as client:
        assert client.exchange(request("GET", "/", f"X-Nova-Attempt: {given}")).status == 200
    assert [each.get("x-nova-attempt") for each in it.requests] == [None, "2", "3"]


@pytest.mark.parametrize("body", ["length", "chunked"])
def test_a_failure_that_was_repeated_says_so_and_is_not_repeated_further_up(
    start: StartSidecar, app: StartApp, body: str
) -> None:
    """Two sidecars in a row in front of an upstream that fails: three calls and not nine."""
    failure = response("503 Down", body=b"no")
    if body == "chunked":
        failure = response("503 Down", "Transfer-Encoding: chunked", body=None) + chunked(b"no")
    it = app(lambda _: failure)
    near = start(upstream(it.address, attempts=3))
    far = start(upstream(near.address(), attempts=3))
    with far.connect() as client:
        answer = client.exchange(request())
    assert (answer.status, answer.get("x-nova-retried"), answer.body) == (503, "3", b"no")
    assert len(it.requests) == 3
    assert suppressed(far, "nested") == 1


def test_an_upstream_that_cannot_be_reached_is_repeated_by_one_layer(start: StartSidecar) -> None:
    near = start(upstream(("127.0.0.1", free_ports(1)[0]), attempts=3))
    far = start(upstream(near.address(), attempts=3))
    with far.connect() as client:
        answer = client.exchange(request())
    assert (answer.status, answer.get("x-nova-reject"), answer.get("x-nova-retried")) == (503, "connect_failure", "3")
    assert near.metric("nova_retries_total") == 2
    assert far.metric("nova_retries_total") == 0


def test_a_layer_without_budget_does_not_hand_the_retry_up(start: StartSidecar, app: StartApp) -> None:
    it = app(lambda _: response("503 Down"))
    sidecar = start(upstream(it.address, budget=Share(0), min_per_second=0))
    with sidecar.connect() as client:
        assert client.exchange(request()).get("x-nova-retried") == "1"
    assert len(it.requests) == 1


def test_what_another_sidecar_sheds_is_repeated_within_the_budget(start: StartSidecar, app: StartApp) -> None:
    """One pod is full, the next may not be; but a service that is full gets a fifth more, not three times as much."""
    it = app(lambda _: response("503 Busy", "x-nova-reject: overloaded", "Retry-After: 0"))
    sidecar = start(upstream(it.address, budget=Share(0.2), min_per_second=0))
    with sidecar.connect() as client:
        for _ in range(50):
            assert client.exchange(request()).status == 503
    assert 55 <= len(it.requests) <= 60


def test_a_key_that_stays_at_this_hop_repeats_nothing(start: StartSidecar, app: StartApp) -> None:
    """Connection takes the key out of what goes on, so the upstream could not tell a repetition from a new request."""
    it = app(fails_first(9))
    sidecar = start(upstream(it.address, attempts=3))
    with sidecar.connect() as client:
        keyed = request("POST", "/", "Connection: idempotency-key", "Idempotency-Key: 1", body=b"x")
        assert client.exchange(keyed).status == 503
    assert len(it.requests) == 1
