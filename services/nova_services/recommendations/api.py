"""What recommendations says of its HTTP side, for /openapi.json."""

from typing import Final, Literal

import msgspec

from nova_services.openapi import Api, Operation
from nova_services.recommendations.ranking import Recommended

Source = Literal["PRECOMPUTED", "BY_TIME"]
"""Computed for the user; or, where nothing is ready, the user's feed."""


class Recommendations(msgspec.Struct, frozen=True, rename="camel"):
    """Posts for somebody, the best one first; what they say is content's to tell, to who may see them."""

    posts: list[Recommended]
    source: Source


API: Final = Api(
    "recommendations",
    "Posts of people whom one does not follow yet.",
    (Operation("GET", "/recommendations", "Posts for who asks.", {200: Recommendations}, viewer=True),),
)
