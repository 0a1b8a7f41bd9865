"""Canaries from the first step to their end, on a real API server with sidecars that count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NETWORK_POLICY, NOVA_SERVICE, POD_DISRUPTION_BUDGET, SERVICE
from nova_operator.rollout.command import command_for
from nova_operator.status import read
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.load import Load, image
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene
from tests.cluster.webhooks import network_policies_unheard

OLD, NEW, NEWER = (f"registry.example/app:{number}" for number in (1, 2, 3))
PULLING = {"reason": "ErrImagePull", "message": "there is no such image"}
CRASH_LOOP = {"reason": "CrashLoopBackOff", "message": "back-off"}
SECONDS_TO_ROLL_BACK = 60.0
PATIENCE = 60.0


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(
        apiserver, log, f"--namespace={namespace}", "--sidecar-image=sidecar:test", "--sidecar-poll=0.3"
    ) as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


def canary(*steps: tuple[int, str], gate: bool = False, **other: Any) -> Object:
    """A rollout with these weights and holds; every step but the last may have a gate."""
    listed = [{"weight": weight, "hold": hold} for weight, hold in steps]
    if gate:
        for step in listed[:-1]:
            step["gate"] = True
    return {"strategy": "Canary", "steps": listed, **other}


FOREVER = canary((20, "1h"), (100, "0s"))
QUICK = canary((20, "1s"), (50, "1s"), (100, "1s"), checks={"minimumSamples": 10})


def begin(shop: Scene, rollout: Object = FOREVER, *, rate: float = 300.0, **spec: Any) -> Load:
    """Five pods of the old version under load."""
    shop.kubelet.load = Load(rate)
    shop.settle(**{"replicas": 5, "image": OLD, "rollout": rollout, **spec})
    return shop.kubelet.load


def rollout_of(shop: Scene) -> Object:
    found: Object = shop.status()["rollout"]
    return found


def reaches(shop: Scene, phase: str, step: int | None = None, seconds: float = PATIENCE) -> Object:
    """Wait until the canary is there; its status."""

    def there() -> None:
        found = rollout_of(shop)
        assert (found["phase"], found["step"] if step is not None else None) == (phase, step), found

    eventually(there, seconds)
    return rollout_of(shop)


def deployment(shop: Scene, name: str = "") -> Object | None:
    return shop.api.find(DEPLOYMENT, shop.namespace, name or shop.name)


def stable_image(shop: Scene) -> str:
    found = deployment(shop)
    assert found is not None
    return image(found["spec"]["template"])


def sizes(shop: Scene) -> tuple[int, int]:
    """Pods that both Deployments should have."""
    return tuple(
        (deployment(shop, name) or {"spec": {"replicas": 0}})["spec"]["replicas"]
        for name in (shop.name, names.canary(shop.name))
    )


def selected(shop: Scene) -> str | None:
    """The version whose pods the Service selects; None: those of both."""
    track: str | None = shop.api.get(SERVICE, shop.namespace, shop.name)["spec"]["selector"].get(names.LABEL_TRACK)
    return track


def has_no_canary(shop: Scene) -> None:
    assert deployment(shop, names.canary(shop.name)) is None
    assert {image(pod) for pod in shop.pods()} == {stable_image(shop)}


def say(shop: Scene, verb: Any) -> None:
    """What `nova rollout` writes."""
    status = read(shop.status()).rollout
    annotations = {names.ANNOTATION_ROLLOUT: str(command_for(verb, status))}
    shop.api.patch(NOVA_SERVICE, shop.namespace, shop.name, {"metadata": {"annotations": annotations}})


def test_a_good_version_goes_through_all_steps(shop: Scene) -> None:
    begin(shop, QUICK)
    before = deployment(shop)
    shop.change(image=NEW)
    done = reaches(shop, "Promoted")
    assert done["canary"] == done["stable"]
    eventually(lambda: has_no_canary(shop), PATIENCE)
    assert stable_image(shop) == NEW
    shop.converges()
    assert before is not None
    after = deployment(shop)
    assert after is not None
    assert (after["metadata"]["uid"], after["spec"]["replicas"]) == (before["metadata"]["uid"], 5)
    service = shop.find(SERVICE)
    assert service is not None
    assert service["spec"]["selector"] == {names.LABEL_SERVICE: shop.name}
    told = [reason for reason in shop.events() if reason.startswith("Canary") and reason != "CanaryInconclusive"]
    assert told == ["CanaryStarted", "CanaryStep", "CanaryStep", "CanaryPromoting", "CanaryPromoted"]


def test_a_step_has_its_share_of_pods_and_the_conditions_say_so(shop: Scene) -> None:
    begin(shop, canary((40, "1h"), (100, "0s")))
    shop.change(image=NEW)
    eventually(lambda: _is(sizes(shop), (3, 2)), PATIENCE)
    until(lambda: rollout_of(shop)["holdSince"], PATIENCE)
    assert stable_image(shop) == OLD
    shop.becomes("Canary", "True", "CanaryProgressing")
    shop.becomes("Ready", "False", "CanaryProgressing")
    shop.becomes("Progressing", "True", "CanaryProgressing")
    eventually(lambda: _is(shop.status()["readyReplicas"], 5))
    shop.change(replicas=10)  # scaled during a canary
    eventually(lambda: _is(sizes(shop), (6, 4)), PATIENCE)


def _is(found: Any, expected: Any) -> None:
    assert found == expected


def test_a_version_that_fails_is_taken_back_within_a_minute(shop: Scene) -> None:
    load = begin(shop)
    load.failing[NEW] = 0.3
    shop.change(image=NEW)
    until(lambda: load.served[NEW], PATIENCE)
    began = time.monotonic()
    ended = reaches(shop, "Aborted")
    eventually(lambda: has_no_canary(shop), PATIENCE)
    assert time.monotonic() - began < SECONDS_TO_ROLL_BACK
    assert "of the canary's requests" in ended["message"]
    assert ended["canaryFigures"]["failed"] > 0
    assert stable_image(shop) == OLD
    shop.becomes("Degraded", "True", "CanaryAborted")
    shop.becomes("Ready", "False", "CanaryAborted")
    served = load.served[NEW]
    eventually(lambda: _is(sizes(shop), (5, 0)), PATIENCE)
    shop.change(backpressure={"maxConcurrency": 7})  # no other template: it is not tried again
    eventually(lambda: _is(shop.status()["observedGeneration"], 3))
    assert (rollout_of(shop)["phase"], load.served[NEW], sizes(shop)) == ("Aborted", served, (5, 0))
    assert [reason for reason in shop.events() if "Abort" in reason] == ["CanaryAborted"]
    load.failing.clear()
    say(shop, "retry")
    reaches(shop, "Progressing", 1)


def test_a_version_that_fails_is_taken_back_whatever_else_is_refused(shop: Scene) -> None:
    """Else it would have its share until somebody mends what is wrong with the rest of the spec."""
    load = begin(shop, canary((40, "1h"), (100, "0s")))
    shop.change(image=NEW)
    until(lambda: rollout_of(shop)["holdSince"], PATIENCE)
    eventually(lambda: _is((selected(shop), sizes(shop)), (None, (3, 2))), PATIENCE)
    wrong = {"mode": "Enforce", "allowFrom": [{"podSelektor": {}}]}
    shop.change(networkPolicy=wrong, podDisruptionBudget={"mode": "Off"})
    shop.becomes("Degraded", "True", "ChildRejected")
    load.failing[NEW] = 1.0
    reaches(shop, "Aborted")
    eventually(lambda: _is((selected(shop), sizes(shop)), (names.STABLE, (5, 0))), PATIENCE)
    eventually(lambda: has_no_canary(shop), PATIENCE)
    assert shop.find(POD_DISRUPTION_BUDGET) is not None  # all else waits
    shop.change(replicas=6)  # and now that there is no canary, all of it does
    shop.becomes("Degraded", "True", "ChildRejected")
    assert sizes(shop) == (5, 0)
    shop.change(networkPolicy={"mode": "Off"})
    eventually(lambda: _is(sizes(shop), (6, 0)), PATIENCE)


def test_a_version_that_fails_is_taken_back_while_a_webhook_is_down(shop: Scene) -> None:
    """It may have gone down with what makes the version fail, such as a node."""
    load = begin(shop, canary((40, "1h"), (100, "0s")))
    shop.change(image=NEW)
    until(lambda: rollout_of(shop)["holdSince"], PATIENCE)
    eventually(lambda: _is((selected(shop), sizes(shop)), (None, (3, 2))), PATIENCE)
    with network_policies_unheard(shop.api, shop.namespace):
        shop.change(networkPolicy={"mode": "Enforce"})
        load.failing[NEW] = 1.0
        reaches(shop, "Aborted")
        eventually(lambda: _is((selected(shop), sizes(shop)), (names.STABLE, (5, 0))), PATIENCE)
        eventually(lambda: has_no_canary(shop), PATIENCE)
        assert shop.find(NETWORK_POLICY) is None  # all else waits


def test_a_slow_version_is_taken_back(shop: Scene) -> None:
    load = begin(shop)
    load.slow[NEW] = 0.2
    shop.change(image=NEW)
    assert "took longer than" in reaches(shop, "Aborted")["message"]


def test_errors_that_both_versions_have_blame_nobody(shop: Scene) -> None:
    load = begin(shop, QUICK)
    load.failing = {OLD: 0.3, NEW: 0.3}
    shop.change(image=NEW)
    reaches(shop, "Promoted")


def test_in_shadow_the_checks_only_talk(shop: Scene) -> None:
    load = begin(shop, canary((20, "2s"), (100, "1s"), checks={"mode": "Shadow"}))
    load.failing[NEW] = 1.0
    shop.change(image=NEW)
    reaches(shop, "Promoted")


def test_a_gate_waits_and_a_late_promote_hits_nothing(shop: Scene) -> None:
    begin(shop, canary((20, "0s"), (60, "0s"), (100, "0s"), gate=True, checks={"minimumSamples": 10}))
    shop.change(image=NEW)
    reaches(shop, "Gated", 1)
    shop.becomes("Canary", "True", "CanaryGated")
    say(shop, "promote")
    reaches(shop, "Gated", 2)  # and not further: the same annotation is still there
    shop.change(image=NEWER)
    reaches(shop, "Gated", 1)
    assert {image(pod) for pod in shop.pods()} == {OLD, NEWER}
    say(shop, "abort")
    assert "nova rollout abort" in reaches(shop, "Aborted")["message"]


def test_checks_go_on_at_a_gate(shop: Scene) -> None:
    load = begin(shop, canary((20, "0s"), (100, "0s"), gate=True))
    shop.change(image=NEW)
    reaches(shop, "Gated", 1)
    load.failing[NEW] = 1.0
    reaches(shop, "Aborted")


@pytest.mark.parametrize(("policy", "phase"), [("Hold", "Inconclusive"), ("Abort", "Aborted"), ("Promote", "Promoted")])
def test_little_traffic(shop: Scene, policy: str, phase: str) -> None:
    begin(shop, canary((20, "0s"), (100, "0s"), onInconclusive=policy), rate=0.0)
    shop.change(image=NEW)
    reaches(shop, phase)


def test_a_spec_that_changes_during_a_canary_begins_anew_and_the_stable_version_stays(shop: Scene) -> None:
    begin(shop)
    shop.change(image=NEW)
    reaches(shop, "Progressing", 1)
    shop.change(image=NEWER)
    eventually(lambda: _is({image(pod) for pod in shop.pods()}, {OLD, NEWER}), PATIENCE)
    assert stable_image(shop) == OLD
    eventually(lambda: _is(selected(shop), None), PATIENCE)
    shop.change(backpressure={"maxConcurrency": 7})  # configuration is for both, and restarts nothing
    started = rollout_of(shop)["started"]
    shop.becomes("Converged", "True", "ConfigCurrent")
    assert rollout_of(shop)["started"] == started
    shop.change(image=OLD)
    reaches(shop, "Idle")
    eventually(lambda: has_no_canary(shop), PATIENCE)
    shop.converges()


def test_a_canary_that_gives_way_to_one_that_cannot_start_gets_no_more_requests(shop: Scene) -> None:
    begin(shop)
    shop.change(image=NEW)
    until(lambda: rollout_of(shop)["holdSince"], PATIENCE)
    eventually(lambda: _is(selected(shop), None), PATIENCE)
    shop.kubelet.waiting_image, shop.kubelet.waiting = NEWER, PULLING
    shop.change(image=NEWER)
    eventually(lambda: _is(selected(shop), names.STABLE), PATIENCE)
    eventually(lambda: _is(rollout_of(shop)["message"], "0 of 1 pods of the canary are ready"), PATIENCE)
    eventually(lambda: _is(sizes(shop), (5, 1)), PATIENCE)


def test_pods_that_crash_end_it(shop: Scene) -> None:
    shop.kubelet.waiting_image = NEW
    begin(shop)
    shop.kubelet.waiting = CRASH_LOOP
    shop.change(image=NEW)
    assert "do not run" in reaches(shop, "Aborted")["message"]
    shop.change(image=NEWER)
    reaches(shop, "Progressing", 1)


def test_strategy_rolling_ends_it_with_the_new_version(shop: Scene) -> None:
    begin(shop)
    shop.change(image=NEW)
    reaches(shop, "Progressing", 1)
    shop.change(rollout={"strategy": "Rolling"})
    eventually(lambda: _is(stable_image(shop), NEW), PATIENCE)
    eventually(lambda: has_no_canary(shop), PATIENCE)
    shop.converges()


def test_two_canaries_know_nothing_of_each_other(api: Api, namespace: str, shop: Scene) -> None:
    with scene(api, namespace) as other:
        load = begin(shop)
        begin(other, QUICK)
        load.failing[NEW] = 1.0
        shop.change(image=NEW)
        other.change(image=NEW)
        reaches(shop, "Aborted")
        reaches(other, "Promoted")
        assert (stable_image(shop), stable_image(other)) == (OLD, NEW)


def test_a_service_that_never_ran_has_nothing_to_protect(shop: Scene) -> None:
    shop.kubelet.waiting, shop.kubelet.waiting_image = CRASH_LOOP, OLD
    shop.create(replicas=2, image=OLD, rollout=FOREVER)
    until(shop.pods)
    shop.change(image=NEW)
    eventually(lambda: _is(stable_image(shop), NEW))
    assert deployment(shop, names.canary(shop.name)) is None
    shop.converges()


def test_ports_do_not_change_by_a_canary(shop: Scene) -> None:
    begin(shop)
    shop.change(image=NEW, ports=[{"port": 8080, "appPort": 9090}])
    assert "strategy Rolling" in reaches(shop, "Aborted")["message"]
    document = shop.find(CONFIG_MAP)
    assert document is not None
    assert '"app":{"host":"127.0.0.1","port":8080}' in document["data"][names.CONFIG_KEY]
    assert deployment(shop, names.canary(shop.name)) is None
    shop.change(rollout={"strategy": "Rolling"})
    eventually(lambda: _is(stable_image(shop), NEW), PATIENCE)
    shop.converges()
