"""Response heads: what goes downstream, how the body is framed, and what is no response."""

import pytest

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome, Outcomes
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.fields import CHUNKED, UNTIL_CLOSE
from nova_sidecar.wire.grammar import MAX_HEAD, Malformed
from nova_sidecar.wire.response import ResponseHead, ResponseReader


def read(*lines: str, start: str = "HTTP/1.1 200 OK") -> ResponseHead:
    text = "\r\n".join([start, *lines, "", ""]).encode("latin-1")
    return ResponseReader(drop=frozenset((b"x-correlation-id",)), outcomes=Outcomes(BreakerPolicy())).read(text)


def test_a_head_goes_on_as_it_came_without_what_ends_here() -> None:
    got = read(
        "Server: x",
        "Connection: close, X-Own",
        "X-Own: 1",
        "X-Correlation-Id: theirs",
        "Set-Cookie: a",
        "Set-Cookie: b",
    )

    assert got.forward == b"HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    assert not got.keep_alive


@pytest.mark.parametrize(
    ("start", "lines", "length"),
    [
        ("HTTP/1.1 200 OK", ("Content-Length: 5",), 5),
        ("HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), CHUNKED),
        ("HTTP/1.1 200 OK", (), UNTIL_CLOSE),
        ("HTTP/1.1 204 No Content", (), 0),
        ("HTTP/1.1 204 No Content", ("Content-Length: 5",), 0),
        ("HTTP/1.1 304 Not Modified", ("Content-Length: 5",), 0),
        ("HTTP/1.1 100 Continue", (), 0),
    ],
)
def test_framing(start: str, lines: tuple[str, ...], length: int) -> None:
    assert read(*lines, start=start).length == length


def test_the_length_of_a_304_is_passed_on_and_that_of_a_204_is_not() -> None:
    assert b"Content-Length" in read("Content-Length: 5", start="HTTP/1.1 304 Not Modified").forward
    assert b"Content-Length" not in read("Content-Length: 5", start="HTTP/1.1 204 No Content").forward


def test_a_status_line_without_a_phrase_is_made_whole() -> None:
    assert read("Content-Length: 0", start="HTTP/1.1 200").forward.startswith(b"HTTP/1.1 200 \r\n")


def test_http10_goes_on_as_http11_and_is_not_kept() -> None:
    got = read("Content-Length: 0", start="HTTP/1.0 200 OK")

    assert got.forward.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not got.keep_alive


def test_retry_after_is_read() -> None:
    assert read("Retry-After: 3", start="HTTP/1.1 503 Busy").retry_after == 3
    assert read(start="HTTP/1.1 503 Busy").retry_after is None


@pytest.mark.parametrize(
    ("start", "lines", "outcome"),
    [
        ("HTTP/1.1 200 OK", (), SUCCESS),
        ("HTTP/1.1 404 Not Found", (), SUCCESS),
        ("HTTP/1.1 500 Oops", (), FAILURE),
        ("HTTP/1.1 503 Busy", (), FAILURE),
        ("HTTP/1.1 503 Busy", ("X-Nova-Reject: overloaded",), CANCELLED),
        ("HTTP/1.1 429 Too Many", ("X-Nova-Reject: tenant_limit",), CANCELLED),
        ("HTTP/1.1 503 Busy", ("X-Nova-Reject: connect_failure",), FAILURE),
    ],
)
def test_what_an_answer_says_about_the_upstream(start: str, lines: tuple[str, ...], outcome: Outcome) -> None:
    assert read(*lines, start=start).outcome is outcome


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        ("HTTP/2 200 OK", ()),
        ("HTTP/1.1 20 OK", ()),
        ("HTTP/1.1 600 OK", ()),
        ("HTTP/1.1  200 OK", ()),
        ("hello", ()),
        ("HTTP/1.1 200 OK", ("X : 1",)),
        ("HTTP/1.1 200 OK", ("X: 1", " fold")),
        ("HTTP/1.1 200 OK", ("X: a\rb",)),
        ("HTTP/1.1 200 OK", ("Content-Length: 1", "Transfer-Encoding: chunked")),
        ("HTTP/1.1 200 OK", ("Content-Length: 1", "Content-Length: 2")),
        ("HTTP/1.1 200 OK", ("Transfer-Encoding: gzip",)),
        ("HTTP/1.0 200 OK", ("Transfer-Encoding: chunked",)),
    ],
)
def test_what_two_recipients_could_read_differently_is_no_response(start: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(Malformed):
        read(*lines, start=start)


def test_a_head_over_its_limit_says_so() -> None:
    with pytest.raises(Malformed) as refused:
        read("X: " + "a" * MAX_HEAD)
    assert refused.value.reason is Reason.RESPONSE_HEAD_TOO_LARGE


def test_a_length_that_is_set_twice_goes_on_once() -> None:
    """RFC 9112 section 6.3."""
    got = read("Content-Length: 5", "Server: x", "content-length: 5")

    assert got.length == 5
    assert got.forward == b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n"
    for lines in (("Content-Length: 5", "Content-Length: 6"), ("Content-Length: 5x", "Content-Length: 5x")):
        with pytest.raises(Malformed):
            read(*lines)


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        ("503 Busy", "overloaded", CANCELLED),
        ("429 Busy", "tenant_limit", CANCELLED),
        ("503 Busy", "circuit_open", FAILURE),
        ("500 Broken", "overloaded", FAILURE),
        ("200 OK", "overloaded", SUCCESS),
    ],
)
def test_only_a_refusal_says_that_load_was_shed(status: str, reason: str, outcome: Outcome) -> None:
    assert read(f"x-nova-reject: {reason}", start=f"HTTP/1.1 {status}").outcome is outcome
