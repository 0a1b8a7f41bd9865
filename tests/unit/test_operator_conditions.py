"""Conditions, status and events: from observations to what people and programs read."""

from itertools import pairwise
from typing import Any

import pytest

from nova_api.status import NovaServiceStatus, RolloutStatus
from nova_operator import reasons, status
from nova_operator.conditions import assess, merge
from nova_operator.events import BURST, Allowance, Event, manifest, transitions
from nova_operator.last_good import Refused
from nova_operator.observation import Observation, is_behind_its_pods, is_held_up
from nova_operator.pods import PodView, Trouble, view
from nova_operator.sidecars import Refusal, SidecarReport
from nova_operator.trouble import DELIVERY

HASH = "0123456789abcdef"
CURRENT = SidecarReport(config_hash=HASH, breakers={"auth": "closed"})
OLD = SidecarReport(config_hash="ffff")


def pod(
    name: str, *, ready: bool = True, trouble: Trouble | None = None, leaving: bool = False, image: str = ""
) -> PodView:
    return PodView(
        name=name,
        uid=name,
        resource_version="1",
        address="10.0.0.1",
        ready=ready,
        leaving=leaving,
        hash_annotation="",
        trouble=trouble,
        sidecar_image=image,
    )


def deployment(replicas: int = 2, *, available: int | None = None, conditions: Any = (), **counts: int) -> Any:
    numbers = {
        "observedGeneration": 3,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "availableReplicas": replicas if available is None else available,
        "readyReplicas": replicas if available is None else available,
    }
    return {"metadata": {"generation": 3}, "status": {**numbers, **counts, "conditions": conditions}}


def seen(**changes: Any) -> Observation:
    usual: dict[str, Any] = {
        "replicas": 2,
        "deployment": deployment(),
        "pods": (pod("a"), pod("b")),
        "reports": {"a": CURRENT, "b": CURRENT},
        "config_hash": HASH,
    }
    return Observation(**{**usual, **changes})


def short(observation: Observation) -> dict[str, tuple[str, str]]:
    return {kind: (verdict.status, verdict.reason) for kind, verdict in assess(observation, ("auth", "stock")).items()}


