"""users over HTTP.

    GET    /profiles/{id}   a profile; `me` is the viewer's own; 404 where there is none, or it has blocked the viewer
    PATCH  /profiles/{id}   {"displayName", "biography"}, either or both; one's own alone, else 403
    GET    /preferences     the viewer's
    PUT    /preferences     {"theme", "language", "digest", "autoplay"}, as a whole
    PUT    /blocks/{id}     204; 404 where there is no such user
    DELETE /blocks/{id}     204, whether or not there was one
    GET    /blocks          whom the viewer has blocked, the latest first
    GET    /openapi.json    all of this, for programs
    GET    /healthz         200 while the process serves

The viewer is who the sidecar says (x-nova-subject), else 401.
"""

from uuid import UUID

from aiohttp import web

from nova_services import bodies
from nova_services.backing import unavailable
from nova_services.bodies import answer, identifier, read
from nova_services.errors import ForbiddenError, InvalidError, NotFoundError
from nova_services.identity import viewer
from nova_services.openapi import publish
from nova_services.users.api import API, ME, ProfileChange
from nova_services.users.blocks import Blocks
from nova_services.users.metrics import UsersMetrics
from nova_services.users.preferences import Preferences, PreferenceStore
from nova_services.users.profiles import Profile, Profiles
from nova_services.web import application


class Users:
    """The service."""

    def __init__(self, profiles: Profiles, preferences: PreferenceStore, blocks: Blocks, metrics: UsersMetrics) -> None:
        self._profiles = profiles
        self._preferences = preferences
        self._blocks = blocks
        self._metrics = metrics

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.get("/profiles/{id}", self._profile),
            web.patch("/profiles/{id}", self._change),
            web.get("/preferences", self._preferred),
            web.put("/preferences", self._prefer),
            web.put("/blocks/{id}", self._block),
            web.delete("/blocks/{id}", self._unblock),
            web.get("/blocks", self._blocked),
        )
        made.middlewares.append(unavailable)
        publish(made, API)
        return made

    # --- profiles

    async def _profile(self, request: web.Request) -> web.Response:
        asking = viewer(request)
        wanted = _whose(request, asking)
        if wanted == asking:
            return answer(_there(await self._profiles.own(asking)))
        return answer(_there(next(iter(await self._profiles.seen([wanted], asking)), None)))

    async def _change(self, request: web.Request) -> web.Response:
        asking = viewer(request)
        if _whose(request, asking) != asking:
            raise ForbiddenError("a profile is changed by its user")
        given = await read(request, ProfileChange)
        name = None if given.display_name is None else given.display_name.strip()
        if name == "":
            raise InvalidError("displayName", "1 to 80 characters, not all of them white space")
        changed = _there(await self._profiles.change(asking, display_name=name, biography=given.biography))
        self._metrics.profile("changed")
        return answer(changed)

    # --- preferences

    async def _preferred(self, request: web.Request) -> web.Response:
        return answer(await self._preferences.of(viewer(request)))

    async def _prefer(self, request: web.Request) -> web.Response:
        asking, chosen = viewer(request), await read(request, Preferences)
        self._preferences.choose(asking, chosen)
        return answer(chosen)

    # --- blocks

    async def _block(self, request: web.Request) -> web.Response:
        asking, other = viewer(request), identifier(request)
        if asking == other:
            raise InvalidError("id", "another user")
        if await self._blocks.put(asking, other):
            self._metrics.block("set")
        return web.Response(status=204)

    async def _unblock(self, request: web.Request) -> web.Response:
        if await self._blocks.lift(viewer(request), identifier(request)):
            self._metrics.block("lifted")
        return web.Response(status=204)

    async def _blocked(self, request: web.Request) -> web.Response:
        return answer(await self._blocks.of(viewer(request), bodies.page(request)))


def _whose(request: web.Request, asking: UUID) -> UUID:
    return asking if request.match_info["id"] == ME else identifier(request)


def _there(profile: Profile | None) -> Profile:
    if profile is None:
        raise NotFoundError("there is no such user")
    return profile
