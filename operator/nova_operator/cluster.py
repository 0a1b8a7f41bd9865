"""The cluster as the operator sees it: what can be asked of it, and how it can refuse.

A port: `kube.Kube` is the real one, and a test may wrap it to fail at any call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from nova_api import names
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import Kind


class ClusterError(Exception):
    """The API server did not do what it was asked. `str()` is what people read."""


class RefusedError(ClusterError):
    """It understood and refuses: an invalid field, a policy, a quota, a missing permission. Asking again is no use."""


class StaleError(ClusterError):
    """The object is no longer what it was taken for (409): look again, then decide again."""


class UnavailableError(ClusterError):
    """It did not answer in time, is overloaded (429) or broken (5xx). `retry_after`: seconds it asked to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Collection(NamedTuple):
    """Objects of a kind, and the resource version at which they were all there were: a watch goes on from it."""

    items: Iterator[Manifest]
    """To be taken once; each is decoded only then. As dictionaries, those of a thousand services are 100 MB."""

    version: str


class Cluster(Protocol):
    """Every call has a deadline and raises a ClusterError; nothing is retried here."""

    async def serves(self, kind: Kind) -> bool:
        """Whether objects of the kind can be written: its definition is there and not being deleted."""

    async def declares(self, kind: Kind, field: tuple[str, ...]) -> bool:
        """Whether objects of the kind have a field, given by its names from the top."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """The object, or None where there is none; `namespace` is None for a kind that has none."""

    async def list(self, kind: Kind, namespace: str | None, labels: str) -> list[Manifest]:
        """The objects that a label selector picks; in all namespaces for None."""

    async def collection(self, kind: Kind, namespace: str | None, labels: str) -> Collection:
        """The same, with the version they were read at."""

    async def apply(
        self,
        manifest: Manifest,
        *,
        dry_run: bool = False,
        absent: bool = False,
        manager: str = names.OPERATOR_NAME,
    ) -> Manifest:
        """Server-side apply, taking over fields that somebody else set; the object as it is afterwards. `absent`: on
        the condition that there is none of its name, else it raises StaleError."""

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create it. Raises StaleError where it exists."""

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Overwrite it as long as its resourceVersion is still the manifest's. Raises StaleError otherwise."""

    async def merge(self, kind: Kind, manifest: Manifest, *, subresource: str = "") -> Manifest:
        """JSON merge patch; a uid in its metadata keeps it from reaching a namesake (StaleError)."""

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete it, and what it owns in the background. Already gone is fine; a namesake is a StaleError."""

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Have a pod deleted as its PodDisruptionBudgets allow, which is an UnavailableError when they do not now.
        Already gone is fine; a namesake is a StaleError."""
