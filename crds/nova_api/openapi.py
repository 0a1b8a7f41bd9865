"""From a struct to a structural OpenAPI v3 schema, the dialect that CustomResourceDefinitions take.

What differs from plain JSON schema, and why (Kubernetes: "Specifying a structural schema"):

* no ``$ref``: every object is written out where it stands;
* no ``additionalProperties: false``: the API server prunes or, as `kubectl apply` asks, refuses unknown fields anyway;
* an optional field is one that is not required; a null in a document counts as leaving the field out;
* ``exclusiveMinimum`` is a flag beside ``minimum``, as in OpenAPI 3.0;
* rules across fields are CEL, and each loop over a list needs a bound on the list for the server to accept its cost;
* a section (a field that is a struct) has no default of its own, its fields have: see `model.stored`.

An `Override` shows its policy's fields without defaults and without rules: a default filled in by the API server
could not be told from a value somebody wrote, so nothing would be inherited.
"""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from nova_api.fielddocs import field_docs, summary
from nova_api.model import Model, Override, builtins
from nova_api.units import DURATION_PATTERN, LONGEST, SHARE_PATTERN, TEXT_LENGTH, Duration, Share

Schema = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
VALIDATIONS: Final = "x-kubernetes-validations"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

_SCALARS: Final[dict[type, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    Duration: {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "maxLength": TEXT_LENGTH,
        VALIDATIONS: [
            {"rule": f"duration(self) <= duration('{LONGEST}')", "message": "expected a duration of at most 720h"}
        ],
    },
    Share: {"type": "string", "pattern": SHARE_PATTERN, "maxLength": TEXT_LENGTH},
}
_LENGTHS: Final[dict[str, dict[str, str]]] = {
    "string": {"min_length": "minLength", "max_length": "maxLength"},
    "array": {"min_length": "minItems", "max_length": "maxItems"},
    "object": {"min_length": "minProperties", "max_length": "maxProperties"},
}
_EMPTY: Final[tuple[object, ...]] = (None, [], {})


class Emitter:
    """Writes schemas; `defaults` and `rules` say whether to include them."""

    def __init__(self, *, defaults: bool = True, rules: bool = True) -> None:
        self.defaults = defaults
        self.rules = rules
        self._forms: dict[Any, Callable[[tuple[Any, ...]], Schema]] = {
            Annotated: self._annotated,
            Literal: lambda values: {
                "type": "integer" if isinstance(values[0], int) else "string",
                "enum": list(values),
            },
            Override: lambda arguments: Emitter(defaults=False, rules=False).object(arguments[0]),
            Union: self._union,
            UnionType: self._union,
            dict: self._map,
            tuple: self._array,
        }

    def object(self, model: type) -> Schema:
        """Schema of a struct: its fields, what is required, and its rules."""
        hints = get_type_hints(model, include_extras=True)
        docs = field_docs(model)
        fields = msgspec.structs.fields(model)
        schema: Schema = {"description": summary(model), "type": "object"}
        if required := [field.encode_name for field in fields if field.required]:
            schema["required"] = required
        schema["properties"] = {
            field.encode_name: self._field(field, hints[field.name], docs.get(field.name, "")) for field in fields
        }
        checks = [rule for rule in getattr(model, "rules", ()) if rule.cel is not None]
        if self.rules and checks:
            schema[VALIDATIONS] = [{"rule": rule.cel, "message": rule.message} for rule in checks]
        return schema

    def hint(self, hint: Any) -> Schema:
        """Schema of a type annotation. Raises TypeError for one that has no structural form."""
        if hint in _SCALARS:
            return dict(_SCALARS[hint])
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return self.object(hint)
        form = self._forms.get(get_origin(hint))
        if form is None:
            raise TypeError(f"no structural schema for {hint!r}")
        return form(get_args(hint))

    def _field(self, field: msgspec.structs.FieldInfo, hint: Any, doc: str) -> Schema:
        """The field's own text stands in front of what its type says of itself."""
        schema = self.hint(hint) | {"description": doc}
        if self.defaults and field.default is not msgspec.NODEFAULT and not _is_a_section_left_out(field.default):
            default = _without_empty(builtins(field.default))
            if default not in _EMPTY:
                schema["default"] = default
        return {"description": schema.pop("description"), **schema}

    def _annotated(self, arguments: tuple[Any, ...]) -> Schema:
        schema = self.hint(arguments[0])
        for meta in arguments[1:]:
            schema |= _bounds(meta, schema["type"])
        return schema

    def _array(self, arguments: tuple[Any, ...]) -> Schema:
        item = arguments[0]
        schema: Schema = {"type": "array"}
        if isinstance(item, type) and issubclass(item, Model) and item.key is not None:
            schema["x-kubernetes-list-type"] = "map"
            schema["x-kubernetes-list-map-keys"] = [item.key]
        return schema | {"items": self.hint(item)}

    def _map(self, arguments: tuple[Any, ...]) -> Schema:
        value = arguments[1]
        return {"type": "object"} | ({PRESERVE: True} if value is Any else {"additionalProperties": self.hint(value)})

    def _union(self, arguments: tuple[Any, ...]) -> Schema:
        """An optional type, or a quantity, which may be a number or text."""
        chosen = [one for one in arguments if one is not NoneType]
        if len(chosen) == 1:
            return self.hint(chosen[0])
        schemas = {schema.pop("type"): schema for schema in map(self.hint, chosen)}
        if set(schemas) != {"integer", "string"}:
            raise TypeError(f"no structural schema for a union of {sorted(schemas)}")
        schemas["integer"].pop("format")
        either: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], INT_OR_STRING: True}
        return either | schemas["integer"] | schemas["string"]


def _bounds(meta: msgspec.Meta, kind: str) -> Schema:
    bounds: Schema = {}
    if meta.pattern is not None:
        bounds["pattern"] = go_pattern(meta.pattern)
    if meta.ge is not None or meta.gt is not None:
        bounds["minimum"] = meta.ge if meta.ge is not None else meta.gt
    if meta.gt is not None:
        bounds["exclusiveMinimum"] = True
    if meta.le is not None:
        bounds["maximum"] = meta.le
    for ours, theirs in _LENGTHS.get(kind, {}).items():
        if (value := getattr(meta, ours)) is not None:
            bounds[theirs] = value
    return bounds


def go_pattern(pattern: str) -> str:
    r"""The pattern as Go reads it: Python's ``$`` lets a final line feed pass, so ours end in ``\Z``; Go's does not."""
    return pattern.removesuffix(r"\Z") + "$" if pattern.endswith(r"\Z") else pattern


def _is_a_section_left_out(default: object) -> bool:
    """Whether a default is that of each field of its struct."""
    return isinstance(default, Model) and default == type(default)()


def _without_empty(value: Any) -> Any:
    """Without what says nothing: nulls and empty objects and lists."""
    if not isinstance(value, dict):
        return list(value) if isinstance(value, tuple) else value
    below = {name: _without_empty(inner) for name, inner in value.items()}
    return {name: inner for name, inner in below.items() if inner not in _EMPTY}
