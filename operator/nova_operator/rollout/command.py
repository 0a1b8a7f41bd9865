"""What somebody wants of a canary: one annotation on the NovaService, written by `nova rollout`.

    nova.dev/rollout: promote 5f3a9c01d2 2026-01-05T10:00:00Z 2

It names the canary (hash of its template and when it began) and, for a promotion, the step that it is to leave. So it
is done once, however often it is read, and one that comes too late hits no newer canary. The operator never removes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from nova_api import names
from nova_api.status import RolloutStatus

_STEP: Final = re.compile("[0-9]{1,4}")

Verb = Literal["promote", "abort", "retry"]


class Command(msgspec.Struct, frozen=True):
    """`promote`: go on to the next step now. `abort`: take the canary back. `retry`: begin an aborted one anew."""

    verb: Verb
    canary: str
    started: str
    step: int

    def __str__(self) -> str:
        return f"{self.verb} {self.canary} {self.started} {self.step}"

    def concerns(self, status: RolloutStatus) -> bool:
        """Whether it speaks of this canary, and where it is to go on, of this step."""
        same = (self.canary, self.started) == (status.canary, status.started)
        return same and (self.verb != "promote" or self.step == status.step)


def command_for(verb: Verb, status: RolloutStatus) -> Command:
    """What to write to have it done to the canary of a status."""
    return Command(verb, status.canary, status.started, status.step)


def read_command(metadata: Mapping[str, Any]) -> Command | None:
    """The command in an object's annotations; None where there is none, or nothing that could be one."""
    words = str((metadata.get("annotations") or {}).get(names.ANNOTATION_ROLLOUT, "")).split(" ")
    if len(words) != 4 or words[0] not in get_args(Verb) or not _STEP.fullmatch(words[3]):
        return None
    verb: Verb = words[0]  # type: ignore[assignment]  # the line before has looked
    return Command(verb, words[1], words[2], int(words[3]))
