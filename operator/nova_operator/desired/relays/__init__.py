"""The relays of a service's outbox (`spec.database.outbox`), and what belongs to them.

They are none of the service's own pods: its Service does not lead to them, its rollouts do not touch them, and they
have no sidecar. Everything of them is named `<service>-relay` and goes with `mode: Off`; the outbox' tables stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.relays.alerts import relay_rule
from nova_operator.desired.relays.deployment import relay_budget, relay_deployment, relays_of
from nova_operator.desired.relays.reach import relay_monitor, relay_policy


def relays(service: NovaService, defaults: Defaults) -> Iterator[Manifest]:
    """All of it, in the order in which it is needed."""
    outbox = relays_of(service)
    if outbox is None:
        return
    children = (
        relay_budget(service, outbox),
        relay_policy(service, outbox),
        relay_monitor(service, defaults.platform),
        relay_rule(service, outbox, defaults.platform),
        relay_deployment(service, outbox, defaults),
    )
    yield from (child for child in children if child is not None)