CRASHING = Trouble(reasons.CRASH_LOOPING, "it crashes")
REFUSED = Trouble(reasons.CHILD_REJECTED, "the API server says no")
TABLE: dict[str, tuple[Observation, dict[str, tuple[str, str]]]] = {
    "all well": (
        seen(),
        {
            "Ready": ("True", reasons.PODS_READY),
            "Progressing": ("False", reasons.PODS_READY),
            "Converged": ("True", reasons.CONFIG_CURRENT),
            "Degraded": ("False", reasons.AS_EXPECTED),
        },
    ),
    "nothing there yet": (
        seen(deployment=None, pods=(), reports={}),
        {
            "Ready": ("False", reasons.ROLLING_OUT),
            "Progressing": ("True", reasons.ROLLING_OUT),
            "Converged": ("False", reasons.NO_PODS),
            "Degraded": ("False", reasons.AS_EXPECTED),
        },
    ),
    "the controller has not seen the new spec": (
        seen(deployment=deployment(observedGeneration=2)),
        {"Ready": ("False", reasons.ROLLING_OUT)},
    ),
    "an old pod is still there": (
        seen(deployment=deployment(3, updatedReplicas=2)),
        {"Ready": ("False", reasons.ROLLING_OUT)},
    ),
    "scaled to zero": (
        seen(replicas=0, deployment=deployment(0), pods=(), reports={}),
        {
            "Ready": ("True", reasons.SCALED_TO_ZERO),
            "Progressing": ("False", reasons.SCALED_TO_ZERO),
            "Converged": ("True", reasons.NO_PODS),
        },
    ),
    "one of two pods came without the sidecar": (
        seen(pods=(pod("a"),), reports={"a": CURRENT}, missed="1 pod without it gets no traffic", injected=True),
        {
            "Ready": ("False", reasons.SIDECAR_MISSING),
            "Progressing": ("False", reasons.STALLED),
            "Converged": ("True", reasons.CONFIG_CURRENT),
            "Degraded": ("True", reasons.SIDECAR_MISSING),
        },
    ),
    "no pod has the sidecar": (
        seen(pods=(), reports={}, missed="2 pods without the sidecar get no traffic", injected=True),
        {"Ready": ("False", reasons.SIDECAR_MISSING), "Converged": ("False", reasons.SIDECAR_MISSING)},
    ),
    "a stranger asks for the sidecar of a service that makes its own pods": (
        seen(missed="1 pod without the sidecar gets no traffic"),
        {"Ready": ("True", reasons.PODS_READY), "Degraded": ("True", reasons.SIDECAR_MISSING)},
    ),
    "one sidecar is behind": (
        seen(reports={"a": CURRENT, "b": OLD}),
        {
            "Ready": ("True", reasons.PODS_READY),
            "Progressing": ("True", reasons.CONFIG_PENDING),
            "Converged": ("False", reasons.CONFIG_PENDING),
            "Degraded": ("False", reasons.AS_EXPECTED),
        },
    ),
    "one ready pod was not asked yet": (
        seen(reports={"a": CURRENT}),
        {"Converged": ("False", reasons.CONFIG_PENDING), "Reconciling": ("True", reasons.CONFIG_PENDING)},
    ),
    "one ready pod is silent": (
        seen(reports={"a": CURRENT}, silent=frozenset({"b"})),
        {"Converged": ("False", reasons.SIDECAR_UNREACHABLE), "Degraded": ("False", reasons.AS_EXPECTED)},
    ),
    "a leaving pod does not count": (
        seen(pods=(pod("a"), pod("b"), pod("c", leaving=True))),
        {"Converged": ("True", reasons.CONFIG_CURRENT)},
    ),
    "a sidecar refuses the current document": (
        seen(reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "expected int", HASH))}, config_age=0.1),
        {
            "Ready": ("True", reasons.PODS_READY),
            "Progressing": ("False", reasons.STALLED),
            "Converged": ("False", reasons.CONFIG_REJECTED),
            "Degraded": ("True", reasons.CONFIG_REJECTED),
        },
    ),
    "a sidecar refused some document, and the current one is on its way": (
        seen(reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "no"))}, config_age=DELIVERY / 2),
        {"Converged": ("False", reasons.CONFIG_PENDING), "Degraded": ("False", reasons.AS_EXPECTED)},
    ),
    "a sidecar refused some document, and the current one has long been there": (
        seen(reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "no"))}, config_age=DELIVERY * 2),
        {"Converged": ("False", reasons.CONFIG_REJECTED), "Degraded": ("True", reasons.CONFIG_REJECTED)},
    ),
    "a sidecar refused an older document": (
        seen(reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "no", "eeee"))}),
        {"Converged": ("False", reasons.CONFIG_PENDING)},
    ),
    "a pod crashes while the old ones serve": (
        seen(
            pods=(pod("a"), pod("b", ready=False, trouble=CRASHING)),
            deployment=deployment(available=1),
        ),
        {
            "Ready": ("False", reasons.CRASH_LOOPING),
            "Progressing": ("False", reasons.STALLED),
            "Degraded": ("True", reasons.CRASH_LOOPING),
        },
    ),
    "pods are not admitted": (
        seen(
            pods=(),
            reports={},
            deployment=deployment(
                0,
                conditions=[{"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}],
            ),
        ),
        {"Ready": ("False", reasons.PODS_REFUSED), "Degraded": ("True", reasons.PODS_REFUSED)},
    ),
    "the rollout takes too long": (
        seen(
            pods=(pod("a"), pod("b", ready=False)),
            deployment=deployment(
                available=1,
                conditions=[{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
            ),
        ),
        {"Degraded": ("True", reasons.PROGRESS_DEADLINE_EXCEEDED), "Progressing": ("False", reasons.STALLED)},
    ),
    "the spec could not be put into force": (
        seen(obstacle=REFUSED),
        {
            "Ready": ("False", reasons.CHILD_REJECTED),
            "Progressing": ("False", reasons.STALLED),
            "Converged": ("False", reasons.CHILD_REJECTED),
            "Degraded": ("True", reasons.CHILD_REJECTED),
            "Stalled": ("True", reasons.CHILD_REJECTED),
        },
    ),
    "the last good configuration is in force": (
        seen(refused=Refused("eeee", "t", "b", "$.x: expected less")),
        {
            "Ready": ("True", reasons.PODS_READY),
            "Converged": ("False", reasons.CONFIG_REJECTED),
            "Stalled": ("True", reasons.CONFIG_REJECTED),
        },
    ),
    "an old sidecar refuses what the new ones run, and is about to go": (
        seen(
            pods=(pod("a", image="new"), pod("b", image="old")),
            reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "unknown field", HASH))},
            deployment=deployment(3, updatedReplicas=1),
            sidecar_image="new",
        ),
        {"Converged": ("False", reasons.CONFIG_PENDING), "Degraded": ("False", reasons.AS_EXPECTED)},
    ),
    "an old sidecar of the stable version refuses it while a canary is held at a gate": (
        seen(
            pods=(pod("a", image="new"), pod("b", image="old")),
            reports={"a": CURRENT, "b": SidecarReport("ffff", Refusal("$.x", "unknown field", HASH))},
            rollout=RolloutStatus(phase="Gated", step=1, weight=50),
            sidecar_image="new",
        ),
        {"Converged": ("False", reasons.CONFIG_PENDING), "Degraded": ("False", reasons.AS_EXPECTED)},
    ),
    "a breaker is open": (
        seen(reports={"a": CURRENT, "b": SidecarReport(HASH, None, {"auth": "half_open"})}),
        {"Ready": ("True", reasons.PODS_READY), "CircuitOpen": ("True", reasons.BREAKERS_OPEN)},
    ),
    "nobody has told of breakers yet": (seen(reports={}), {"CircuitOpen": ("Unknown", reasons.NOT_REPORTED)}),
    "an adopted pod has too little time to leave": (
        seen(drain_needed=45, grace_period=30),
        {
            "Ready": ("True", reasons.PODS_READY),
            "Progressing": ("False", reasons.PODS_READY),
            "Degraded": ("True", reasons.DRAIN_BUDGET_TOO_SMALL),
        },
    ),
    "the definition is newer than the operator": (
        seen(ignored=("$.spec.new",)),
        {"Ready": ("True", reasons.PODS_READY), "FieldsIgnored": ("True", reasons.NEWER_DEFINITION)},
    ),
}
ALWAYS = {"Ready", "Progressing", "Converged", "Degraded", "CircuitOpen"}
PASSING = {"Reconciling", "Stalled", "FieldsIgnored", "Canary"}


