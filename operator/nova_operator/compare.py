"""Whether an object still says what the operator wants it to say.

The API server fills in defaults, and other managers add fields of their own (a sidecar of theirs, an annotation of a
controller). Both are none of the operator's business, so it asks only whether each value that it wants is there:
desired is a subset of observed. What the operator itself no longer wants shows in the hash annotation instead.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from nova_operator.desired.metadata import Manifest

REVISION: Final = "deployment.kubernetes.io/revision"
"""An annotation in which a Deployment's controller counts its ReplicaSets: no person and no manager wrote it."""

# How the API server identifies the items of a list in these objects (x-kubernetes-list-map-keys).
_ITEM_KEYS: Final = ("mountPath", "ip", "name")
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|[eE][+-]?[0-9]{1,2})?")
_FACTORS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


def difference(desired: Any, observed: Any, path: str = "") -> str | None:
    """Path of the first value that is wanted and not there, such as ``spec.ports[http].port``; None if all are."""
    if isinstance(desired, dict) and isinstance(observed, dict):
        parts = ((f"{path}.{name}", value, observed.get(name)) for name, value in desired.items())
    elif isinstance(desired, list) and isinstance(observed, list):
        if (key := _item_key(desired)) is None and len(desired) != len(observed):
            return path.lstrip(".")
        parts = _pair(desired, observed, key, path)
    else:
        return None if _same(desired, observed, path) else path.lstrip(".")
    return next((found for where, want, have in parts if (found := difference(want, have, where)) is not None), None)


def fingerprint(manifest: Manifest) -> str:
    """Hash of all that people and managers set; unlike the resource version it does not move with the status."""
    metadata = manifest["metadata"]
    said = {name: metadata.get(name) for name in ("uid", "labels", "ownerReferences")}
    said["annotations"] = {name: text for name, text in (metadata.get("annotations") or {}).items() if name != REVISION}
    rest = {name: value for name, value in manifest.items() if name not in {"metadata", "status"}}
    return hashlib.sha256(msgspec.json.encode((said, rest), order="sorted")).hexdigest()[:16]


def _item_key(items: list[Any]) -> str | None:
    """The field that tells the items apart, if they have one; then further items are somebody else's."""
    for key in _ITEM_KEYS:
        named = [item[key] for item in items if isinstance(item, dict) and key in item]
        if named and len(set(map(str, named))) == len(items):
            return key
    return None


def _pair(desired: list[Any], observed: list[Any], key: str | None, path: str) -> Any:
    if key is None:
        return ((f"{path}[{index}]", *pair) for index, pair in enumerate(zip(desired, observed, strict=True)))
    by_key = {item.get(key): item for item in observed if isinstance(item, dict)}
    return ((f"{path}[{item[key]}]", item, by_key.get(item[key])) for item in desired)


def _same(desired: Any, observed: Any, path: str) -> bool:
    if desired == observed or (observed is None and desired in ({}, [], "", None, False)):
        return True
    if ".resources." not in path:
        return False
    amount = _quantity(desired)
    return amount is not None and amount == _quantity(observed)


def _quantity(value: Any) -> Decimal | None:
    """The amount that a quantity stands for: the API server turns ``0.1`` into ``100m``."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    number, suffix = match[1], match[2] or ""
    return Decimal(number + suffix) if suffix[:1] in {"e", "E"} else Decimal(number) * _FACTORS[suffix]
