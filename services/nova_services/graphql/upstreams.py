"""The services behind the gateway, and the connections to them, which last as long as the process."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp
from nova.messages.v1.messages_pb2_grpc import MessagesServiceStub
from nova.notifications.v1.notifications_pb2_grpc import NotificationsServiceStub
from nova.posts.v1.posts_pb2_grpc import PostsServiceStub
from nova.users.v1.users_pb2_grpc import UsersServiceStub

from nova_services import rpc

if TYPE_CHECKING:
    from nova.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub
    from nova.notifications.v1.notifications_pb2_grpc import NotificationsServiceAsyncStub
    from nova.posts.v1.posts_pb2_grpc import PostsServiceAsyncStub
    from nova.users.v1.users_pb2_grpc import UsersServiceAsyncStub


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where each is: host and port of gRPC, URLs of HTTP."""

    users: str
    posts: str
    messages: str
    notifications: str
    content_url: str
    search_url: str
    recommendations_url: str


class Upstreams:
    """Open in its block. Nothing need be there when it begins."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._stack = AsyncExitStack()
        self.content = addresses.content_url.rstrip("/")
        self.search = addresses.search_url.rstrip("/")
        self.recommendations = addresses.recommendations_url.rstrip("/")
        self.session: aiohttp.ClientSession
        self.users: UsersServiceAsyncStub
        self.posts: PostsServiceAsyncStub
        self.messages: MessagesServiceAsyncStub
        self.notifications: NotificationsServiceAsyncStub

    async def __aenter__(self) -> Self:
        open_one, at = self._stack.enter_async_context, self._addresses
        # what is called at once is bounded by the sidecar, and cookies are nobody's here
        connector = aiohttp.TCPConnector(limit=0)
        self.session = await open_one(aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()))
        self.users = UsersServiceStub(await open_one(rpc.channel(at.users)))
        self.posts = PostsServiceStub(await open_one(rpc.channel(at.posts)))
        self.messages = MessagesServiceStub(await open_one(rpc.channel(at.messages)))
        self.notifications = NotificationsServiceStub(await open_one(rpc.channel(at.notifications)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
