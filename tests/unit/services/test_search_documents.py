"""What search reads in events."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError
from nova_services.search.documents import Erased, GonePost, Person, Post, change

ID = uuid.uuid4()
POST = {
    "postId": str(ID),
    "authorId": str(ID),
    "text": "tea",
    "visibility": "VISIBILITY_PUBLIC",
    "createdAt": "2026-11-01T12:00:00Z",
}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def message(kind: str, payload: Any) -> Message:
    value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers: list[tuple[str, bytes | None]] = [("event-type", kind.encode())]
    return Message("topic", 0, 0, key=b"k", value=value, headers=headers, timestamp=NOON.timestamp())


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("post-created", {**POST, "added": "later"}, Post(ID, ID, "tea", "VISIBILITY_PUBLIC", NOON)),
        ("post-created", {**POST, "visibility": "VISIBILITY_FOLLOWERS"}, None),
        ("post-created", {**POST, "visibility": "VISIBILITY_NEW"}, None),
        ("post-deleted", {"postId": str(ID)}, GonePost(ID)),
        ("profile-changed", {"userId": str(ID), "displayName": "Anna"}, Person(ID, "Anna", "", NOON)),
        ("user-erased", {"userId": str(ID)}, Erased(ID)),
        ("user-registered", b"no JSON", None),
    ],
)
def test_an_event_is_read_as_the_change_that_it_is(kind: str, payload: Any, expected: object) -> None:
    assert change(message(kind, payload)) == expected


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("post-created", {key: value for key, value in POST.items() if key != "text"}, "text"),
        ("post-created", {**POST, "postId": "secret"}, r"\$\.postId"),
        ("post-created", {**POST, "createdAt": "2026-11-01T12:00:00"}, r"\$\.createdAt"),
        ("post-deleted", b"", "GonePost"),
        ("user-erased", {"userId": None}, r"\$\.userId"),
        pytest.param("user-erased", b'{"unknown": ' + b"[" * 10_000, "^Erased: ", id="nested"),
    ],
)
def test_one_that_lacks_what_it_must_have_is_refused_by_field_and_without_its_content(
    kind: str, payload: Any, says: str
) -> None:
    with pytest.raises(RejectedError, match=says) as refused:
        change(message(kind, payload))
    assert "secret" not in str(refused.value)
