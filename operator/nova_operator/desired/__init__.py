"""What a NovaService should look like in the cluster: pure builders, one file per kind of child.

Nothing here knows a clock, a cluster or the order in which things are written.
"""

from __future__ import annotations

from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.autoscaler import autoscaler
from nova_operator.desired.checks import check
from nova_operator.desired.config_map import config_map
from nova_operator.desired.database_job import database_job
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.deployment import deployment
from nova_operator.desired.http_route import http_route
from nova_operator.desired.ingress import ingress
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.network_policy import network_policy
from nova_operator.desired.pod_disruption_budget import pod_disruption_budget
from nova_operator.desired.pod_monitor import pod_monitor
from nova_operator.desired.relays import relays
from nova_operator.desired.service import endpoints
from nova_operator.desired.service import service as service_manifest
from nova_operator.desired.service_account import service_account


def desired_state(service: NovaService, defaults: Defaults) -> tuple[Manifest, ...]:
    """The children of a service, in the order in which they are needed: what pods mount and run as comes first.

    Raises ConfigError, before any manifest exists, for a spec that passes the schema but cannot work.
    """
    check(service)
    config = resolve(service)
    workload = deployment(service, defaults)
    children = (
        service_account(service),
        config_map(service, config),
        service_manifest(service),
        endpoints(service),
        pod_disruption_budget(service),
        network_policy(service, defaults),
        ingress(service),
        http_route(service, defaults.platform),
        pod_monitor(service, defaults.platform),
        autoscaler(service, defaults.platform),
        database_job(service, defaults, workload),
        workload,
        *relays(service, defaults),
    )
    return tuple(child for child in children if child is not None)
