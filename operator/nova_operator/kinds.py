"""The kinds of objects that the operator reads and writes."""

from __future__ import annotations

import msgspec

from nova_api import names
from nova_api.v1alpha1 import API_VERSION, KIND, PLURAL
from nova_operator.desired.metadata import Manifest


class Kind(msgspec.Struct, frozen=True):
    """A kind of object and where the API server keeps it."""

    api_version: str
    kind: str
    plural: str
    label: str = names.LABEL_SERVICE
    """The label that names the service which an object belongs to, and by which objects are found."""


NOVA_SERVICE = Kind(API_VERSION, KIND, PLURAL)
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
JOB = Kind("batch/v1", "Job", "jobs")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
SECRET = Kind("v1", "Secret", "secrets")
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules")
POD = Kind("v1", "Pod", "pods")
TOOL_POD = Kind("v1", "Pod", "pods", label=names.LABEL_TOOL_OF)
"""A pod that works for a service and is none of it: of the database's Job, and of relays."""
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
_REGISTRATION = "admissionregistration.k8s.io/v1"
VALIDATING_WEBHOOKS = Kind(_REGISTRATION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
MUTATING_WEBHOOKS = Kind(_REGISTRATION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")

CHILDREN = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    POD_DISRUPTION_BUDGET,
    NETWORK_POLICY,
    INGRESS,
    HORIZONTAL_POD_AUTOSCALER,
    JOB,
    DEPLOYMENT,
)
"""What a service may consist of on every API server."""

OPTIONAL_CHILDREN = (HTTP_ROUTE, POD_MONITOR, PROMETHEUS_RULE)
"""What it may have where a CustomResourceDefinition is installed; that may come and go while the operator runs."""

_APPLIED = (*CHILDREN, *OPTIONAL_CHILDREN, VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)
_BY_NAME = {kind.kind: kind for kind in _APPLIED}


def kind_of(manifest: Manifest) -> Kind:
    """The kind of a manifest that is applied. Raises KeyError for what the operator never applies."""
    return _BY_NAME[manifest["kind"]]
