"""The operator process: `nova-operator`.

    nova-operator [--namespace NS]... [--sidecar-image IMAGE] [--sidecar-pull-policy POLICY]
                  [--data-image IMAGE] [--sidecar-requests cpu=50m,memory=64Mi] [--sidecar-poll SECONDS]
                  [--leader-election-namespace NS] [--metrics-port 8080] [--log-level LEVEL]
                  [--kubeconfig FILE] [--workers N] [--resync SECONDS] [--discovery SECONDS]
                  [--webhook-port PORT --webhook-secret NS/NAME --webhook-name HOST ...]

GET /healthz, /readyz and /metrics on the metrics port. No environment variables. SIGTERM ends it within two seconds.

What it needs to be allowed, in every namespace it serves (a ClusterRole, or a Role each with --namespace):

    nova.dev               novaservices                    get list watch patch    (the finalizer of workloadRef)
    nova.dev               novaservices/status             patch
    nova.dev               novaservices/finalizers         update      (owner references that block deletion)
    apps                   deployments                     get list watch create patch delete
    batch                  jobs                            get list watch create patch delete
    ""                     services configmaps serviceaccounts
                                                           get list watch create patch delete
    policy                 poddisruptionbudgets            get list watch create patch delete
    autoscaling            horizontalpodautoscalers        get list watch create patch delete
    networking.k8s.io      networkpolicies ingresses       get list watch create patch delete
    gateway.networking.k8s.io
                           httproutes                      get list watch create patch delete    (where there are some)
    monitoring.coreos.com  podmonitors prometheusrules     get list watch create patch delete    (where there are some)
    ""                     secrets                         create      (the key of session cookies; none is ever read)
    ""                     pods                            list watch patch
    ""                     pods/eviction                   create      (pods without sidecar, where asked to)
    events.k8s.io          events                          create

and in the namespace of the lease (--leader-election-namespace):

    coordination.k8s.io    leases                          get create update

and with webhooks, by name (--webhook-secret, --webhook-configuration):

    ""                     secrets                         get update
    admissionregistration.k8s.io
                           validatingwebhookconfigurations mutatingwebhookconfigurations
                                                           get patch

Two replicas may run with a lease; only one acts, both answer the webhooks. It opens connections to pods on TCP port
15020 (the sidecars' status). It writes no annotations to objects it does not own, apart from nova.dev/config-hash on
the pods of its services and nova.dev/adoption on a Deployment that workloadRef names. NovaServices with workloadRef
have the finalizer nova.dev/give-back, so that the Deployment is given back first; all others go at once, and the
garbage collector does the rest.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from nova_operator import logs, options
from nova_operator.cluster import ClusterError
from nova_operator.process import LeaseLostError, Process

NESTED: Final = 10_000
"""Levels of the deepest document that the API server takes (sigs.k8s.io/json, maxNestingDepth)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit code."""
    chosen = options.parse(arguments)
    logs.configure(chosen.log_level)
    read_deep_documents()
    log = structlog.get_logger()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(chosen))
    except (ClusterError, LeaseLostError, OSError) as error:
        log.error("ended", error=str(error))  # noqa: TRY400 - the sentence says all, a traceback would hide it
        return 1
    return 0


def read_deep_documents() -> None:
    """Have whatever the API server has stored read: a list and a watch tell of all services, and could not be read for
    one of them that somebody wrote a thousand levels deep. They take less than 4 MB of the usual 8 of stack."""
    sys.setrecursionlimit(NESTED + 1_000)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, which takes about 5 % less CPU here, where it is there; asyncio's own elsewhere."""
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(chosen: options.Options) -> None:
    await Process(chosen).run()


if __name__ == "__main__":
    sys.exit(main())