@pytest.mark.parametrize(("observation", "expected"), TABLE.values(), ids=TABLE)
def test_conditions_follow_from_what_is_seen(observation: Observation, expected: dict[str, tuple[str, str]]) -> None:
    verdicts = short(observation)
    assert {kind: verdicts[kind] for kind in expected} == expected


@pytest.mark.parametrize(("observation", "_expected"), TABLE.values(), ids=TABLE)
def test_every_condition_is_always_there_and_says_something(observation: Observation, _expected: Any) -> None:
    verdicts = assess(observation)
    assert ALWAYS <= set(verdicts) <= ALWAYS | PASSING
    assert all(verdicts[kind].status == "True" for kind in PASSING & set(verdicts))
    assert all(verdict.reason.isalpha() and verdict.message for verdict in verdicts.values())


def build(observation: Observation, before: NovaServiceStatus, now: str, generation: int = 1) -> NovaServiceStatus:
    return status.build(
        status.Subject(name="shop", generation=generation, upstreams=("auth", "stock")), observation, before, now
    )


def test_an_unchanged_observation_gives_an_equal_status() -> None:
    first = build(seen(), NovaServiceStatus(), "T1")
    assert build(seen(), first, "T2") == first


def test_the_transition_time_moves_with_the_status_alone() -> None:
    first = merge((), assess(seen(reports={"a": CURRENT, "b": OLD})), 1, "T1")
    second = merge(first, assess(seen(reports={}, silent=frozenset("ab"))), 2, "T2")  # another reason, the same status
    third = merge(second, assess(seen()), 2, "T3")
    converged = [next(c for c in conditions if c.type == "Converged") for conditions in (first, second, third)]
    assert [(c.reason, c.observed_generation, c.last_transition_time) for c in converged] == [
        (reasons.CONFIG_PENDING, 1, "T1"),
        (reasons.SIDECAR_UNREACHABLE, 2, "T1"),
        (reasons.CONFIG_CURRENT, 2, "T3"),
    ]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({}, "?/2"),
        ({"a": CURRENT}, "2/2"),
        ({"a": CURRENT, "b": SidecarReport(HASH, None, {"auth": "open", "stock": "closed"})}, "1/2"),
        ({"a": SidecarReport(HASH, None, {"auth": "half_open", "stock": "open"})}, "0/2"),
        ({"gone": SidecarReport(HASH, None, {"auth": "open"})}, "?/2"),
    ],
)
def test_upstreams_are_counted_over_all_sidecars(reports: Any, expected: str) -> None:
    assert build(seen(reports=reports), NovaServiceStatus(), "T").upstreams == expected


