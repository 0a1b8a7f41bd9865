"""Small definitions of the kinds that other projects install: group, kind, names and the fields that Nova writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nova_operator.kinds import Kind
from tests.cluster.api import CRDS, Api, Object, until

STRING: Object = {"type": "string"}
INTEGER: Object = {"type": "integer"}


def _object(**properties: Object) -> Object:
    return {"type": "object", "properties": properties}


def _list(items: Object) -> Object:
    return {"type": "array", "items": items}


_LABELS: Object = {"type": "object", "additionalProperties": STRING}
_DURATION: Object = {**STRING, "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
"""GEP-2257."""

_COOKIE = _object(sessionName=STRING, type=STRING, absoluteTimeout=_DURATION, cookieConfig=_object(lifetimeType=STRING))
_RULE: dict[str, Object] = {
    "matches": _list(_object(path=_object(type=STRING, value=STRING))),
    "backendRefs": _list(
        _object(
            group={**STRING, "default": ""},
            kind={**STRING, "default": "Service"},
            name=STRING,
            port=INTEGER,
            weight={**INTEGER, "default": 1},
        )
    ),
}
_PARENT = _object(
    group={**STRING, "default": "gateway.networking.k8s.io"},
    kind={**STRING, "default": "Gateway"},
    name=STRING,
    namespace=STRING,
    sectionName=STRING,
)

POD_MONITOR_SPEC = _object(
    selector=_object(matchLabels=_LABELS),
    jobLabel=STRING,
    podMetricsEndpoints=_list(_object(port=STRING, path=STRING, interval=STRING)),
)


_ALERT = _object(alert=STRING, expr=STRING, **{"for": STRING}, labels=_LABELS, annotations=_LABELS)
PROMETHEUS_RULE_SPEC = _object(groups=_list(_object(name=STRING, rules=_list(_ALERT))))


def http_route_spec(*, persistence: bool) -> Object:
    """As in the standard channel, or with the session persistence of the experimental one."""
    rule = _object(**_RULE, **({"sessionPersistence": _COOKIE} if persistence else {}))
    return _object(parentRefs=_list(_PARENT), hostnames=_list(STRING), rules=_list(rule))


@contextmanager
def installed(api: Api, kind: Kind, spec: Object) -> Iterator[None]:
    """The definition of a kind, deleted with the block."""
    install(api, kind, spec)
    try:
        yield
    finally:
        if api.find(CRDS, None, _name(kind)) is not None:  # a test may have deleted it
            remove(api, kind)


def install(api: Api, kind: Kind, spec: Object) -> None:
    """Install or change a definition, and wait until it is served."""
    group, _, version = kind.api_version.rpartition("/")
    schema = _object(apiVersion=STRING, kind=STRING, metadata={"type": "object"}, spec=spec)
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower(), "listKind": f"{kind.kind}List"}
    one: Any = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {"group": group, "names": names, "scope": "Namespaced", "versions": [one]}
    metadata = {"name": _name(kind), "annotations": {"api-approved.kubernetes.io": "unapproved, a test's own"}}
    if api.find(CRDS, None, _name(kind)) is None:
        api.create(CRDS, None, {"metadata": metadata, "spec": body})
    else:
        api.patch(CRDS, None, _name(kind), {"spec": {"versions": [one]}})
    until(lambda: _established(api, kind))


def remove(api: Api, kind: Kind, seconds: float = 30.0) -> None:
    """Delete a definition, and with it every object of its kind; it is gone within so many seconds."""
    api.delete(CRDS, None, _name(kind))
    until(lambda: api.find(CRDS, None, _name(kind)) is None, seconds)


def _established(api: Api, kind: Kind) -> bool:
    conditions = (api.get(CRDS, None, _name(kind)).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _name(kind: Kind) -> str:
    return f"{kind.plural}.{kind.api_version.rpartition('/')[0]}"
