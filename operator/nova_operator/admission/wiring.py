"""From the command line to the parts of admission. Imported only where webhooks are on: `cryptography` takes 8 MB."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from nova_operator.admission.hooks import Hooks
from nova_operator.admission.keeper import Keeper
from nova_operator.admission.replica import Replica
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.cluster import Cluster
from nova_operator.desired.defaults import Defaults
from nova_operator.options import Options


def replica(
    connect: Callable[[], AbstractAsyncContextManager[Cluster]],
    options: Options,
    defaults: Defaults,
    metrics: AdmissionMetrics,
    ready: Callable[[], None],
) -> Replica:
    """What each replica runs."""

    def hooks(cluster: Cluster) -> Hooks:
        return Hooks(cluster, defaults, options.injection_policy)

    namespace, _, secret = (options.webhook_secret or "").partition("/")
    poll = options.webhook_certificate_poll
    return Replica(connect, hooks, metrics, namespace, secret, poll=poll, ready=ready)


def keeper(cluster: Cluster, options: Options) -> Keeper:
    """What the leader runs where the operator makes the certificate itself."""
    namespace, _, secret = (options.webhook_secret or "").partition("/")
    return Keeper(
        cluster,
        namespace,
        secret,
        options.webhook_configuration,
        options.webhook_names,
        lifetime=options.webhook_certificate_lifetime,
    )
