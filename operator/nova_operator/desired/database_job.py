"""The Job that prepares a service's database before new pods start: migrations, soft delete, indexes.

It says in its annotations for which pod template it runs, so each rollout has one. Running it for nothing costs
seconds, for what is there is left alone. Its pods do not carry the label by which the service finds its own, but one
by which the operator finds them.
"""

from __future__ import annotations

import math
from typing import Final

from nova_api import names
from nova_api.database import DatabasePolicy
from nova_api.model import builtins, encode_json
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.image_pod import RESTRICTED
from nova_operator.desired.metadata import Manifest, child, literal, tool_labels
from nova_operator.desired.service_account import identity
from nova_operator.desired.sidecar_container import USER
from nova_operator.desired.track import marked_hash

CONTAINER: Final = "database"
FOLDER: Final = "/migrations"
VOLUME: Final = names.MIGRATIONS_VOLUME
TRIES: Final = 3
"""Pods, one after the other, that try it: what they wait for may come. What they were refused stays refused."""
MARGIN: Final = 60
"""Seconds that a pod has beyond the time of its work, to be scheduled and to have its image pulled."""
LOCKED: Final[Manifest] = {**RESTRICTED, "readOnlyRootFilesystem": True, "runAsUser": USER, "runAsGroup": USER}
TOOLS: Final = ("python3", "-P", "-m", "nova_data.main")
"""What runs `nova-data` in an image that has it."""


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
            "metadata": {"labels": tool_labels(service, name), "annotations": annotations},
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
        "containers": [_container(service, policy, defaults)],
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
        "securityContext": LOCKED,
        "volumeMounts": [{"name": VOLUME, "mountPath": FOLDER}],
    }
    return pod | {"initContainers": [copy], "volumes": [{"name": VOLUME, "emptyDir": {}}]}


def _container(service: NovaService, policy: DatabasePolicy, defaults: Defaults) -> Manifest:
    """What is to be done comes as an argument, in the words of the NovaService; the URL alone is a secret."""
    arguments = ["apply", "--service", service.metadata.name, "--spec", literal(_asked(policy))]
    container: Manifest = {
        "name": CONTAINER,
        "image": defaults.data_image,
        "command": list(TOOLS),
        "args": arguments,
        "env": [database_url(policy)],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": LOCKED,
    }
    if policy.migrations is not None:
        arguments += ["--folder", FOLDER]
        container["volumeMounts"] = [{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}]
    return container


def _asked(policy: DatabasePolicy) -> str:
    """All but what concerns relays alone: another number of them is no reason to prepare the database again."""
    asked = builtins(policy)
    if policy.outbox is not None:
        asked["outbox"] = {"brokers": asked["outbox"]["brokers"]}
    return encode_json(asked).decode()


def database_url(policy: DatabasePolicy) -> Manifest:
    """The variable with the database's URL."""
    return {
        "name": "DATABASE_URL",
        "valueFrom": {"secretKeyRef": {"name": policy.secret_ref, "key": names.DATABASE_URL_KEY}},
    }
