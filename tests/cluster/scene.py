"""One service under an operator, with the pods and sidecars it gets: what most tests of the operator begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import uuid4

from nova_api import names
from nova_operator.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    NOVA_SERVICE,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from tests.cluster.api import Api, Object, eventually
from tests.cluster.kubelet import Kubelet

ALWAYS = (SERVICE_ACCOUNT, CONFIG_MAP, SERVICE, POD_DISRUPTION_BUDGET, DEPLOYMENT)
"""The kinds of children that every service has, if it has two pods or more."""

_networks = count(1)


class Scene:
    """A service that may be created, changed and asked about."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.name = f"s-{uuid4().hex[:6]}"
        self.kubelet = Kubelet(api, namespace, self.name, next(_networks))

    def create(self, **spec: Any) -> Object:
        """Create the service; image and port are filled in."""
        return self.api.service(self.namespace, self.name, **spec)

    def change(self, **spec: Any) -> Object:
        """Change fields of its spec."""
        return self.api.change(self.namespace, self.name, **spec)

    def settle(self, **spec: Any) -> None:
        """Create the service and wait until its pods run what they should."""
        self.create(**spec)
        self.converges()

    def converges(self) -> None:
        """Wait until Ready and Converged hold for the current generation."""
        eventually(self.is_converged)

    def is_converged(self) -> None:
        """Asserts that Ready and Converged hold for the current generation."""
        conditions = self.conditions()
        assert conditions.get("Ready") == ("True", "PodsReady")
        assert conditions.get("Converged") == ("True", "ConfigCurrent")

    def becomes(self, condition: str, status: str, reason: str) -> None:
        """Wait until a condition is so."""

        def holds() -> None:
            assert self.conditions().get(condition) == (status, reason)

        eventually(holds)

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Status and reason by type; empty unless they speak of the current generation."""
        return self.api.conditions(self.namespace, self.name)

    def message(self, condition: str = "Ready") -> str:
        """The message of a condition."""
        return self.api.message(self.namespace, self.name, condition)

    def status(self) -> Object:
        """The status."""
        status: Object = self.api.get(NOVA_SERVICE, self.namespace, self.name)["status"]
        return status

    def events(self) -> list[str]:
        """Reasons of the Events about it."""
        return list(self.api.events(self.namespace, self.name))

    def pods(self) -> list[Object]:
        """Its pods."""
        return self.api.list(POD, self.namespace, f"{names.LABEL_SERVICE}={self.name}")

    def find(self, kind: Kind) -> Object | None:
        """A child, or None."""
        other = {CONFIG_MAP: names.config_map, JOB: names.database_job}.get(kind)
        return self.api.find(kind, self.namespace, other(self.name) if other else self.name)

    def said(self) -> Object:
        """What the children say, so that a write would show; their controllers write the status."""
        found = {kind.kind: self.find(kind) for kind in CHILDREN}
        return {kind: _said(child) for kind, child in found.items() if child is not None}


@contextmanager
def scene(api: Api, namespace: str) -> Iterator[Scene]:
    """A service of its own, deleted in the end."""
    one = Scene(api, namespace)
    with one.kubelet:
        yield one
        if api.find(NOVA_SERVICE, namespace, one.name) is not None:
            api.delete(NOVA_SERVICE, namespace, one.name)


def _said(child: Object) -> Object:
    rest = {key: value for key, value in child.items() if key not in {"metadata", "status"}}
    return rest | {key: child["metadata"].get(key) for key in ("uid", "labels", "annotations", "ownerReferences")}
