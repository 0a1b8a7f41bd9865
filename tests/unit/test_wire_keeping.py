"""What may be kept and given to somebody else later. Wrong here means private data in the wrong hands."""

import pytest

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.wire.keeping import keepable, question, varies
from nova_sidecar.wire.request import RequestHead, RequestReader
from nova_sidecar.wire.response import ResponseHead, ResponseReader

TENANT = b"x-tenant-id"


def asked(*lines: str, method: str = "GET", target: str = "/", host: str = "app") -> RequestHead:
    reader = RequestReader(capture=frozenset(), upgrades="any", host=b"app")
    return reader.read("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())


def answered(*lines: str, status: str = "200 OK") -> ResponseHead:
    reader = ResponseReader(drop=frozenset(), outcomes=Outcomes(BreakerPolicy()))
    return reader.read("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer x",
        "AUTHORIZATION: Bearer x",
        "Proxy-Authorization: Basic x",
        "Cookie: session=1",
        "X-Api-Key: 1",
        "X-Auth-Token: 1",
        "X-Forwarded-User: ann",
        "x-user-id: 7",
        "X-Amz-Security-Token: 1",
        "X-Session-Id: 1",
        "Range: bytes=0-1",
        "Cache-Control: no-store",
        "Cache-Control: max-age=0, No-Cache",
        "Pragma: no-cache",
        "Cache-Control: only-if-cached",
        "Content-Length: 1",
        "Transfer-Encoding: chunked",
    ],
)
def test_requests_that_nobody_else_could_have_sent(line: str) -> None:
    assert question(asked(line), TENANT) is None
    assert question(asked("Accept: */*", line, "X: y"), TENANT) is None


def test_the_field_of_the_tenant_may_name_a_user() -> None:
    one, two = (question(asked(f"X-User-Id: {name}"), b"x-user-id") for name in ("ann", "bob"))
    assert one is not None
    assert two is not None
    assert one != two


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE", "PATCH"])
def test_other_methods_ask_for_nothing(method: str) -> None:
    assert question(asked(method=method), TENANT) is None


def test_what_tells_requests_apart() -> None:
    base = asked("Accept: */*", "X-Cookie: 1", "Cache-Control: max-age=0")
    assert question(base, TENANT) == (b"app", b"/", b"")
    assert question(asked(method="HEAD"), TENANT) == question(base, TENANT)
    assert question(asked(host="APP"), TENANT) == question(base, TENANT)
    others = [asked(target="/?q=1"), asked(host="other"), asked("X-Tenant-Id: blue"), asked("x-tenant-id:red")]
    assert len({question(each, TENANT) for each in [base, *others]}) == 5


@pytest.mark.parametrize(
    "line",
    [
        "Set-Cookie: a=b",
        "set-cookie: a=b",
        "Cache-Control: private",
        "Cache-Control: max-age=60, Private",
        'Cache-Control: private="x"',
        "Cache-Control: no-store",
        "Cache-Control: no-cache",
        "Cache-Control: max-age=1, must-revalidate",
        "Cache-Control: proxy-revalidate",
        "Vary: *",
        "Vary: Accept, *",
        "x-nova-fallback: stale",
        "Content-Range: bytes 0-1/2",
    ],
)
def test_responses_that_are_not_kept(line: str) -> None:
    assert keepable(answered(line)) is None
    assert keepable(answered("Content-Type: text/plain", line, "Content-Length: 3")) is None


@pytest.mark.parametrize("status", ["201 Created", "203 Other", "204 No Content", "206 Part", "301 Moved", "304 Same"])
def test_other_statuses_are_not_kept(status: str) -> None:
    assert keepable(answered(status=status)) is None


def test_what_is_kept_of_a_head() -> None:
    head = answered(
        "Date: now", "Age: 7", "content-length: 3", "ETag: x", "Vary: Accept-Language, accept", "vary: accept"
    )
    kept = keepable(head)
    assert kept is not None
    assert kept.head == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nETag: x\r\nVary: Accept-Language, accept\r\nvary: accept\r\n"
    )
    assert (kept.age, kept.vary) == (7, (b"accept", b"accept-language"))


@pytest.mark.parametrize("age", ["", "-1", "soon", "1" * 30])
def test_an_age_that_is_none(age: str) -> None:
    kept = keepable(answered(f"Age: {age}"))
    assert kept is not None
    assert (kept.age, b"Age" in kept.head) == (0, False)


def test_the_fields_that_vary_names() -> None:
    head = asked("Accept: a", "ACCEPT: b", "Accept-Language: ", "X-Accept: c")
    assert varies(head, (b"accept", b"accept-language", b"other")) == (
        (b"accept", b"a, b"), (b"accept-language", b""), (b"other", None),
    )  # fmt: skip
