"""The PrometheusRule of an outbox: what somebody has to be woken for.

Every relay shows the whole outbox' backlog, so the highest of them counts; slots are shared, so they add up. Where no
relay is scraped, nothing of this would be seen, hence the last alert.

https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule
"""

from __future__ import annotations

from nova_api import names
from nova_api.outbox import MOST_RELAYS, Outbox
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, child

RUNBOOK = "see `nova-data outbox status`, and the relays' log: kubectl logs deployment/"


def relay_rule(service: NovaService, outbox: Outbox, platform: Platform) -> Manifest | None:
    """None where the service is not monitored, and where the cluster does not know the kind."""
    monitoring = service.spec.monitoring
    if monitoring.mode == "Off" or not platform.prometheus_rules:
        return None
    name = names.relay(service.metadata.name)
    spec = {"groups": [{"name": f"{service.metadata.namespace}/{name}", "rules": _alerts(service, outbox)}]}
    return child(service, "monitoring.coreos.com/v1", "PrometheusRule", name, {"spec": spec}, labels=monitoring.labels)


def _alerts(service: NovaService, outbox: Outbox) -> list[Manifest]:
    name = names.relay(service.metadata.name)
    of = f'{{namespace="{service.metadata.namespace}",job="{name}"}}'
    help_ = f"{RUNBOOK}{name}"

    def alert(kind: str, expression: str, lasting: str, severity: str, summary: str) -> Manifest:
        labels = {"severity": severity, "service": service.metadata.name}
        annotations = {"summary": summary, "description": help_}
        return {"alert": kind, "expr": expression, "for": lasting, "labels": labels, "annotations": annotations}

    age = f"{outbox.age_alert:g}"
    return [
        alert(
            "NovaOutboxBacklog",
            f"max(nova_outbox_backlog{of}) >= {outbox.backlog_alert}",
            "2m",
            "warning",
            f"{outbox.backlog_alert} events of {service.metadata.name} or more wait for Kafka",
        ),
        alert(
            "NovaOutboxLate",
            f"max(nova_outbox_oldest_seconds{of}) >= {age}",
            "2m",
            "critical",
            f"an event of {service.metadata.name} has waited for Kafka for {age} s or longer",
        ),
        alert(
            "NovaOutboxQuarantined",
            f"max(nova_outbox_quarantined{of}) > 0",
            "0s",
            "critical",
            f"an event of {service.metadata.name} was given up, and holds back its aggregate: replay or discard it",
        ),
        alert(
            "NovaOutboxUnattended",
            f"(sum(nova_outbox_slots{of}) or vector(0)) < {MOST_RELAYS}",
            "2m",
            "critical",
            f"no relay works on a part of the events of {service.metadata.name}",
        ),
    ]
