"""What media says of its HTTP side, for /openapi.json."""

from typing import Final

from nova_services.media.forms import Change, Choice, Media
from nova_services.media.kinds import KINDS
from nova_services.openapi import Api, Operation, Problem, Raw

API: Final = Api(
    "media",
    "Pictures and films.",
    (
        Operation(
            "POST",
            "/media",
            "Keep a file, 10 MiB at most.",
            {201: Media, 403: Problem, 413: Problem, 415: Problem},
            body=Raw(kinds=KINDS),
            query=Choice,
            viewer=True,
        ),
        Operation("GET", "/media/{id}", "What is known of a file.", {200: Media, 404: Problem}, viewer=True),
        Operation(
            "PATCH",
            "/media/{id}",
            "Have a file of one's own seen by everybody, or by nobody else.",
            {200: Media, 404: Problem},
            body=Change,
            viewer=True,
        ),
        Operation(
            "GET",
            "/media/{id}/content",
            "The file.",
            {200: Raw(kinds=KINDS), 304: None, 404: Problem},
            viewer=True,
        ),
        Operation("DELETE", "/media/{id}", "Delete a file of one's own.", {204: None, 404: Problem}, viewer=True),
    ),
)
