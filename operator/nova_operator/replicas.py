"""How the number of pods changes hands between the operator and an autoscaler.

With server-side apply, a field that its only manager no longer applies is removed, and a Deployment without replicas
gets one. So a service of ten pods that is given an autoscaler would be scaled to one first. Before the operator lets
go, the number is therefore taken over by a manager of its own, as it is; the autoscaler takes it from there with its
first change, since a change of value takes a field from everybody else. Back again nothing has to be done: an apply
by force takes over.

The resource version keeps a number that is being changed from being overwritten by the one that was read.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
"""

from __future__ import annotations

from typing import Final

from nova_api import names
from nova_operator.cluster import Cluster
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import kind_of

MANAGER: Final = f"{names.OPERATOR_NAME}-replicas"


def leaves_replicas(manifest: Manifest) -> bool:
    """Whether a child is a Deployment whose number of pods is somebody else's."""
    return manifest["kind"] == "Deployment" and "replicas" not in manifest["spec"]


async def let_go(cluster: Cluster, manifest: Manifest) -> None:
    """Before a Deployment that exists is applied without replicas. Raises ClusterError, a StaleError where they were
    changed meanwhile."""
    metadata = manifest["metadata"]
    there = await cluster.get(kind_of(manifest), metadata["namespace"], metadata["name"])
    if there is not None and _holds(there, names.OPERATOR_NAME):
        version = {"resourceVersion": there["metadata"]["resourceVersion"]}
        await cluster.apply(_number(there, there["spec"]["replicas"], **version), manager=MANAGER)


async def begin_with(cluster: Cluster, made: Manifest, count: int) -> Manifest:
    """After a Deployment was made: `count` pods at once, not one until the autoscaler comes round (15 s)."""
    if made["spec"]["replicas"] >= count:
        return made
    return await cluster.apply(_number(made, count, uid=made["metadata"]["uid"]), manager=MANAGER)


def _holds(there: Manifest, manager: str) -> bool:
    """Whether an object has its replicas from what a manager applied."""
    entries = there["metadata"].get("managedFields", ())
    applied = [entry for entry in entries if (entry["manager"], entry["operation"]) == (manager, "Apply")]
    return any("f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {}) for entry in applied)


def _number(of: Manifest, replicas: int, **precondition: str) -> Manifest:
    metadata = {name: of["metadata"][name] for name in ("name", "namespace")}
    return {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "metadata": {**metadata, **precondition},
        "spec": {"replicas": replicas},
    }
