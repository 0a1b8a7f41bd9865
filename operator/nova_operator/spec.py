"""From a NovaService as the API server gives it to what should be there. Pure."""

from __future__ import annotations

import math

import msgspec

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.unknown import without_unknown
from nova_api.v1alpha1 import NovaService, closes_within
from nova_operator.desired.metadata import Manifest


class Reading(msgspec.Struct, frozen=True):
    """A spec, as far as this operator understands it."""

    service: NovaService
    ignored: tuple[str, ...] = ()
    """Paths of the fields that it does not know."""


def read(document: Manifest) -> Reading:
    """Raises ConfigError naming the field and the rule.

    Fields that the model does not know are left out: the API server has checked the document against its definition,
    so they come from a newer one. Definitions are updated before operators are, and a definition fills in defaults,
    so an operator that refused them would give up every service in the middle of an update.
    """
    try:
        return _read(document)
    except RecursionError as error:
        raise ConfigError("$.spec", "expected a document of fewer levels, one within the other") from error


def _read(document: Manifest) -> Reading:
    try:
        return Reading(convert(document, NovaService))
    except ConfigError:
        known, ignored = without_unknown(document, NovaService)
        if not ignored:
            raise
        return Reading(convert(known, NovaService), ignored)


def is_injected(service: NovaService) -> bool:
    """Whether the sidecar comes into its pods as they are created."""
    reference = service.spec.workload_ref
    return reference is not None and reference.mode == "Inject"


def drain_needed(service: NovaService) -> int:
    """Seconds that a pod needs to leave: callers learn of it, WebSockets are closed, requests in flight finish."""
    spec = service.spec
    return math.ceil(spec.shutdown.pre_stop + closes_within(spec) + names.DRAIN_RESERVE)


def grace_period(service: NovaService, deployment: Manifest | None) -> int:
    """Seconds that a pod has, by its Deployment where there is one; injection lengthens it on the pods themselves."""
    pod = ((((deployment or {}).get("spec") or {}).get("template") or {}).get("spec")) or {}
    wanted = math.ceil(service.spec.shutdown.grace_period)
    given = int(pod.get("terminationGracePeriodSeconds") or wanted)
    return max(given, wanted) if is_injected(service) else given


def wanted_replicas(service: NovaService | None, deployment: Manifest | None) -> int:
    """Pods that should be there: what the spec says, or the Deployment where others decide."""
    if service is not None and service.spec.autoscaling is None and service.spec.workload_ref is None:
        return service.spec.replicas
    return int(((deployment or {}).get("spec") or {}).get("replicas", 0))
