"""What search says of itself, and the types of it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from nova_services.openapi import Api, Operation, Paging, Problem

Kind = Literal["posts", "people"]


class Question(Paging, frozen=True, rename="camel", kw_only=True):
    """What is searched for, and which part of what is found."""

    q: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    """Words, all of which must be there; "words in quotes" must be so, `or` is one of two, `-word` none of it."""
    kind: Kind = "posts"


class FoundPost(msgspec.Struct, frozen=True, rename="camel"):
    """A post that everybody may see."""

    post_id: UUID
    author_id: UUID
    text: str
    created_at: datetime


class FoundPerson(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody with a profile."""

    user_id: UUID
    display_name: str
    biography: str


class Found(msgspec.Struct, frozen=True, rename="camel"):
    """A page of hits, the best first; those of the other kind are none."""

    posts: tuple[FoundPost, ...] = ()
    people: tuple[FoundPerson, ...] = ()
    next_page_token: str = ""
    """Empty at the end."""


API = Api(
    "search",
    "Public posts and people, found by their words.",
    (Operation("GET", "/search", "Find posts or people.", query=Question, answers={200: Found, 401: Problem}),),
)
