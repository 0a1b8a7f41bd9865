"""Pages and their tokens: whatever a client sends is a page, or says which field is wrong."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_services import bodies
from nova_services.bodies import Page, Place, paged, token
from nova_services.errors import InvalidError

NOW = datetime(2026, 11, 1, 12, 0, 0, 123456, UTC)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_token_says_where_to_go_on(at: datetime, row: UUID) -> None:
    place = Place(at, row)
    assert paged(10, token(place)).after(Place) == place


@given(st.text(max_size=80))
def test_whatever_is_no_token_is_refused_by_its_field(text: str) -> None:
    if text:
        with pytest.raises(InvalidError, match=r"^pageToken: expected what the page before gave$"):
            paged(10, text).after(Place)
    else:
        assert paged(10, text).after(Place) is None


def test_a_token_of_another_list_is_refused() -> None:
    for other in (token((7,)), token([str(NOW)]), token({"at": 1}), token(None)):
        with pytest.raises(InvalidError):
            paged(10, other).after(Place)
    assert paged(10, token(7)).after(int) == 7


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (("2026-11-01T12:00:00", UUID(int=1)), Place),
        (("0001-01-01T00:00:00+14:00", UUID(int=1)), Place),
        (("9999-12-31T23:59:59-14:00", UUID(int=1)), Place),
        (2**63, int),
        (-(2**63) - 1, int),
        (10**4000, int),
    ],
)
def test_a_token_that_somebody_made_of_what_postgresql_has_not_is_refused(place: Any, kind: type[Any]) -> None:
    """A time without a zone, one that UTC has not, and numbers that are no bigint."""
    given = urlsafe_b64encode(json.dumps(place, default=str).encode()).decode()
    with pytest.raises(InvalidError, match=r"^pageToken: expected what the page before gave$"):
        paged(10, given).after(kind)


@pytest.mark.parametrize(("asked", "size"), [(0, 20), (1, 1), (100, 100)])
def test_a_size_of_zero_is_the_usual_one_in_grpc(asked: int, size: int) -> None:
    assert paged(asked, "") == Page(size, "")


@pytest.mark.parametrize("asked", [-1, 101, 2**31 - 1])
def test_other_sizes_are_refused(asked: int) -> None:
    with pytest.raises(InvalidError, match=r"^page_size: expected 1 to 100$"):
        paged(asked, "")
    assert paged(500, "", largest=500).size == 500


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30, unique=True), st.integers(1, 7))
def test_pages_one_after_the_other_are_the_list(rows: list[int], size: int) -> None:
    """Each is asked for one row longer than it is, so nobody is sent to an empty one."""
    found, following, pages = [], "", 0
    while True:
        page = paged(size, following)
        after: Any = page.after(int)
        begin = 0 if after is None else rows.index(after) + 1
        kept, following = page.cut(rows[begin : begin + page.size + 1], int)
        found += kept
        pages += 1
        if not following:
            break
    assert found == rows
    assert pages == max(1, -(-len(rows) // size))


def test_an_id_that_is_none_is_refused_by_its_field() -> None:
    known = uuid4()
    assert bodies.uuid("user_id", str(known)) == known
    for wrong in ("", "anna", str(known)[:-1], "\x00"):
        with pytest.raises(InvalidError, match=r"^user_id: expected a UUID$"):
            bodies.uuid("user_id", wrong)
