"""From what was observed to the conditions of a NovaService. Pure.

    Ready          all wanted pods serve the current spec
    Progressing    something is under way that should end by itself
    Converged      every sidecar runs the configuration of this spec
    Degraded       something is wrong that needs somebody
    CircuitOpen    calls to some upstream are refused without a try (see `circuits`)
    Reconciling    the same as Progressing, in the words of kstatus; only there while it holds
    Stalled        it does not go on unless somebody acts, in the words of kstatus; only there while it holds
    Canary         two versions run; only there while one is under way (see `rollout.telling`)
    DatabaseReady  the database is as the spec wants it; only there with spec.database (see `database`)
    OutboxRelayReady
                   relays bring the events of its outbox to Kafka; only there with spec.database.outbox (see `relays`)
    FieldsIgnored  fields of the spec do nothing: this operator does not know them, or the cluster has not what they
                   need; only there while it holds

`observedGeneration` says of which spec a condition speaks, and `lastTransitionTime` moves with the status alone
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).

kstatus is how Flux, kpt and Helm 4 wait: Reconciling means in progress, Stalled means failed, and without either of
them Ready decides. Both are of "abnormal-true" polarity, so that their absence is the good case
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md). Stalled is not said of pods that
crash or wait for a node: they are tried again, and a Deployment says itself when it took too long.
"""

from __future__ import annotations

from typing import Final

from nova_api import names
from nova_api.status import Condition
from nova_operator import database, reasons
from nova_operator.circuits import circuit_verdict
from nova_operator.deployments import is_rolled_out
from nova_operator.observation import Observation, runs_current
from nova_operator.pods import PodView, Trouble
from nova_operator.rollout import telling
from nova_operator.trouble import find_rejection, find_trouble
from nova_operator.verdict import Verdict, Verdicts

STALLING: Final = frozenset(
    {
        reasons.SPEC_INVALID,
        reasons.CHILD_REJECTED,
        reasons.CONFLICT,
        reasons.WORKLOAD_UNSUITABLE,
        reasons.CONFIG_REJECTED,
        reasons.MIGRATION_FAILED,
        reasons.PROGRESS_DEADLINE_EXCEEDED,
    }
)
"""Reasons of Degraded of which kstatus hears as a failure."""


def assess(seen: Observation, upstreams: tuple[str, ...] | None = None) -> Verdicts:
    """The conditions; `upstreams` are the names that the spec gives, None where it cannot be read."""
    trouble = find_trouble(seen)
    beside = trouble or (seen.relays and seen.relays.trouble)
    ready = _ready(seen, trouble)
    converged = _converged(seen)
    progressing = _progressing(ready, converged, trouble)
    verdicts = {
        "Ready": ready,
        "Progressing": progressing,
        "Converged": converged,
        "Degraded": Verdict("True", beside.reason, beside.message)
        if beside
        else Verdict("False", reasons.AS_EXPECTED, "; ".join(("nothing needs attention", *seen.risks))),
        "CircuitOpen": circuit_verdict(seen, upstreams),
    }
    if progressing.status == "True":
        verdicts["Reconciling"] = progressing
    if trouble is not None and trouble.reason in STALLING:
        verdicts["Stalled"] = verdicts["Degraded"]
    if seen.database is not None:
        verdicts["DatabaseReady"] = database.verdict(seen.database)
    if seen.relays is not None:
        verdicts["OutboxRelayReady"] = seen.relays.verdict
    if seen.ignored or seen.without_effect:
        verdicts["FieldsIgnored"] = _ignored(seen.ignored, seen.without_effect)
    if seen.rollout is not None:
        verdicts |= telling.verdicts(seen.rollout, hindered=seen.obstacle is not None, troubled=trouble is not None)
    return verdicts


def merge(before: tuple[Condition, ...], verdicts: Verdicts, generation: int, now: str) -> tuple[Condition, ...]:
    """The conditions with their history; `now` in RFC 3339. Unchanged verdicts give equal conditions."""
    known = {condition.type: condition for condition in before}
    merged = []
    for kind, verdict in verdicts.items():
        old = known.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        merged.append(
            Condition(
                type=kind,
                status=verdict.status,
                reason=verdict.reason,
                message=verdict.message,
                observed_generation=generation,
                last_transition_time=since,
            )
        )
    return tuple(merged)