def test_what_the_printer_columns_read() -> None:
    written = build(seen(reports={"a": CURRENT, "b": OLD}), NovaServiceStatus(), "T", 4)
    assert (written.observed_generation, written.replicas, written.ready_replicas) == (4, 2, 2)
    assert (written.sidecars.summary, written.selector, written.config_hash) == ("1/2", "nova.dev/service=shop", HASH)


def test_a_status_of_another_version_is_no_obstacle() -> None:
    assert status.read({"conditions": "nonsense"}) == NovaServiceStatus()
    assert status.read(None) == NovaServiceStatus()


def test_events_tell_transitions_and_nothing_else() -> None:
    starting = build(seen(deployment=deployment(available=0), reports={}), NovaServiceStatus(), "T1")
    ready = build(seen(), starting, "T2")
    behind = build(seen(config_hash="new"), ready, "T3")
    crashing = build(seen(pods=(pod("a", trouble=CRASHING),)), behind, "T4")
    history = [NovaServiceStatus(), starting, ready, ready, behind, crashing, crashing, ready]
    told = [[event.reason for event in transitions(a, b)] for a, b in pairwise(history)]
    assert told == [
        [],
        [reasons.ROLLED_OUT],
        [],
        [reasons.CONFIG_CHANGED],
        [reasons.CONFIG_CHANGED, reasons.CRASH_LOOPING],
        [],
        [reasons.RECOVERED],
    ]


def test_a_generation_is_rolled_out_once_and_pods_that_come_back_are_no_rollout() -> None:
    """Nor is a change of the spec that leaves the pods alone: generation 2 here."""
    history = [NovaServiceStatus()]
    for generation, available in ((1, 0), (1, 2), (1, 1), (1, 2), (2, 2), (2, 1), (2, 2), (3, 1), (3, 0), (3, 2)):
        history.append(build(seen(deployment=deployment(available=available)), history[-1], "T", generation))
    told = [(event.reason, event.note) for a, b in pairwise(history) for event in transitions(a, b)]
    assert told == [
        (reasons.ROLLED_OUT, "generation 1 is ready"),
        (reasons.READY_AGAIN, "generation 1 is ready again"),
        (reasons.READY_AGAIN, "generation 2 is ready again"),
        (reasons.ROLLED_OUT, "generation 3 is ready"),
    ]
    assert [one.ready_generation for one in history] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3]


def opened(*upstreams: str, told: int = 1) -> NovaServiceStatus:
    breakers = dict.fromkeys(upstreams, "open")
    reports = {name: SidecarReport(HASH, None, breakers) for name in ("a", "b")[:told]}
    return build(seen(reports=reports | ({} if told == 2 else {"b": CURRENT})), NovaServiceStatus(), "T")


def test_breakers_tell_when_the_first_opens_and_the_last_closes() -> None:
    told = [event for event in transitions(opened("auth"), opened("stock")) if event.action == "Break"]
    assert [(event.type, event.reason, event.note) for event in told] == [
        ("Warning", reasons.CIRCUIT_OPENED, "a breaker of upstream stock opened"),
        ("Normal", reasons.CIRCUIT_CLOSED, "all breakers of upstream auth are closed again"),
    ]


def test_open_breakers_are_counted_by_upstream_and_what_is_made_up_is_not() -> None:
    status_now = opened("auth", "made-up", told=2)
    assert [(one.upstream, one.pods) for one in status_now.open_breakers] == [("auth", 2)]
    message = next(one.message for one in status_now.conditions if one.type == "CircuitOpen")
    assert "auth in 2 of 2 pods" in message
    assert "made-up" not in message


