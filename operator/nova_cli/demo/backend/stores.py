"""PostgreSQL, Redis and Kafka on the cluster, in the namespace `data`: postgres.data, redis.data and kafka.data.

Each service has a role and a database of its own, whose URL only its Secret has. A password that is in a Secret stays;
what a store has lost with its pod is made again.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nova_cli.console import Step
from nova_cli.demo.backend.stage import DATA, Backend
from nova_cli.errors import CommandError
from nova_cli.services import kafka

STORES: Final = ("postgres", "redis", "kafka")
BROKERS: Final = f"kafka.{DATA}:9092"
TOPICS: Final = ("user", "profile", "post", "comment", "follow", "message", "media")
"""Made before anybody subscribes: a consumer finds a later one only as it looks for new ones, after half a minute."""
_PARTITIONS: Final = 4
_SESSION: Final = 20_000
"""Milliseconds after which a silent broker is taken for dead: a machine with much to do may keep it silent for long."""
_PATIENCE: Final = 240.0
"""Seconds for a store to be ready; unpacking the image is part of it."""
_NAMESPACE: Final = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": DATA, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}
_ROLE: Final = """
SELECT 'CREATE ROLE {name} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
ALTER ROLE {name} PASSWORD '{password}';
SELECT 'CREATE DATABASE {name} OWNER {name}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
"""
_MAKE_TOPICS: Final = """
import sys
from confluent_kafka.admin import AdminClient, NewTopic
admin = AdminClient({"bootstrap.servers": sys.argv[1]})
there = admin.list_topics(timeout=20).topics
wanted = [NewTopic(name, int(sys.argv[2]), 1) for name in sys.argv[3:] if name not in there]
for made in (admin.create_topics(wanted) if wanted else {}).values():
    made.result(20)
"""


def apply(backend: Backend) -> None:
    """Have the stores made; they start while other things are done."""
    backend.apply([_NAMESPACE])
    if not backend.exists("secret", "postgres", namespace=DATA):
        backend.apply([secret("postgres", {"password": secrets.token_urlsafe(24)})], namespace=DATA)
    log, anywhere = Path("/data/log"), "0.0.0.0"  # noqa: S104 - of its pod
    node = kafka.properties(log, listens=anywhere, port=9092, controller=9093, known=f"kafka.{DATA}", session=_SESSION)
    settings = {"server.properties": node, "log4j2.properties": kafka.LOGGING}
    environment = {"JAVA": " ".join(kafka.JAVA), "CLUSTER": kafka.CLUSTER}
    maps = [config_map("kafka", settings), config_map("kafka-environment", environment)]
    backend.apply(maps, namespace=DATA)
    backend.kubectl("apply", f"--namespace={DATA}", "-f", str(Path(__file__).with_name("stores.yaml")))


def wait(backend: Backend, step: Step) -> None:
    """Until each of them answers. Raises CommandError saying which does not."""
    for name in STORES:
        step.note(f"waiting for {name}")
        words = ("rollout", "status", f"--namespace={DATA}", f"statefulset/{name}", f"--timeout={_PATIENCE:.0f}s")
        backend.kubectl(*words, patience=_PATIENCE + 10)


def make_databases(backend: Backend, names: Sequence[str]) -> set[str]:
    """A database for each service and a Secret NAME-db with its URL, unless they are there; those databases that were
    not, which is so at first, and when PostgreSQL's pod is another one."""
    there = backend.sql("postgres", "SELECT datname FROM pg_database").split()
    script = ""
    for name in names:
        if not backend.exists("secret", f"{name}-db"):
            url = f"postgresql://{name}:{secrets.token_urlsafe(24)}@postgres.{DATA}:5432/{name}"
            backend.apply([secret(f"{name}-db", {"url": url})])
        script += _ROLE.format(name=name, password=_password(backend, name))
    backend.sql("postgres", script)
    return set(names).difference(there)


def make_topics(backend: Backend) -> None:
    """The topics of the outboxes' events."""
    backend.python(_MAKE_TOPICS, BROKERS, str(_PARTITIONS), *TOPICS)


def secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    """A Secret's manifest."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def config_map(name: str, values: dict[str, str]) -> dict[str, Any]:
    """A ConfigMap's manifest."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": values}


def _password(backend: Backend, name: str) -> str:
    url = backend.secret(f"{name}-db", "url")
    head, _, _ = url.partition("@")
    _, _, password = head.rpartition(":")
    if not password.replace("-", "").replace("_", "").isalnum():
        raise CommandError(f"the Secret {name}-db in {backend.namespace} is not of this demo: delete it")
    return password
