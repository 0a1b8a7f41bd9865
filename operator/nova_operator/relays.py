"""The relays of a service's outbox: whether they bring its events to Kafka. Pure.

They are no part of the service: while they are away its events wait in the database, and it serves on. So what they
need somebody for is Degraded, and neither Ready nor Progressing speaks of them.
"""

from __future__ import annotations

from nova_api import names
from nova_api.outbox import Outbox
from nova_operator import database, reasons
from nova_operator.database import DatabaseState
from nova_operator.deployments import is_rolled_out
from nova_operator.desired.metadata import Manifest
from nova_operator.observation import RelayState
from nova_operator.pods import PodView
from nova_operator.verdict import Verdict


def state_of(
    service: str,
    outbox: Outbox,
    *,
    prepared: DatabaseState | None,
    deployment: Manifest | None,
    pods: tuple[PodView, ...],
) -> RelayState:
    """`prepared`: how far the preparation of the database is; `deployment` and `pods` are the relays'."""
    if outbox.mode == "Off":
        message = "events wait in the outbox until spec.database.outbox.mode is Enforce again"
        return RelayState(verdict=Verdict("False", reasons.RELAYS_OFF, message), trouble=None)
    trouble = next((pod.trouble for pod in pods if pod.trouble), None)
    if trouble is not None:
        return RelayState(verdict=Verdict("False", trouble.reason, trouble.message), trouble=trouble)
    if is_rolled_out(deployment, outbox.replicas):
        message = f"{_relays(outbox.replicas)} PostgreSQL and Kafka"
        return RelayState(verdict=Verdict("True", reasons.RELAYS_READY, message), trouble=None)
    if deployment is None and prepared is not None and prepared.phase != "Done":
        reason, message = database.verdict(prepared).reason, "relays wait until the database is prepared"
    else:
        reason, message = reasons.RELAYS_NOT_READY, _not_ready(service, outbox, deployment, pods)
    return RelayState(verdict=Verdict("False", reason, message), trouble=None)


def _not_ready(service: str, outbox: Outbox, deployment: Manifest | None, pods: tuple[PodView, ...]) -> str:
    status = (deployment or {}).get("status") or {}
    count = f"{status.get('availableReplicas', 0)} of {outbox.replicas} relays are ready"
    waiting = next((pod.name for pod in pods if pod.unmounted), None)
    if waiting is None:
        log = f"kubectl logs deployment/{names.relay(service)}"
        return f"{count}: the others begin, or do not reach PostgreSQL or Kafka; see: {log}"
    needs = f"is Secret/{outbox.kafka_secret_ref} there? " if outbox.kafka_secret_ref else ""
    return f"{count}: pod {waiting} waits for its volumes: {needs}see: kubectl describe pod {waiting}"


def _relays(count: int) -> str:
    return "the relay reaches" if count == 1 else f"all {count} relays reach"
