"""The NovaService whose canary is spoken of."""

from __future__ import annotations

from typing import Any, Final

from nova_api import names
from nova_cli.errors import CommandError
from nova_operator.cluster import StaleError
from nova_operator.kinds import NOVA_SERVICE
from nova_operator.kube import Kube

FIELD_MANAGER: Final = "nova-rollout"


class Service:
    """A NovaService in a cluster."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self.namespace = namespace
        self.name = name

    async def get(self) -> dict[str, Any]:
        """Raises CommandError if there is none."""
        found = await self._kube.get(NOVA_SERVICE, self.namespace, self.name)
        if found is None:
            raise CommandError(
                f"there is no NovaService {self.name} in namespace {self.namespace}; see: kubectl get nsvc -A"
            )
        return found

    async def annotate(self, document: dict[str, Any], value: str) -> None:
        """Write what is wanted. Raises CommandError if the service was made anew meanwhile."""
        metadata = {name: document["metadata"][name] for name in ("name", "namespace", "uid")}
        metadata["annotations"] = {names.ANNOTATION_ROLLOUT: value}
        patch = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "metadata": metadata}
        try:
            await self._kube.merge(NOVA_SERVICE, patch, manager=FIELD_MANAGER)
        except StaleError as error:
            raise CommandError(f"{self.name} was made anew meanwhile; look again with: nova rollout status") from error
