"""A server of UsersService that knows of blocks and nothing else, for services that ask it."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from nova.users.v1 import users_pb2, users_pb2_grpc


class UsersPeer(users_pb2_grpc.UsersServiceServicer):
    """Answers as `blocks` says, while `open` is set; `asked` counts the questions."""

    def __init__(self) -> None:
        self.blocks: set[frozenset[str]] = set()
        self.open = threading.Event()
        self.open.set()
        self.asked = 0
        self.correlations: list[str] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        users_pb2_grpc.add_UsersServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def CheckBlock(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        self._hear(context)
        return users_pb2.CheckBlockResponse(blocked=frozenset((request.user_id, request.other_id)) in self.blocks)

    def CheckBlocks(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        self._hear(context)
        blocked = [other for other in request.other_ids if frozenset((request.user_id, other)) in self.blocks]
        return users_pb2.CheckBlocksResponse(blocked_ids=blocked)

    def _hear(self, context: Any) -> None:
        self.asked += 1
        self.correlations += [value for name, value in context.invocation_metadata() if name == "correlation-id"]
        self.open.wait(10)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes questions and answers none, as a process that hangs does."""
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    def close(self) -> None:
        """End it."""
        self.open.set()
        self._server.stop(None).wait(5)