def test_a_message_names_some_upstreams_and_counts_the_rest() -> None:
    names = tuple(f"u{number:02}" for number in range(64))
    reports = {"a": SidecarReport(HASH, None, dict.fromkeys(names, "open"))}
    message = assess(seen(reports=reports), names)["CircuitOpen"].message
    assert "u07 in 1 of 1 pod and 56 other upstreams" in message


def test_an_event_fits_into_the_api_servers_limits() -> None:
    event = Event("Warning", reasons.CIRCUIT_OPENED, "Break", "x" * 2000)
    owner = {"metadata": {"name": "shop", "namespace": "market", "uid": "u"}}
    written = manifest(event, owner, "operator-1", "abc", "2026-01-01T00:00:00.000000Z")
    assert len(written["note"]) <= 1024
    assert written["metadata"] == {"name": "shop.abc", "namespace": "market"}
    assert written["regarding"]["uid"] == "u"


def test_events_are_bounded() -> None:
    allowance = Allowance()
    assert sum(allowance.take(100.0) for _ in range(50)) == BURST
    assert not allowance.take(129.0)
    assert allowance.take(131.0)
    assert not allowance.take(131.0)


def container(name: str, **state: Any) -> Any:
    return {"name": name, "image": f"registry.example/{name}:1", "restartCount": 0, "ready": False, **state}


def waiting(reason: str, message: str = "") -> Any:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


ENDED = {"lastState": {"terminated": {"exitCode": 3}}}
PODS: dict[str, tuple[Any, tuple[str, str] | None]] = {
    "starting": ({"containerStatuses": [container("app", **waiting("ContainerCreating"))]}, None),
    "waits for its sidecar": ({"containerStatuses": [container("app", **waiting("PodInitializing"))]}, None),
    "crashes": (
        {"containerStatuses": [container("app", restartCount=4, **waiting("CrashLoopBackOff"), **ENDED)]},
        (reasons.CRASH_LOOPING, "app keeps ending with exit code 3; see: kubectl logs p-1 -c app --previous"),
    ),
    "crashes and runs for a moment": (
        {"containerStatuses": [container("app", restartCount=2, state={"running": {}}, **ENDED)]},
        (reasons.CRASH_LOOPING, "exit code 3"),
    ),
    "was restarted once": (
        {"containerStatuses": [container("app", restartCount=1, state={"running": {}}, **ENDED)]},
        None,
    ),
    "was restarted often and is ready": (
        {"containerStatuses": [container("app", restartCount=9, state={"running": {}}, **ENDED) | {"ready": True}]},
        None,
    ),
    "killed for memory": (
        {
            "containerStatuses": [
                container(
                    "app",
                    restartCount=3,
                    lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    **waiting("CrashLoopBackOff"),
                )
            ]
        },
        (reasons.CRASH_LOOPING, "raise spec.resources.limits.memory"),
    ),
    "no such image": (
        {"containerStatuses": [container("app", **waiting("ImagePullBackOff", "Back-off pulling"))]},
        (reasons.IMAGE_PULL_FAILED, "Back-off pulling; check spec.image"),
    ),
    "no such sidecar image": (
        {"initContainerStatuses": [container("nova-sidecar", **waiting("ErrImagePull", "not found"))]},
        (reasons.IMAGE_PULL_FAILED, "not found; check spec.sidecar.image"),
    ),
    "image runs as root": (
        {
            "containerStatuses": [
                container(
                    "app",
                    **waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
                )
            ]
        },
        (reasons.CONTAINER_REFUSED, "build the image with a numeric USER other than 0"),
    ),
    "no secret": (
        {"containerStatuses": [container("app", **waiting("CreateContainerConfigError", 'secret "x" not found'))]},
        (reasons.CONTAINER_REFUSED, 'secret "x" not found'),
    ),
    "no node": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
            ]
        },
        (reasons.UNSCHEDULABLE, "0/3 nodes; lower spec.resources or add nodes"),
    ),
}


