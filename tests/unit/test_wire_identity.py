"""Which requests are the same. Wrong here means one client's response in another one's hands."""

import pytest

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.wire.identity import depends_on, identity, separates, shareable
from nova_sidecar.wire.request import RequestHead, RequestReader
from nova_sidecar.wire.response import ResponseHead, ResponseReader

NOTHING: frozenset[bytes] = frozenset()
CAPTURED = frozenset((b"x-correlation-id", b"x-forwarded-for", b"x-nova-deadline-ms", b"x-claim"))


def asked(*lines: str, method: str = "GET", target: str = "/", host: str = "app") -> RequestHead:
    reader = RequestReader(capture=CAPTURED, upgrades="websocket", host=b"app")
    return reader.read("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())


def answered(*lines: str, status: str = "200 OK") -> ResponseHead:
    reader = ResponseReader(drop=frozenset(), outcomes=Outcomes(BreakerPolicy()))
    return reader.read("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())


def same(one: RequestHead, other: RequestHead, ignored: frozenset[bytes] = NOTHING) -> bool:
    own = frozenset((b"x-correlation-id",))
    return identity(one, ignored, own) == identity(other, ignored, own)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Authorization: a", "Authorization: b"),
        ("Authorization: a", "X: y"),
        ("Cookie: a=1", "Cookie: a=2"),
        ("Cookie: a=1", "X-Cookie: a=1"),
        ("Accept-Language: de", "Accept-Language: en"),
        ("X-Forwarded-Host: evil", "X-Forwarded-Host: app"),
        ("Range: bytes=0-1", "Range: bytes=0-2"),
        ("X-Anything: 1", "X-Anything: 2"),
        ("X-Claim: ann", "X-Claim: bob"),
        ("If-None-Match: a", "Accept: */*"),
    ],
)
def test_every_field_counts(one: str, other: str) -> None:
    assert not same(asked(one), asked(other))
    assert not same(asked(one), asked())
    assert same(asked(one), asked(one))


@pytest.mark.parametrize(
    "line",
    [
        "traceparent: 00-1-1-01",
        "X-Request-Id: 7",
        "X-B3-TraceId: 7",
        "X-Correlation-Id: 7",
        "X-Forwarded-For: 10.0.0.1",
        "X-Nova-Deadline-Ms: 100",
    ],
)
def test_but_for_what_names_one_request_or_is_replaced(line: str) -> None:
    assert same(asked(line, "Accept: */*"), asked("accept:   */*"))


@pytest.mark.parametrize("target", ["/b", "/?", "/%61", "//", "/.", "/a/../"])
def test_targets_are_not_normalised(target: str) -> None:
    assert not same(asked(target="/"), asked(target=target))


def test_host_and_method_count() -> None:
    assert not same(asked(host="a"), asked(host="b"))
    assert not same(asked(), asked(method="HEAD"))


def test_the_order_of_fields_does_not_count_but_that_of_their_lines_does() -> None:
    assert same(asked("A: 1", "B: 2"), asked("B: 2", "A: 1"))
    assert not same(asked("A: 1", "A: 2"), asked("A: 2", "A: 1"))


def test_a_value_cannot_pass_for_another_field() -> None:
    assert not same(asked("A: 1", "B: 2"), asked("A: 1 B: 2"))
    assert not same(asked("X-Claim: 1"), asked("X-Claim= 1:".replace("= ", "-").replace(":", "") + ": 1"))


def test_what_a_policy_ignores_does_not_count_until_vary_names_it() -> None:
    ignored = frozenset((b"user-agent",))
    one, other = asked("User-Agent: a"), asked("User-Agent: b")
    assert same(one, other, ignored)
    names = depends_on(answered("Vary: Accept, USER-AGENT", "Content-Length: 0"))
    assert names == (b"accept", b"user-agent")
    assert separates(names, one, other, ignored)
    assert not separates(names, one, asked("User-agent:  a "), ignored)
    assert not separates((b"accept",), one, other, ignored)


@pytest.mark.parametrize(
    "line",
    [
        "Set-Cookie: a=1",
        "SET-COOKIE: a=1",
        "Cache-Control: private",
        "Cache-Control: max-age=5, Private",
        'cache-control: private="x-a"',
        "Cache-Control: no-store",
        "Cache-Control: no-cache",
        "Pragma: no-cache",
        "Vary: *",
        "Vary: accept, *",
        "VARY: *",
        "Vary: X-Forwarded-For",
        "Vary: traceparent",
        "X-Nova-Reject: overloaded",
    ],
)
def test_responses_that_are_one_clients_alone(line: str) -> None:
    assert depends_on(answered("A: b", line, "Content-Length: 0")) is None


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "429 Slow", "502 No"])
def test_errors_are_not_shared(status: str) -> None:
    assert depends_on(answered("Content-Length: 0", status=status)) is None


def test_others_are() -> None:
    assert depends_on(answered("Content-Length: 0")) == ()
    assert depends_on(answered("Cache-Control: public, max-age=5", "Content-Length: 0", status="404 None")) == ()


@pytest.mark.parametrize(
    "head",
    [
        asked(method="POST"),
        asked(method="DELETE"),
        asked("Content-Length: 1"),
        asked("Transfer-Encoding: chunked"),
        asked("Expect: 100-continue"),
        asked("Connection: upgrade", "Upgrade: websocket"),
    ],
    ids=lambda head: head.forward.decode()[:40],
)
def test_requests_that_are_never_shared(head: RequestHead) -> None:
    assert not shareable(head)


def test_safe_ones_are() -> None:
    assert shareable(asked())
    assert shareable(asked(method="HEAD"))
