"""What becomes of the Jobs that prepare databases: their pods stay Pending here, and the tests say how they end."""

from __future__ import annotations

from nova_api import names
from nova_operator.kinds import JOB, POD
from tests.cluster.api import Object, until
from tests.cluster.scene import Scene

NOW = "2030-01-01T00:00:00Z"


def job(shop: Scene) -> Object:
    """A service's Job, once it is there."""
    found: Object = until(lambda: shop.api.find(JOB, shop.namespace, names.database_job(shop.name)))
    return found


def another_job(shop: Scene, before: Object) -> Object:
    """The Job that took that one's place."""
    until(lambda: job(shop)["metadata"]["uid"] != before["metadata"]["uid"])
    return job(shop)


def complete(shop: Scene, of: Object) -> None:
    """Let the Job's pod end well, as a kubelet reports it."""
    ended = {"exitCode": 0, "reason": "Completed", "finishedAt": NOW, "startedAt": NOW, "containerID": "x://1"}
    container = {"name": "database", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    report(shop, of, {"phase": "Succeeded", "containerStatuses": [container | {"state": {"terminated": ended}}]})


def report(shop: Scene, of: Object, status: Object) -> None:
    """What a kubelet says of the Job's pod."""
    selector = f"batch.kubernetes.io/job-name={of['metadata']['name']},controller-uid={of['metadata']['uid']}"
    (pod,) = until(lambda: shop.api.list(POD, shop.namespace, selector))
    shop.api.patch(POD, shop.namespace, pod["metadata"]["name"], {"status": status}, subresource="status")


def fail(shop: Scene, of: Object) -> None:
    """Write what the Job's controller writes after the last try; it waits half a minute between tries."""
    until(lambda: (job(shop).get("status") or {}).get("startTime"))
    why = {"status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": NOW, "lastProbeTime": NOW}
    conditions = [{"type": "FailureTarget", **why}, {"type": "Failed", **why}]
    status = {"conditions": conditions, "failed": 3, "active": 0, "ready": 0, "terminating": 0}
    shop.api.patch(JOB, shop.namespace, of["metadata"]["name"], {"status": status}, subresource="status")
