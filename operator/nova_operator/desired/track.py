"""Which version of a service a pod is of: told by its template, and so by every pod that is made of it."""

from __future__ import annotations

from typing import Literal

from nova_api import names
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod import template_hash

Track = Literal["stable", "canary"]


def tracked(template: Manifest, track: Track) -> Manifest:
    """A pod template as `pod_template` gives it, marked with its version and its own hash."""
    metadata = template["metadata"]
    annotations = {**(metadata.get("annotations") or {}), names.ANNOTATION_TEMPLATE_HASH: template_hash(template)}
    return marked({**template, "metadata": {**metadata, "annotations": annotations}}, track)


def marked(template: Manifest, track: Track) -> Manifest:
    """A pod template as that of a version; what it says of its hash stays."""
    metadata = template["metadata"]
    labels = {**(metadata.get("labels") or {}), names.LABEL_TRACK: track}
    return {**template, "metadata": {**metadata, "labels": labels}}


def marked_hash(template: Manifest) -> str:
    """The hash with which a template was marked; empty without one."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(names.ANNOTATION_TEMPLATE_HASH, ""))


def marked_track(template: Manifest) -> str:
    """The version with which a template was marked; empty without one."""
    return str(((template.get("metadata") or {}).get("labels") or {}).get(names.LABEL_TRACK, ""))
