"""What is decided of recommendations without a store: rows of events, the order of posts, the pace of computing."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError
from nova_services.recommendations.clickhouse import ClickHouseStore
from nova_services.recommendations.events import NOBODY, FollowRow, PostRow, row
from nova_services.recommendations.pace import Pace, hours
from nova_services.recommendations.port import literal
from nova_services.recommendations.ranking import HALF_LIFE, MOST, OF_ONE_AUTHOR, Author, Candidate, ranked

NOW = 1_800_000_000.0
ANNA, BEN, CARL = (UUID(int=number) for number in (1, 2, 3))
POST = UUID(int=17)
CREATED = {
    "postId": str(POST),
    "authorId": str(ANNA),
    "text": "hello",
    "visibility": "VISIBILITY_PUBLIC",
    "createdAt": "2026-11-29T12:00:00.5+00:00",
}


def message(kind: str, payload: Any, offset: int = 6) -> Message:
    headers: list[tuple[str, bytes | None]] = [("event-type", kind.encode())]
    return Message("post", 0, offset, key=b"k", value=json.dumps(payload).encode(), headers=headers)


# --- events


def test_a_row_says_nothing_of_what_was_written() -> None:
    seconds = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp())
    assert row(message("post-created", CREATED)) == PostRow(POST, ANNA, seconds, 7, 0)


def test_a_post_that_is_gone_says_nothing_of_its_author() -> None:
    assert row(message("post-deleted", {"postId": str(POST), "authorId": str(ANNA)})) == PostRow(POST, NOBODY, 0, 7, 1)


def test_follows_begin_and_end() -> None:
    said = {"followerId": str(ANNA), "followeeId": str(BEN)}
    assert row(message("user-followed", said, 0)) == FollowRow(ANNA, BEN, 1, 0)
    assert row(message("user-unfollowed", said, 1)) == FollowRow(ANNA, BEN, 2, 1)


def test_what_only_followers_see_is_no_row_and_nor_is_what_nobody_asked_for() -> None:
    assert row(message("post-created", CREATED | {"visibility": "VISIBILITY_FOLLOWERS"})) is None
    assert row(message("post-praised", {})) is None


@pytest.mark.parametrize(
    "payload",
    [{}, [], "x", CREATED | {"postId": "17"}, CREATED | {"createdAt": "yesterday"}, CREATED | {"authorId": 1}],
)
def test_an_event_that_is_wrong_is_rejected_without_quoting_it(payload: Any) -> None:
    with pytest.raises(RejectedError, match=r"^post-created: \w+$"):
        row(message("post-created", payload))


# --- order


def candidate(author: UUID, age: float = 0.0) -> Candidate:
    return Candidate(uuid4(), author, int(NOW - age))


def test_whom_friends_follow_comes_before_whom_many_follow() -> None:
    posts = [candidate(BEN), candidate(ANNA), candidate(CARL)]
    authors = {ANNA: Author(common=3, followers=10), BEN: Author(common=0, followers=1000), CARL: Author(common=1)}
    assert [one.author_id for one in ranked(posts, authors, NOW)] == [ANNA, BEN, CARL]


def test_a_post_is_worth_half_after_two_days() -> None:
    old, fresh = candidate(ANNA, HALF_LIFE + 60), candidate(BEN)
    authors = {ANNA: Author(common=2), BEN: Author(common=1)}
    assert [one.post_id for one in ranked([old, fresh], authors, NOW)] == [fresh.post, old.post]
    newer = candidate(ANNA, HALF_LIFE - 60)
    assert [one.post_id for one in ranked([newer, fresh], authors, NOW)] == [newer.post, fresh.post]


def test_an_author_has_few_and_nobody_has_many() -> None:
    authors = {UUID(int=number): Author(common=1) for number in range(1, 21)}
    found = ranked([candidate(author, age) for author in authors for age in range(5)], authors, NOW)
    assert len(found) == MOST
    assert max(sum(one.author_id == author for one in found) for author in authors) == OF_ONE_AUTHOR


def test_posts_of_whom_nobody_asked_for_are_left_out() -> None:
    assert ranked([candidate(ANNA)], {BEN: Author(common=1)}, NOW) == []


# --- pace


def test_computing_has_its_share_of_the_time_and_less_at_the_peak() -> None:
    pace = Pace(share=0.25, peak_share=0.05, peak=hours("17-22"))
    assert pace.pause(1.0, 3) == pytest.approx(3.0)
    assert pace.pause(1.0, 17) == pytest.approx(19.0)
    assert pace.pause(1.0, 22) == pytest.approx(3.0)
    assert pace.pause(0.0, 17) == 0.0


@pytest.mark.parametrize(
    ("text", "found"),
    [("", set()), ("17-22", {17, 18, 19, 20, 21}), ("22-2", {22, 23, 0, 1}), ("0-24", set(range(24)))],
)
def test_hours(text: str, found: set[int]) -> None:
    assert hours(text) == found


@pytest.mark.parametrize("text", ["17", "24-2", "a-b", "1-25", "-3"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected hours such as 17-22"):
        hours(text)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="share: expected above 0 and at most 1, got 0"):
        Pace(share=0)


# --- statements


def test_a_value_in_a_statement_can_be_nothing_but_one() -> None:
    assert literal(POST) == "toUUID('00000000-0000-0000-0000-000000000011')"
    assert literal(17) == "17"


@pytest.mark.parametrize("url", ["clickhouse:8123", "ftp://clickhouse", "http://", ""])
def test_an_address_that_is_none_of_clickhouse_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="analytics: expected a URL such as"):
        ClickHouseStore(url)
