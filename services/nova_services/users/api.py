"""What users says of its HTTP side, for /openapi.json."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from nova_services.openapi import Api, Operation, Paging, Problem
from nova_services.users.blocks import BlockList
from nova_services.users.preferences import Preferences
from nova_services.users.profiles import Profile

ME: Final = "me"
_UUID: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
Whose = Annotated[str, Meta(pattern=f"^({ME}|{_UUID})$")]
"""A part of a path."""


class ProfileChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is to be another; what is null or left out stays."""

    display_name: Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    biography: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*$")] | None = None


API: Final = Api(
    "users",
    "Profiles, preferences and blocks.",
    (
        Operation(
            "GET",
            "/profiles/{id}",
            "A profile; `me` is one's own.",
            {200: Profile, 404: Problem},
            parts={"id": Whose},
            viewer=True,
        ),
        Operation(
            "PATCH",
            "/profiles/{id}",
            "Change one's own profile.",
            {200: Profile, 403: Problem, 404: Problem},
            body=ProfileChange,
            parts={"id": Whose},
            viewer=True,
        ),
        Operation("GET", "/preferences", "What the viewer prefers.", {200: Preferences}, viewer=True),
        Operation("PUT", "/preferences", "Prefer this from now on.", {200: Preferences}, body=Preferences, viewer=True),
        Operation("PUT", "/blocks/{id}", "Block somebody.", {204: None, 404: Problem}, viewer=True),
        Operation("DELETE", "/blocks/{id}", "Take a block back.", {204: None}, viewer=True),
        Operation(
            "GET",
            "/blocks",
            "Whom the viewer has blocked, the latest first.",
            {200: BlockList},
            query=Paging,
            viewer=True,
        ),
    ),
)
