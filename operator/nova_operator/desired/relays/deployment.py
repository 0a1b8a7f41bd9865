"""The Deployment of relays, and its PodDisruptionBudget.

Any number of relays may run at once, so a rollout brings the new ones before the old ones go. They pass Pod Security
*restricted*; the database's URL comes from its Secret, and what is secret about Kafka from another one, as files.
"""

from __future__ import annotations

import math
from typing import Final

from nova_api import names
from nova_api.database import DatabasePolicy
from nova_api.model import builtins
from nova_api.outbox import Outbox
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.database_job import LOCKED, TOOLS, database_url
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest, child, literal, tool_labels
from nova_operator.desired.service_account import identity

CONTAINER: Final = "relay"
VOLUME: Final = "kafka"
GRACE_PERIOD: Final = 30
"""Seconds to leave; a round that is under way takes 15 at most."""
_DAY: Final = 86_400


def relays_of(service: NovaService) -> Outbox | None:
    """The outbox of a service that has relays."""
    database = service.spec.database
    outbox = None if database is None else database.outbox
    return None if outbox is None or outbox.mode == "Off" else outbox


def relay_selector(service: NovaService) -> Manifest:
    """What picks the relays among all pods."""
    return {"matchLabels": tool_labels(service, names.relay(service.metadata.name))}


def relay_deployment(service: NovaService, outbox: Outbox, defaults: Defaults) -> Manifest | None:
    """None without a database."""
    policy = service.spec.database
    if policy is None:
        return None
    name = names.relay(service.metadata.name)
    spec: Manifest = {
        "replicas": outbox.replicas,
        "selector": relay_selector(service),
        "template": {
            "metadata": {"labels": tool_labels(service, name)},
            "spec": _pod(service, policy, outbox, defaults),
        },
    }
    return child(service, "apps/v1", "Deployment", name, {"spec": spec})


def relay_budget(service: NovaService, outbox: Outbox) -> Manifest | None:
    """None for a single relay, as for a service's own pods."""
    if outbox.replicas < 2 or service.spec.pod_disruption_budget.mode == "Off":
        return None
    spec = {
        "selector": relay_selector(service),
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(service, "policy/v1", "PodDisruptionBudget", names.relay(service.metadata.name), {"spec": spec})


def _pod(service: NovaService, policy: DatabasePolicy, outbox: Outbox, defaults: Defaults) -> Manifest:
    pod: Manifest = {
        **identity(service),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "containers": [_container(policy, outbox, defaults)],
    }
    if outbox.kafka_secret_ref is None:
        return pod
    return pod | {"volumes": [{"name": VOLUME, "secret": {"secretName": outbox.kafka_secret_ref}}]}


def _container(policy: DatabasePolicy, outbox: Outbox, defaults: Defaults) -> Manifest:
    container: Manifest = {
        "name": CONTAINER,
        "image": defaults.data_image,
        "command": list(TOOLS),
        "args": _arguments(outbox),
        "env": [database_url(policy)],
        "ports": [{"name": names.METRICS_PORT_NAME, "containerPort": names.METRICS_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/healthz", periodSeconds=1, failureThreshold=60),
        "readinessProbe": _probe("/readyz", periodSeconds=5, failureThreshold=2),
        "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=3),
        "resources": {name: value for name, value in builtins(outbox.resources).items() if value},
        "securityContext": LOCKED,
    }
    if outbox.kafka_secret_ref is not None:
        container["args"].append(f"--kafka-file={names.KAFKA_DIRECTORY}")
        container["volumeMounts"] = [{"name": VOLUME, "mountPath": names.KAFKA_DIRECTORY, "readOnly": True}]
    return container


def _arguments(outbox: Outbox) -> list[str]:
    return [
        "relay",
        f"--brokers={','.join(outbox.brokers)}",
        f"--topic-prefix={outbox.topic_prefix}",
        f"--keep={math.ceil(outbox.retention / _DAY)}",
        f"--port={names.METRICS_PORT}",
        *(literal(f"--kafka={name}={value}") for name, value in sorted(outbox.kafka.items())),
    ]


def _probe(path: str, **timing: int) -> Manifest:
    return {"httpGet": {"path": path, "port": names.METRICS_PORT_NAME}, "timeoutSeconds": 2, **timing}