@pytest.mark.parametrize(("state", "expected"), PODS.values(), ids=PODS)
def test_what_keeps_a_pod_from_running_is_said_with_what_to_do(state: Any, expected: Any) -> None:
    metadata = {"name": "p-1", "uid": "u", "resourceVersion": "5"}
    trouble = view({"metadata": metadata, "status": state}).trouble
    if expected is None:
        assert trouble is None
    else:
        assert trouble is not None
        assert (trouble.reason, expected[1] in trouble.message) == (expected[0], True), trouble.message


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_is_leaving_and_no_trouble(phase: str) -> None:
    statuses = [container("app", **waiting("CrashLoopBackOff"))]
    metadata = {"name": "p-1", "uid": "u", "resourceVersion": "5"}
    seen_pod = view({"metadata": metadata, "status": {"phase": phase, "containerStatuses": statuses}})
    assert (seen_pod.leaving, seen_pod.ready, seen_pod.trouble) == (True, False, None)


def test_what_a_sidecar_says_is_quoted_short() -> None:
    endless = SidecarReport("ffff", Refusal("$.x" * 20_000, "no\n" * 20_000, HASH))
    message = assess(seen(reports={"a": CURRENT, "b": endless}))["Degraded"].message
    assert len(message) < 500
    assert "\n" not in message


def progressing(reason: str, *, available: int, generation: int = 3) -> Any:
    """A Deployment of two pods; the condition is that of its generation 3."""
    said = deployment(available=available, conditions=[{"type": "Progressing", "reason": reason}])
    return {**said, "metadata": {"generation": generation}}


ONE_READY = (pod("a"), pod("b", ready=False))
LATE = progressing("ProgressDeadlineExceeded", available=1)
INJECTED: dict[str, tuple[dict[str, Any], bool]] = {
    "rolled out": ({}, False),
    "rolled out, and another one's pod has its sidecar": ({"pods": (pod("a"), pod("b"), pod("c"))}, False),
    "rolled out before a pod failed": ({"pods": ONE_READY}, True),
    "pods of a finished rollout fail": (
        {"deployment": progressing("NewReplicaSetAvailable", available=1), "pods": ONE_READY},
        False,
    ),
    "on its way": ({"deployment": progressing("ReplicaSetUpdated", available=1), "pods": ONE_READY}, True),
    "not counted yet": ({"deployment": progressing("NewReplicaSetAvailable", available=1)}, True),
    "not there": ({"deployment": None, "pods": ()}, True),
    "stuck": ({"deployment": LATE, "pods": ONE_READY}, False),
    "no longer stuck": ({"deployment": LATE}, True),
    "stuck, with another spec since": (
        {"deployment": progressing("ProgressDeadlineExceeded", available=1, generation=4), "pods": ONE_READY},
        True,
    ),
    "paused": ({"deployment": progressing("DeploymentPaused", available=1), "pods": ONE_READY}, False),
    "with pods that missed the sidecar": ({"deployment": deployment(available=1), "missed": "1 pod"}, False),
    "not injected": ({"deployment": deployment(available=1), "injected": False}, False),
}


@pytest.mark.parametrize(("changes", "behind"), INJECTED.values(), ids=INJECTED)
def test_an_injected_deployment_is_read_again_while_that_may_tell_something(
    changes: dict[str, Any], behind: bool
) -> None:
    assert is_behind_its_pods(seen(**{"injected": True, **changes})) is behind


REFUSED_PODS = {**deployment(updatedReplicas=0, conditions=LATE["status"]["conditions"]), "metadata": {"generation": 3}}
HELD_UP: dict[str, tuple[dict[str, Any], bool]] = {
    "rolled out": ({}, False),
    "not one pod of the new template is admitted": ({"deployment": REFUSED_PODS}, True),
    "no room for the third": ({"replicas": 3, "deployment": progressing("NewReplicaSetAvailable", available=2)}, True),
    "not injected": ({"deployment": REFUSED_PODS, "injected": False}, False),
}


@pytest.mark.parametrize(("changes", "held_up"), HELD_UP.values(), ids=HELD_UP)
def test_an_injected_deployment_that_is_stuck_is_looked_at_since_its_owner_may_mend_it_without_a_pod(
    changes: dict[str, Any], held_up: bool
) -> None:
    found = seen(**{"injected": True, **changes})
    assert (is_held_up(found), is_behind_its_pods(found)) == (held_up, False)