def _ready(seen: Observation, trouble: Trouble | None) -> Verdict:
    if seen.obstacle is not None:
        return Verdict("False", seen.obstacle.reason, seen.obstacle.message)
    if seen.database is not None and seen.database.holds:
        verdict = database.verdict(seen.database)
        return Verdict("False", verdict.reason, verdict.message)
    if not is_rolled_out(seen.deployment, seen.replicas):
        available = ((seen.deployment or {}).get("status") or {}).get("availableReplicas", 0)
        if trouble is not None and trouble.reason not in {reasons.CONFIG_REJECTED, reasons.DRAIN_BUDGET_TOO_SMALL}:
            return Verdict("False", trouble.reason, trouble.message)
        return Verdict("False", reasons.ROLLING_OUT, f"{available} of {seen.replicas} pods are available")
    return _rolled_out(seen)


def _rolled_out(seen: Observation) -> Verdict:
    if seen.injected and seen.missed:  # those pods run, and no request of the service reaches them
        return Verdict("False", reasons.SIDECAR_MISSING, seen.missed)
    if seen.replicas == 0:
        return Verdict("True", reasons.SCALED_TO_ZERO, "no pods are wanted")
    return Verdict("True", reasons.PODS_READY, f"{_pods(seen.replicas)} ready")


def _progressing(ready: Verdict, converged: Verdict, trouble: Trouble | None) -> Verdict:
    if trouble is not None and trouble.reason != reasons.DRAIN_BUDGET_TOO_SMALL:
        return Verdict("False", reasons.STALLED, f"waiting for somebody: {trouble.reason}")
    if ready.status != "True":
        return Verdict("True", reasons.ROLLING_OUT, ready.message)
    if converged.status != "True":
        return Verdict("True", converged.reason, converged.message)
    return Verdict("False", ready.reason, "nothing is under way")


def _converged(seen: Observation) -> Verdict:
    if seen.obstacle is not None:
        return Verdict("False", seen.obstacle.reason, "the configuration of this spec was not written")
    if (rejected := find_rejection(seen)) is not None:
        return Verdict("False", rejected.reason, rejected.message)
    pods = seen.staying
    if pods:
        return _delivered(seen, pods)
    if seen.injected and seen.missed:
        return Verdict("False", reasons.SIDECAR_MISSING, seen.missed)
    if seen.replicas == 0:
        return Verdict("True", reasons.NO_PODS, "there is no sidecar to configure")
    return Verdict("False", reasons.NO_PODS, "there are no pods yet")


def _delivered(seen: Observation, pods: tuple[PodView, ...]) -> Verdict:
    behind = [pod for pod in pods if not runs_current(seen, pod)]
    if not behind:
        return Verdict("True", reasons.CONFIG_CURRENT, f"{_sidecars(len(pods))} {seen.config_hash}")
    silent = sorted(pod.name for pod in behind if pod.ready and pod.uid in seen.silent)
    if silent:
        message = (
            f"the sidecar of pod {silent[0]} does not answer on port {names.STATUS_PORT}; is a NetworkPolicy between "
            "it and the operator?"
        )
        return Verdict("False", reasons.SIDECAR_UNREACHABLE, message)
    done = len(pods) - len(behind)
    return Verdict("False", reasons.CONFIG_PENDING, f"{done} of {len(pods)} sidecars run {seen.config_hash}")


def _ignored(fields: tuple[str, ...], without_effect: tuple[str, ...]) -> Verdict:
    if not fields:
        return Verdict("True", reasons.NO_EFFECT, "; ".join(without_effect))
    named = ", ".join(fields[:5]) + (f" and {len(fields) - 5} more" if len(fields) > 5 else "")
    message = f"{named} have no effect: the CustomResourceDefinition is newer than the operator; update the operator"
    return Verdict("True", reasons.NEWER_DEFINITION, message)


def _pods(count: int) -> str:
    return "1 pod is" if count == 1 else f"{count} pods are"


def _sidecars(count: int) -> str:
    return "the sidecar runs" if count == 1 else f"all {count} sidecars run"
