"""content over gRPC: PostsService, for services that show posts.

Metadata `seen` is what the cookie is by HTTP: whoever calls for somebody who has written hands it on, and what is read
has what was written.
"""

from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.posts.v1 import posts_pb2, posts_pb2_grpc

from nova_data.split.session import OwnWrites
from nova_services.bodies import paged, uuid, uuids
from nova_services.content.forms import Post
from nova_services.content.reading import SEEN, Reading

MOST: Final = 100
"""Posts that one call asks for."""


class PostsRpc(posts_pb2_grpc.PostsServiceServicer):
    """See the proto; errors are those of `nova_services.errors`."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def register(self, server: aio.Server) -> None:
        """Add it to a server."""
        posts_pb2_grpc.add_PostsServiceServicer_to_server(self, server)

    async def GetPost(  # noqa: N802 - the proto's name
        self, request: posts_pb2.GetPostRequest, context: Any
    ) -> posts_pb2.GetPostResponse:
        """One post that the viewer may see; asked for many at once, it is one query."""
        post, viewer = uuid("post_id", request.post_id), _viewer(request.viewer_id)
        with _own_writes(context) as seen:
            found = await self._reading.post(post, viewer, batched=seen.token is None)
        return posts_pb2.GetPostResponse(post=_told(found))

    async def BatchGetPosts(  # noqa: N802 - the proto's name
        self, request: posts_pb2.BatchGetPostsRequest, context: Any
    ) -> posts_pb2.BatchGetPostsResponse:
        """Those that the viewer may see."""
        posts, viewer = uuids("post_ids", request.post_ids, MOST), _viewer(request.viewer_id)
        with _own_writes(context):
            found = await self._reading.some(posts, viewer)
        return posts_pb2.BatchGetPostsResponse(posts=map(_told, found))

    async def ListFeed(  # noqa: N802 - the proto's name
        self, request: posts_pb2.ListFeedRequest, context: Any
    ) -> posts_pb2.ListFeedResponse:
        """A page of the user's feed."""
        user, page = uuid("user_id", request.user_id), paged(request.page_size, request.page_token)
        with _own_writes(context):
            found = await self._reading.feed(user, page)
        return posts_pb2.ListFeedResponse(posts=map(_told, found.posts), next_page_token=found.next_page_token)


def _viewer(text: str) -> UUID | None:
    return uuid("viewer_id", text) if text else None


def _own_writes(context: Any) -> OwnWrites:
    return OwnWrites(dict(context.invocation_metadata()).get(SEEN))


def _told(post: Post) -> posts_pb2.Post:
    created = Timestamp()
    created.FromDatetime(post.created_at)
    return posts_pb2.Post(
        post_id=str(post.post_id),
        author_id=str(post.author_id),
        text=post.text,
        visibility=posts_pb2.Visibility.Value(post.visibility),
        created_at=created,
    )
