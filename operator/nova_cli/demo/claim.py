"""What a claim is, and what all of them look at.

A claim drives real traffic through running pods, measures, and gives a verdict. It leaves the services as it found
them, also when it fails, so that claims run alone and in any order.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from nova_api import names
from nova_cli.demo.stage import Stage

STOREFRONT: Final = "http://storefront:8080/"
CATALOG: Final = "http://catalog:8080/items"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim held, and the figures it was judged by."""

    passed: bool
    figures: str


S = TypeVar("S", bound=Stage)


@dataclass(frozen=True)
class Claim(Generic[S]):
    """A claim about what is on a stage, with the name it is chosen by."""

    name: str
    title: str
    check: Callable[[S], Verdict]


def runs_everywhere(stage: Stage, service: str) -> bool:
    """Whether each pod's sidecar reports the hash of the resolved document that its current spec gives."""
    wanted = stage.wanted_hash(service)
    urls = [f"http://{pod.ip}:{names.STATUS_PORT}/status" for pod in stage.pods(service)]
    return all(a["status"] == 200 and json.loads(a["body"])["configHash"] == wanted for a in stage.call(*urls))
