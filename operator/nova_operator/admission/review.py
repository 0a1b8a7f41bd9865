"""AdmissionReview, as far as it is read and answered. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from nova_operator.desired.metadata import Manifest

API_VERSION: Final = "admission.k8s.io/v1"
LONGEST_WARNING: Final = 256
"""Characters; the API server cuts longer ones, and drops what is beyond 4096 in all."""


LONGEST_NAME: Final = 253
"""Characters of a name; whoever reaches the port may send longer ones, and the log takes no more of them."""


class ReviewError(ValueError):
    """What was sent is no AdmissionReview."""


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is to be stored."""

    uid: str
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    namespace: str = ""
    name: str = ""
    """Empty for an object that gets its name by generateName."""

    object: Manifest | None = None
    old_object: Manifest | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it may be stored, how it is changed first, and what the one who sent it is told."""

    allowed: bool = True
    message: str = ""
    """Why it may not."""

    warnings: tuple[str, ...] = ()
    patch: tuple[Manifest, ...] = ()
    """JSON patch (RFC 6902)."""


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: Literal["AdmissionReview"]
    request: Request


def decode(body: bytes) -> Request:
    """Raises ReviewError."""
    try:
        review = msgspec.json.decode(body, type=_Review)
    except (ValueError, RecursionError) as error:  # a text that is no UTF-8 is a ValueError
        raise ReviewError(f"expected an AdmissionReview: {error}") from error
    if review.api_version != API_VERSION:
        raise ReviewError(f"expected an AdmissionReview of {API_VERSION}")
    for one in (review.request.object, review.request.old_object):
        _check_object(one or {})
    return review.request


def _check_object(document: Manifest) -> None:
    """Raises ReviewError for what the API server would send of no object."""
    metadata = document.get("metadata") or {}
    parts = [metadata, document.get("spec") or {}]
    parts += [metadata.get(name) or {} for name in ("labels", "annotations") if isinstance(metadata, dict)]
    if not all(isinstance(part, dict) for part in parts):
        raise ReviewError("expected an AdmissionReview of an object")


def encode(uid: str, answer: Answer) -> bytes:
    """The answer to the request with this uid."""
    response: Manifest = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        response["status"] = {"code": 422, "reason": "Invalid", "message": answer.message}
    if answer.warnings:
        response["warnings"] = [_cut(warning) for warning in answer.warnings]
    if answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(answer.patch)).decode()
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def json_patch(before: Manifest, after: Manifest, path: str = "") -> Iterator[Manifest]:
    """What turns one document into the other. Objects are patched field by field, lists as a whole: whoever reads an
    audit log sees which fields were changed."""
    for name in before.keys() - after.keys():
        yield {"op": "remove", "path": f"{path}/{_escape(name)}"}
    for name, value in after.items():
        below = f"{path}/{_escape(name)}"
        if name not in before:
            yield {"op": "add", "path": below, "value": value}
        elif isinstance(value, dict) and isinstance(before[name], dict):
            yield from json_patch(before[name], value, below)
        elif before[name] != value:
            yield {"op": "replace", "path": below, "value": value}


def _escape(name: str) -> str:
    """RFC 6901 section 3."""
    return name.replace("~", "~0").replace("/", "~1")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_WARNING else text[: LONGEST_WARNING - 1] + "…"
