"""The configuration of a service that is put into force: the one its spec gives, or the last good one. Pure.

A sidecar that cannot use a document keeps its old one; but a pod that starts has no old one, and half of the sidecars
on another configuration than the rest is what nobody wants to debug. So when a sidecar refuses a document, the one
before it is put back for all of them, and the condition Degraded says which field is to blame.

Everything that takes to know lies in the ConfigMap itself and is written in one call with the document, so the
operator may be killed at any moment:

    config.json                        the document in force
    last-good.json                     the one before it, which sidecars ran; a sidecar also starts with it when it
                                       cannot use the first (a pod that starts before the first is taken back)
    annotation nova.dev/refused-config what was refused, by which sidecar, with which words, and its `trial`

Rules:

* A document becomes the last good one when another takes its place and a sidecar is known to run it.
* A refused document is tried again when its trial changes, which is made of its hash, the operator's version and the
  sidecar's image; or when somebody removes the annotation.
* A refusal counts when the sidecar is of the image that the service's pods should have. One of another image is on its
  way out while its Deployment is replaced, or a canary is under way: an update of the operator brings new fields and
  new sidecars at once, and the old sidecars, which do not know the fields, keep the document that they run until they
  are gone.
* One refusal is enough: all sidecars of the wanted image are alike, and what one refuses (an address that is taken on
  its node, a missing package) leaves its pod without the change, which no condition should call converged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

import msgspec

from nova_api import names
from nova_api.proxy import digest
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest
from nova_operator.pods import PodView, is_outgoing, quote
from nova_operator.sidecars import SidecarReport

ANNOTATION_REFUSED: Final = "nova.dev/refused-config"
VERSION: Final = version("nova")


class Refused(msgspec.Struct, frozen=True):
    """A document that a sidecar refused."""

    hash: str
    trial: str
    pod: str
    said: str
    """``$.field: rule``, for people."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the ConfigMap holds, or should hold."""

    document: str
    last_good: str | None = None
    refused: Refused | None = None

    @property
    def hash(self) -> str:
        """Hash of the document in force, as the sidecars report it."""
        return digest(self.document.encode())


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The sidecars of a service."""

    pods: tuple[PodView, ...]
    reports: Mapping[str, SidecarReport]
    """By pod uid."""

    image: str
    """Of the sidecars that the pods should have."""

    replacing: bool = False
    """Whether the pods give way to others, see `observation.is_replacing`."""

    proven: str = ""
    """Hash of a document that all sidecars were known to run before this process began."""

    def runs(self, config_hash: str) -> bool:
        """Whether a sidecar is known to run it."""
        return config_hash == self.proven or any(report.config_hash == config_hash for _, report in self._staying())

    def refusal(self, config_hash: str) -> tuple[PodView, str] | None:
        """The first sidecar, by name of its pod, whose refusal of a document counts, and what it said."""
        for pod, report in self._staying():
            said = report.last_error
            if said is None or said.hash != config_hash or report.config_hash == config_hash:
                continue
            if not is_outgoing(pod, self.image, replacing=self.replacing):
                return pod, quote(f"{said.field}: {said.rule}")
        return None

    def _staying(self) -> Iterable[tuple[PodView, SidecarReport]]:
        pods = sorted((pod for pod in self.pods if not pod.leaving), key=lambda pod: pod.name)
        return ((pod, self.reports[pod.uid]) for pod in pods if pod.uid in self.reports)


def choose(wanted: str, there: Stored | None, fleet: Fleet) -> Stored:
    """What to put into the ConfigMap, for the document that the spec gives and what is in it now."""
    if there is None:
        return Stored(document=wanted)
    trial = _trial(wanted, fleet.image)
    if there.refused is not None and there.refused.trial == trial and there.last_good is not None:
        return Stored(document=there.last_good, last_good=there.last_good, refused=there.refused)
    if there.document != wanted:
        return Stored(document=wanted, last_good=there.document if fleet.runs(there.hash) else there.last_good)
    if there.last_good is not None and there.last_good != wanted:
        refusal = fleet.refusal(there.hash)
        if refusal is not None:
            refused = Refused(hash=there.hash, trial=trial, pod=refusal[0].name, said=refusal[1])
            return Stored(document=there.last_good, last_good=there.last_good, refused=refused)
    return Stored(document=wanted, last_good=there.last_good)


def read(config_map: Manifest | None) -> Stored | None:
    """What a ConfigMap holds; None where there is none, or none with a document."""
    data = (config_map or {}).get("data") or {}
    document = data.get(names.CONFIG_KEY)
    if config_map is None or document is None:
        return None
    annotations = config_map["metadata"].get("annotations") or {}
    return Stored(
        document=document,
        last_good=data.get(names.LAST_GOOD_KEY),
        refused=_refused(annotations.get(ANNOTATION_REFUSED)),
    )


def write(config_map: Manifest, chosen: Stored) -> Manifest:
    """The manifest of a ConfigMap with what was chosen."""
    if chosen.last_good is None:
        return config_map
    data = {names.CONFIG_KEY: chosen.document, names.LAST_GOOD_KEY: chosen.last_good}
    annotations = dict(config_map["metadata"]["annotations"])
    if chosen.refused is not None:
        annotations[ANNOTATION_REFUSED] = msgspec.json.encode(chosen.refused).decode()
    annotations[ANNOTATION_MANIFEST_HASH] = digest(msgspec.json.encode([annotations, data]))
    return {**config_map, "metadata": {**config_map["metadata"], "annotations": annotations}, "data": data}


def _trial(document: str, image: str) -> str:
    return hashlib.sha256(msgspec.json.encode([document, image, VERSION])).hexdigest()[:16]


def _refused(annotation: str | None) -> Refused | None:
    """None for what somebody else wrote there: the document is then tried again."""
    try:
        return msgspec.json.decode(annotation or "", type=Refused)
    except (msgspec.DecodeError, RecursionError):
        return None
