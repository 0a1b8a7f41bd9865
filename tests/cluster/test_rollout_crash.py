"""The operator killed between any two calls of a canary: what was decided stays decided, and the next one does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE
from nova_operator.rollout.command import command_for
from nova_operator.status import read
from tests.cluster.api import Api, eventually
from tests.cluster.load import image
from tests.cluster.scene import Scene, scene
from tests.cluster.test_operator_crash import lives_until_done

OLD, NEW = "registry.example/app:1", "registry.example/app:2"
STEPS = [{"weight": 50, "hold": "0s", "gate": True}, {"weight": 100, "hold": "0s", "gate": True}]
SECONDS = 60.0

pytestmark = pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])


def begin(apiserver: Path, shop: Scene, *, after: bool) -> None:
    """A canary whose pods are ready, whoever was killed on the way there."""
    shop.create(replicas=2, image=OLD, rollout={"strategy": "Canary", "steps": STEPS})

    def runs() -> None:
        lives_until_done(apiserver, shop, after=after)
        deployment = shop.find(DEPLOYMENT)
        assert deployment is not None
        assert (deployment.get("status") or {}).get("availableReplicas") == 2

    eventually(runs, SECONDS)
    shop.change(image=NEW)
    lives_until(apiserver, shop, "Gated", 1, after=after)


def lives_until(apiserver: Path, shop: Scene, phase: str, step: int, *, after: bool) -> None:
    """One operator after the other, each killed one call later than the one before, until the canary is there."""

    def there() -> None:
        lives_until_done(apiserver, shop, after=after)
        found = shop.status()["rollout"]
        assert (found["phase"], found["step"]) == (phase, step), found

    eventually(there, SECONDS)


def say(shop: Scene, verb: Any) -> None:
    command = command_for(verb, read(shop.status()).rollout)
    change = {"metadata": {"annotations": {names.ANNOTATION_ROLLOUT: str(command)}}}
    shop.api.patch(NOVA_SERVICE, shop.namespace, shop.name, change)


def images(shop: Scene) -> list[str | None]:
    """What both Deployments run."""
    found = (shop.api.find(DEPLOYMENT, shop.namespace, name) for name in (shop.name, names.canary(shop.name)))
    return [image(one["spec"]["template"]) if one else None for one in found]


def test_an_abort_is_done_once_it_was_decided(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    with scene(api, namespace) as shop:
        begin(apiserver, shop, after=after)
        assert images(shop) == [OLD, NEW]
        say(shop, "abort")
        lives_until(apiserver, shop, "Aborted", 1, after=after)
        assert images(shop) == [OLD, None]
        lives_until_done(apiserver, shop, after=after)
        assert images(shop) == [OLD, None]


def test_a_promotion_goes_one_step_at_a_time(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    with scene(api, namespace) as shop:
        begin(apiserver, shop, after=after)
        say(shop, "promote")
        lives_until(apiserver, shop, "Gated", 2, after=after)
        assert images(shop) == [OLD, NEW]
        say(shop, "promote")
        lives_until(apiserver, shop, "Promoted", 0, after=after)
        assert images(shop) == [NEW, None]
