"""users by gRPC, for other services: profiles to show, and whether two people want to meet."""

from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.users.v1 import users_pb2, users_pb2_grpc

from nova_services.bodies import uuid, uuids
from nova_services.errors import NotFoundError
from nova_services.users.blocks import Blocks
from nova_services.users.profiles import Profile, Profiles

MOST: Final = 100
"""Users that one call asks for."""


class UsersService(users_pb2_grpc.UsersServiceServicer):
    """See the proto."""

    def __init__(self, profiles: Profiles, blocks: Blocks) -> None:
        self._profiles = profiles
        self._blocks = blocks

    def register(self, server: aio.Server) -> None:
        """Add it to a server."""
        users_pb2_grpc.add_UsersServiceServicer_to_server(self, server)

    async def GetProfile(  # noqa: N802 - the proto's
        self, request: users_pb2.GetProfileRequest, context: object
    ) -> users_pb2.GetProfileResponse:
        """One that the viewer may see."""
        wanted = uuid("user_id", request.user_id)
        for profile in await self._profiles.seen([wanted], _viewer(request.viewer_id)):
            return users_pb2.GetProfileResponse(profile=_told(profile))
        raise NotFoundError("there is no such user")

    async def BatchGetProfiles(  # noqa: N802 - the proto's
        self, request: users_pb2.BatchGetProfilesRequest, context: object
    ) -> users_pb2.BatchGetProfilesResponse:
        """Those that the viewer may see."""
        wanted = uuids("user_ids", request.user_ids, MOST)
        found = await self._profiles.seen(wanted, _viewer(request.viewer_id))
        return users_pb2.BatchGetProfilesResponse(profiles=map(_told, found))

    async def CheckBlock(  # noqa: N802 - the proto's
        self, request: users_pb2.CheckBlockRequest, context: object
    ) -> users_pb2.CheckBlockResponse:
        """In either direction."""
        one, other = uuid("user_id", request.user_id), uuid("other_id", request.other_id)
        return users_pb2.CheckBlockResponse(blocked=await self._blocks.between(one, other))

    async def CheckBlocks(  # noqa: N802 - the proto's
        self, request: users_pb2.CheckBlocksRequest, context: object
    ) -> users_pb2.CheckBlocksResponse:
        """In either direction, for many."""
        one, others = uuid("user_id", request.user_id), uuids("other_ids", request.other_ids, MOST)
        found = await self._blocks.among(one, others)
        return users_pb2.CheckBlocksResponse(blocked_ids=map(str, found))


def _viewer(text: str) -> UUID | None:
    return uuid("viewer_id", text) if text else None


def _told(profile: Profile) -> users_pb2.Profile:
    since = Timestamp()
    since.FromDatetime(profile.created_at)
    return users_pb2.Profile(
        user_id=str(profile.user_id),
        display_name=profile.display_name,
        biography=profile.biography,
        created_at=since,
    )
