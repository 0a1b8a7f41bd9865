"""The Job that prepares a service's database before new pods start: migrations, soft delete, indexes.

It says in its annotations for which pod template it runs, so each rollout has one. Running it for nothing costs
seconds, for what is there is left alone. Its pods do not carry the label by which the service finds its own.
"""

from __future__ import annotations

import math
from typing import Final

from nova_api import names
from nova_api.database import DatabasePolicy
from nova_api.model import encode_json
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.image_pod import RESTRICTED
from nova_operator.desired.metadata import Manifest, child
from nova_operator.desired.service_account import identity
from nova_operator.desired.sidecar_container import USER
from nova_operator.desired.track import marked_hash

CONTAINER: Final = "database"
FOLDER: Final = "/migrations"
VOLUME: Final = "migrations"
TRIES: Final = 3
"""Pods, one after the other, that try it: what they wait for may come. What they were refused stays refused."""
MARGIN: Final = 60
"""Seconds that a pod has beyond the time of its work, to be scheduled and to have its image pulled."""
_LOCKED: Final[Manifest] = {**RESTRICTED, "readOnlyRootFilesystem": True, "runAsUser": USER, "runAsGroup": USER}


def database_job(service: NovaService, defaults: Defaults, workload: Manifest | None) -> Manifest | None:
    """None without a database; `workload` is the Deployment that is to wait for it."""
    policy = service.spec.database
    if policy is None or workload is None:
        return None
    annotations = {names.ANNOTATION_TEMPLATE_HASH: marked_hash(workload["spec"]["template"])}
    if retry := service.metadata.annotations.get(names.ANNOTATION_RETRY):
        annotations[names.ANNOTATION_RETRY] = retry
    name = names.database_job(service.metadata.name)
    spec: Manifest = {
        "backoffLimit": TRIES - 1,
        "activeDeadlineSeconds": TRIES * (math.ceil(policy.timeout) + MARGIN),
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": name}, "annotations": annotations},
            "spec": _pod(service, policy, defaults),
        },
    }
    return child(service, "batch/v1", "Job", name, {"spec": spec})


def _pod(service: NovaService, policy: DatabasePolicy, defaults: Defaults) -> Manifest:
    pod: Manifest = {
        **identity(service),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(policy, defaults)],
    }
    migrations = policy.migrations
    if migrations is None:
        return pod
    if migrations.config_map is not None:
        return pod | {"volumes": [{"name": VOLUME, "configMap": {"name": migrations.config_map}}]}
    copy: Manifest = {
        "name": VOLUME,
        "image": migrations.image,
        "command": ["cp", "-R", f"{migrations.path.rstrip('/')}/.", FOLDER],
        "securityContext": _LOCKED,
        "volumeMounts": [{"name": VOLUME, "mountPath": FOLDER}],
    }
    return pod | {"initContainers": [copy], "volumes": [{"name": VOLUME, "emptyDir": {}}]}


def _container(policy: DatabasePolicy, defaults: Defaults) -> Manifest:
    """What is to be done comes as an argument, in the words of the NovaService; the URL alone is a secret."""
    arguments = ["apply", "--spec", encode_json(policy).decode()]
    container: Manifest = {
        "name": CONTAINER,
        "image": defaults.data_image,
        "command": ["python3", "-P", "-m", "nova_data.main"],
        "args": arguments,
        "env": [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": _url(policy)}}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": _LOCKED,
    }
    if policy.migrations is not None:
        arguments += ["--folder", FOLDER]
        container["volumeMounts"] = [{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}]
    return container


def _url(policy: DatabasePolicy) -> Manifest:
    return {"name": policy.secret_ref, "key": names.DATABASE_URL_KEY}
