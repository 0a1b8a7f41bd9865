"""All children or none, without asking first."""

import asyncio
from typing import Any

import pytest

from nova_operator import reasons
from nova_operator.cluster import StaleError, UnavailableError
from nova_operator.creation import ObstacleError, create, is_creation
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE
from nova_operator.plan import Apply, ChildKey, Prune, Wait
from nova_operator.pods import Trouble

ACTIONS = [Apply(ChildKey(kind, "shop"), {"kind": kind.kind}, "missing") for kind in (DEPLOYMENT, CONFIG_MAP, SERVICE)]


class World:
    """Takes writes down; `refuse` says what becomes of a kind instead."""

    def __init__(self, **refuse: Exception) -> None:
        self.refuse = refuse
        self.did: list[str] = []

    async def write(self, action: Apply) -> Any:
        kind = action.child.kind.kind
        await asyncio.sleep(0)
        if kind in self.refuse:
            raise self.refuse[kind]
        self.did.append(f"make {kind}")
        return {"metadata": {"uid": f"uid of {kind}"}}

    async def delete(self, one: Prune) -> None:
        assert one.uid == f"uid of {one.child.kind.kind}"
        self.did.append(f"delete {one.child.kind.kind}")

    def create(self) -> None:
        asyncio.run(create(ACTIONS, self.write, self.delete))


def test_the_deployment_is_made_when_all_that_it_needs_is_there() -> None:
    world = World()
    world.create()
    assert world.did == ["make ConfigMap", "make Service", "make Deployment"]


@pytest.mark.parametrize(
    "failure", [ObstacleError(Trouble(reasons.CHILD_REJECTED, "no")), StaleError("somebody has that name")]
)
def test_a_refusal_undoes_what_was_made(failure: Exception) -> None:
    world = World(Deployment=failure)
    with pytest.raises(type(failure)):
        world.create()
    assert world.did == ["make ConfigMap", "make Service", "delete Service", "delete ConfigMap"]


def test_what_is_made_beside_a_refusal_is_undone_too() -> None:
    world = World(ConfigMap=StaleError("taken"))
    with pytest.raises(StaleError):
        world.create()
    assert world.did == ["make Service", "delete Service"]


def test_a_server_that_does_not_answer_undoes_nothing() -> None:
    """The next run goes on from there."""
    world = World(Service=UnavailableError("no answer"))
    with pytest.raises(UnavailableError):
        world.create()
    assert world.did == ["make ConfigMap"]


def test_a_creation_finds_nothing_there() -> None:
    assert is_creation(ACTIONS)
    assert not is_creation(ACTIONS[:1])  # a single child that was deleted: it is asked who has its name
    assert not is_creation([*ACTIONS, Wait(ACTIONS[0].child)])
    assert not is_creation([*ACTIONS, Apply(ACTIONS[0].child, {}, "changed")])
