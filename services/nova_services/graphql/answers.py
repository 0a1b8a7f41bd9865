"""What services answer over HTTP, as far as the gateway reads it; whatever else they say is passed over."""

from datetime import datetime
from uuid import UUID

import msgspec


class Post(msgspec.Struct, frozen=True, rename="camel"):
    """Of content and search; only public posts are searched, and there it is not said."""

    post_id: UUID
    author_id: UUID
    text: str
    created_at: datetime
    visibility: str = "VISIBILITY_PUBLIC"


class Posts(msgspec.Struct, frozen=True, rename="camel"):
    """A page of them."""

    posts: tuple[Post, ...] = ()
    next_page_token: str = ""


class Comment(msgspec.Struct, frozen=True, rename="camel"):
    """Of content."""

    comment_id: UUID
    author_id: UUID
    text: str
    created_at: datetime


class Comments(msgspec.Struct, frozen=True, rename="camel"):
    """A page of them."""

    comments: tuple[Comment, ...] = ()
    next_page_token: str = ""


class Hit(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody whom search has found."""

    user_id: UUID


class Hits(msgspec.Struct, frozen=True, rename="camel"):
    """A page of them."""

    people: tuple[Hit, ...] = ()
    next_page_token: str = ""


class Recommended(msgspec.Struct, frozen=True, rename="camel"):
    """A post, of recommendations."""

    post_id: UUID


class Recommendations(msgspec.Struct, frozen=True):
    """The best first."""

    posts: tuple[Recommended, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """What any service says no with."""

    error: str = ""
