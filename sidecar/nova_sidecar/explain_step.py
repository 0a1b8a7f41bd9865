"""What an explanation is made of: one step for each policy, and the words that all steps share."""

from typing import Any, NamedTuple, Protocol

from nova_sidecar.pipeline.refusals import REFUSALS
from nova_sidecar.policy.reasons import Reason


class Asked(Protocol):
    """What is known of the request."""

    @property
    def method(self) -> str: ...  # noqa: D102 - as in `explain.Request`
    @property
    def path(self) -> str: ...  # noqa: D102 - as above
    @property
    def grpc(self) -> bool: ...  # noqa: D102 - as above


class Step(NamedTuple):
    """One policy: its field in the document, its mode, what it would do, and its values."""

    policy: str
    mode: str
    does: tuple[str, ...]
    values: Any


def answer(reason: Reason, request: Asked) -> str:
    """How a refusal is answered: HTTP status or gRPC code, and the reason that is in ``x-nova-reject``."""
    refusal = REFUSALS[reason]
    return f"gRPC status {refusal.code}, {reason}" if request.grpc else f"{refusal.status}, {reason}"


def by_mode(mode: str, *sentences: str) -> tuple[str, ...]:
    """What a policy does by its mode; in Shadow it only counts."""
    if mode == "Off":
        return ("Does nothing.",)
    if mode == "Shadow":
        return ("Counts what it would do, and lets everything pass:", *sentences)
    return sentences
