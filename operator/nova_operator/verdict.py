"""A condition without its history. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Whether a condition holds, and why."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


Verdicts = Mapping[str, Verdict]
"""By type of condition."""
