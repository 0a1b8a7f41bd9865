"""content over gRPC: PostsService, for services that show posts."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.posts.v1 import posts_pb2, posts_pb2_grpc

from nova_services.bodies import paged, uuid
from nova_services.content.forms import Post
from nova_services.content.reading import Reading


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
        post = uuid("post_id", request.post_id)
        viewer = uuid("viewer_id", request.viewer_id) if request.viewer_id else None
        return posts_pb2.GetPostResponse(post=_told(await self._reading.post(post, viewer, batched=True)))

    async def ListFeed(  # noqa: N802 - the proto's name
        self, request: posts_pb2.ListFeedRequest, context: Any
    ) -> posts_pb2.ListFeedResponse:
        """A page of the user's feed."""
        page = paged(request.page_size, request.page_token)
        found = await self._reading.feed(uuid("user_id", request.user_id), page)
        return posts_pb2.ListFeedResponse(posts=map(_told, found.posts), next_page_token=found.next_page_token)


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
