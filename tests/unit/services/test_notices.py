"""Which event tells whom of what, without topics and tables."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from nova_services.notification.notices import EVENTS, Notice, notices

ANNA, BEN, CARL, THING = (uuid4() for _ in range(4))


def told(kind: str, **payload: Any) -> list[Notice]:
    return notices(kind, json.dumps(payload, default=str).encode())


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("user-registered", {"userId": ANNA, "registeredAt": "now"}, [Notice(ANNA, "KIND_WELCOME")]),
        ("user-followed", {"followerId": BEN, "followeeId": ANNA}, [Notice(ANNA, "KIND_FOLLOWED", BEN)]),
        (
            "comment-created",
            {"commentId": CARL, "postId": THING, "postAuthorId": ANNA, "authorId": BEN},
            [Notice(ANNA, "KIND_COMMENTED", BEN, THING)],
        ),
        ("comment-created", {"postId": THING, "postAuthorId": ANNA, "authorId": ANNA}, []),
        (
            "message-sent",
            {"conversationId": THING, "senderId": BEN, "awayIds": [ANNA, BEN, CARL, ANNA]},
            [Notice(ANNA, "KIND_MESSAGED", BEN, THING), Notice(CARL, "KIND_MESSAGED", BEN, THING)],
        ),
        ("message-sent", {"conversationId": THING, "senderId": BEN, "awayIds": []}, []),
    ],
)
def test_an_event_tells(kind: str, payload: dict[str, Any], expected: list[Notice]) -> None:
    assert told(kind, **payload) == expected


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b'{"userId": "nobody", "awayIds": 7}',
        pytest.param(b'{"unknown": ' + b"[" * 10_000, id="nested"),
    ],
)
def test_what_cannot_be_read_is_said(kind: str, payload: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        notices(kind, payload)


def test_a_notification_has_the_same_id_for_the_same_event_and_user_alone() -> None:
    events, users = ("one", "other"), (ANNA, BEN)
    ids = {Notice(user, "KIND_WELCOME").identity(event) for event in events for user in users}
    assert len(ids) == 4
    assert Notice(UUID(int=7), "KIND_WELCOME").identity("one") == UUID("3cdcf9fe-1f0b-5365-aab2-b1d35fe02f6e")
