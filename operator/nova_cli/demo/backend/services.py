"""The services of the reference backend as examples/backend has them, and what each needs beside its manifest."""

import copy
import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nova_api import names
from nova_cli.console import Step
from nova_cli.demo.backend.stage import Backend
from nova_cli.demo.backend.stores import config_map, secret
from nova_cli.errors import CommandError

REPLICAS: Final = {"content": 2, "messaging": 2}
"""Of the others there is one: a dozen services share a machine of two cores. These two are restarted under use."""
CPU: Final = "25m"
"""What a container of theirs reserves here, for the same reason."""
_PATIENCE: Final = 420.0
"""Seconds until all of them are ready, on a machine with other work."""


@dataclass(frozen=True)
class Service:
    """One service: its NovaService, and its folder of SQL files where it has a database."""

    name: str
    document: dict[str, Any]
    migrations: Path

    @property
    def has_database(self) -> bool:
        """Whether the operator prepares one for it."""
        return "database" in self.document["spec"]

    def files(self) -> dict[str, str]:
        """The migrations, by name."""
        return {file.name: file.read_text() for file in sorted(self.migrations.glob("*.sql"))}


def find(repository: Path) -> list[Service]:
    """All that examples/backend has, by name."""
    found = []
    for file in sorted((repository / "examples" / "backend").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] == "NovaService":
                name = document["metadata"]["name"]
                folder = repository / "services" / "nova_services" / name / "migrations"
                found.append(Service(name, document, folder))
    return found


def fitted(service: Service, attempt: str = "") -> dict[str, Any]:
    """Its manifest for one small machine: fewer pods, smaller reservations. A change of its migrations, or another
    `attempt`, tells the operator to run them, since the ConfigMap keeps its name."""
    document = copy.deepcopy(service.document)
    spec = document["spec"]
    spec["replicas"] = REPLICAS.get(service.name, 1)
    spec.pop("autoscaling", None)
    for holder in _reserving(spec):
        holder.setdefault("resources", {}).setdefault("requests", {})["cpu"] = CPU
    if service.has_database:
        digest = hashlib.sha256(repr(service.files()).encode()).hexdigest()[:12]
        document["metadata"].setdefault("annotations", {})[names.ANNOTATION_RETRY] = digest + attempt
    if outbox := spec.get("database", {}).get("outbox"):
        outbox["replicas"] = 1
    return document


def _reserving(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What has `resources` in it: the app's containers, the sidecar, and relays."""
    yield from spec["template"]["spec"]["containers"]
    yield spec.setdefault("sidecar", {})
    if "outbox" in spec.get("database", {}):
        yield spec["database"]["outbox"]


def apply(backend: Backend, services: Sequence[Service], empty: Collection[str]) -> None:
    """All manifests at once; what is missing at first is waited for by whoever needs it. The databases in `empty` are
    new, and are prepared once more, as are those of which that failed before."""
    before = {item["metadata"]["name"]: item for item in backend.get("novaservices")["items"]}
    attempts = {one.name: _attempt(before.get(one.name), one.name in empty) for one in services}
    if not backend.exists("secret", "auth-keys"):
        backend.apply([secret("auth-keys", signing_keys(datetime.now(UTC)))])
    maps = [config_map(f"{one.name}-migrations-1", one.files()) for one in services if one.has_database]
    backend.apply(maps)
    backend.apply([fitted(one, attempts[one.name]) for one in services])


def _attempt(before: dict[str, Any] | None, empty: bool) -> str:
    """What follows the digest of the migrations: the same as before, or something new."""
    if before is None:
        return ""
    if empty or "MigrationFailed" in _missing(before):
        return f"-{int(time.time())}"
    last = str(before["metadata"].get("annotations", {}).get(names.ANNOTATION_RETRY, ""))
    return last[len(last.partition("-")[0]) :]


def signing_keys(now: datetime) -> dict[str, str]:
    """A key for auth, which signs since yesterday, wherever clocks are."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {f"{(now - timedelta(days=1)).date().isoformat()}.pem": text}


def wait(backend: Backend, services: Sequence[Service], step: Step) -> None:
    """Until all of them are ready, saying who is waited for. Raises CommandError with what their conditions say."""
    deadline = time.monotonic() + _PATIENCE
    while waiting := _not_ready(backend, [one.name for one in services]):
        if time.monotonic() > deadline:
            said = "\n".join(f"  {name}: {why}" for name, why in waiting.items())
            raise CommandError(f"{len(waiting)} services are not ready after {_PATIENCE:.0f} s:\n{said}")
        first = next(iter(waiting.items()))
        step.note(f"{len(services) - len(waiting)} of {len(services)} ready; {first[0]}: {first[1][:60]}")
        time.sleep(1)
    for deployment in deployments(backend):
        step.note(f"waiting for {deployment}")
        backend.kubectl("rollout", "status", deployment, "--timeout=240s", patience=250)


def deployments(backend: Backend) -> list[str]:
    """All there are, relays too, as kubectl names them."""
    return backend.kubectl("get", "deployments", "-o", "name").split()


def _not_ready(backend: Backend, wanted: Sequence[str]) -> dict[str, str]:
    """The services that are not ready, with why."""
    found = {item["metadata"]["name"]: item for item in backend.get("novaservices")["items"]}
    return {name: why for name in wanted if (why := _missing(found.get(name)))}


def _missing(item: dict[str, Any] | None) -> str:
    """Why a NovaService is not ready in its present form; nothing where it is."""
    conditions = {one["type"]: one for one in (item or {}).get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready")
    if item is None or ready is None or ready["observedGeneration"] != item["metadata"]["generation"]:
        return "not looked at yet"
    return "" if ready["status"] == "True" else f"{ready['reason']}: {ready.get('message', '')}"
