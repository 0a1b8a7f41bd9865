"""auth by gRPC, for other services: whether a token holds at this moment, and the end of somebody's sessions.

Whoever reaches this may end anybody's sessions, so it is for services alone: in examples/backend/auth.yaml the ingress
leads to HTTP, and the port of gRPC is the cluster's own.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.auth.v1 import auth_pb2, auth_pb2_grpc

from nova_services.auth.accounts import Accounts
from nova_services.auth.keys import KeyFolder
from nova_services.auth.metrics import AuthMetrics
from nova_services.auth.tokens import Issuer
from nova_services.bodies import uuid
from nova_services.errors import InvalidError

LONGEST_TOKEN: Final = 8192


class AuthService(auth_pb2_grpc.AuthServiceServicer):
    """See the proto; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        accounts: Accounts,
        keys: KeyFolder,
        issuer: Issuer,
        metrics: AuthMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._issuer = issuer
        self._metrics = metrics
        self._clock = clock

    def register(self, server: aio.Server) -> None:
        """Add it to a server."""
        auth_pb2_grpc.add_AuthServiceServicer_to_server(self, server)

    async def IntrospectToken(  # noqa: N802 - the proto's
        self, request: auth_pb2.IntrospectTokenRequest, context: object
    ) -> auth_pb2.IntrospectTokenResponse:
        """The signature says that auth made it, the database that its session still is one."""
        if not 1 <= len(request.access_token) <= LONGEST_TOKEN:
            raise InvalidError("access_token", f"1 to {LONGEST_TOKEN} characters")
        found = self._issuer.read(self._keys.keys(), request.access_token, now=self._clock())
        if found is None or not await self._accounts.session_holds(found.user, found.session):
            return auth_pb2.IntrospectTokenResponse()
        ends = Timestamp()
        ends.FromDatetime(datetime.fromtimestamp(found.expires, UTC))
        return auth_pb2.IntrospectTokenResponse(
            active=True, user_id=str(found.user), session_id=str(found.session), expires_at=ends
        )

    async def RevokeSessions(  # noqa: N802 - the proto's
        self, request: auth_pb2.RevokeSessionsRequest, context: object
    ) -> auth_pb2.RevokeSessionsResponse:
        """All of them; a second time there are none."""
        ended = await self._accounts.revoke_all(uuid("user_id", request.user_id))
        self._metrics.revoked(ended)
        return auth_pb2.RevokeSessionsResponse(revoked=ended)
