"""What content says of its HTTP side, for /openapi.json."""

from typing import Final

from nova_services.content.forms import Comment, Comments, NewComment, NewPost, Post, Posts
from nova_services.openapi import Api, Operation, Paging, Problem

API: Final = Api(
    "content",
    "Posts, comments, follows, and the feed that is made of them.",
    (
        Operation("POST", "/posts", "Write a post.", {201: Post, 403: Problem}, body=NewPost, viewer=True),
        Operation("GET", "/posts/{id}", "Read a post.", {200: Post, 404: Problem}, viewer=True),
        Operation("DELETE", "/posts/{id}", "Delete a post of one's own.", {204: None, 404: Problem}, viewer=True),
        Operation(
            "GET", "/users/{id}/posts", "Somebody's posts, newest first.", {200: Posts}, query=Paging, viewer=True
        ),
        Operation("GET", "/feed", "Posts of whom one follows, newest first.", {200: Posts}, query=Paging, viewer=True),
        Operation(
            "POST",
            "/posts/{id}/comments",
            "Comment on a post.",
            {201: Comment, 403: Problem, 404: Problem},
            body=NewComment,
            viewer=True,
        ),
        Operation(
            "GET",
            "/posts/{id}/comments",
            "Comments under a post, oldest first.",
            {200: Comments, 404: Problem},
            query=Paging,
            viewer=True,
        ),
        Operation(
            "DELETE",
            "/comments/{id}",
            "Delete a comment of one's own, or under a post of one's own.",
            {204: None, 404: Problem},
            viewer=True,
        ),
        Operation("PUT", "/follows/{id}", "Follow somebody.", {204: None, 403: Problem}, viewer=True),
        Operation("DELETE", "/follows/{id}", "Follow somebody no more.", {204: None}, viewer=True),
    ),
)
