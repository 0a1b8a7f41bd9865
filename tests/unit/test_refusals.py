"""Every reason has an answer, and the answer is well-formed HTTP."""

import json

import httptools
import pytest

from nova_sidecar.pipeline.refusals import REFUSALS, render
from nova_sidecar.policy.reasons import Reason


class Events:
    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def answer(reason: Reason, *, keep: bool = True, retry_after: float | None = None) -> Events:
    events = Events()
    data = render(
        reason, why='what "was" wrong', retry_after=retry_after, correlation=(b"x-correlation-id", b"abc"),
        head_only=False, keep=keep, http10=False,
    )  # fmt: skip
    parser = httptools.HttpResponseParser(events)
    parser.feed_data(data)
    assert parser.get_status_code() == REFUSALS[reason].status
    return events


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_answered(reason: Reason) -> None:
    events = answer(reason)

    assert events.complete
    assert events.fields["x-nova-reject"] == str(reason)
    assert events.fields["x-correlation-id"] == "abc"
    assert json.loads(events.body) == {"error": str(reason), "message": 'what "was" wrong', "correlationId": "abc"}
    assert REFUSALS[reason].message


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    seconds = [answer(Reason.CIRCUIT_OPEN, retry_after=after).fields.get("retry-after") for after in (0.0, 1.2, 30.0)]

    assert seconds == ["1", "2", "30"]
    assert "retry-after" not in answer(Reason.CIRCUIT_OPEN, retry_after=float("inf")).fields


def test_a_refusal_says_when_the_connection_is_closed() -> None:
    assert answer(Reason.BAD_REQUEST, keep=False).fields["connection"] == "close"
    assert "connection" not in answer(Reason.OVERLOADED).fields


def test_the_answer_to_head_has_no_body() -> None:
    data = render(
        Reason.OVERLOADED, why="", retry_after=None, correlation=None, head_only=True, keep=True, http10=True
    )  # fmt: skip
    assert data.endswith(b"connection: keep-alive\r\n\r\n")
