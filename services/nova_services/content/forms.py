"""What goes in and out over HTTP, and what events say of it. No I/O.

An event tells what everybody may see. The text of a post that only followers see does not leave the database: topics
are read by services that know of no followers.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

Visibility = Literal["VISIBILITY_PUBLIC", "VISIBILITY_FOLLOWERS"]
"""Who may see a post: everybody, or who follows its author."""
PUBLIC: Final = "public"
FOLLOWERS: Final = "followers"
KEPT: Final[dict[Visibility, str]] = {"VISIBILITY_PUBLIC": PUBLIC, "VISIBILITY_FOLLOWERS": FOLLOWERS}
"""As the table has it."""
SHOWN: Final[dict[str, Visibility]] = {kept: shown for shown, kept in KEPT.items()}


class NewPost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A post that is to be written."""

    text: Annotated[str, Meta(min_length=1, max_length=5000, pattern=r"^[^\x00]*$")]
    visibility: Visibility = "VISIBILITY_PUBLIC"


class NewComment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A comment that is to be written."""

    text: Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]


class Post(msgspec.Struct, frozen=True, rename="camel"):
    """What somebody wrote."""

    post_id: UUID
    author_id: UUID
    text: str
    visibility: Visibility
    created_at: datetime

    @property
    def is_public(self) -> bool:
        """Whether everybody may see it."""
        return self.visibility == "VISIBILITY_PUBLIC"


class Comment(msgspec.Struct, frozen=True, rename="camel"):
    """What somebody wrote under a post."""

    comment_id: UUID
    post_id: UUID
    author_id: UUID
    text: str
    created_at: datetime


class Posts(msgspec.Struct, frozen=True, rename="camel"):
    """A page of posts, newest first; the token leads to the next one and is empty at the end."""

    posts: list[Post]
    next_page_token: str


class Comments(msgspec.Struct, frozen=True, rename="camel"):
    """A page of comments, oldest first; the token leads to the next one and is empty at the end."""

    comments: list[Comment]
    next_page_token: str


# --- what events say


def post_created(post: Post) -> dict[str, Any]:
    """Of the event post-created."""
    return {
        "postId": str(post.post_id),
        "authorId": str(post.author_id),
        "text": post.text if post.is_public else "",
        "visibility": post.visibility,
        "createdAt": post.created_at.isoformat(),
    }


def post_deleted(post: UUID, author: UUID) -> dict[str, Any]:
    """Of the event post-deleted."""
    return {"postId": str(post), "authorId": str(author)}


def comment_created(comment: Comment, post_author: UUID) -> dict[str, Any]:
    """Of the event comment-created: who wrote the post is to hear of it."""
    return {
        "commentId": str(comment.comment_id),
        "postId": str(comment.post_id),
        "postAuthorId": str(post_author),
        "authorId": str(comment.author_id),
        "createdAt": comment.created_at.isoformat(),
    }


def comment_deleted(comment: UUID, post: UUID, author: UUID) -> dict[str, Any]:
    """Of the event comment-deleted."""
    return {"commentId": str(comment), "postId": str(post), "authorId": str(author)}


def followed(follower: UUID, followee: UUID) -> dict[str, Any]:
    """Of the events user-followed and user-unfollowed."""
    return {"followerId": str(follower), "followeeId": str(followee)}
