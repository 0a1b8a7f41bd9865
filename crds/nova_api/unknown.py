"""Takes the fields out of a document that the model does not know.

They appear in two places. A CustomResourceDefinition that is newer than the operator lets them through, and fills in
defaults of its own, so every object would be refused while an update has come half way. And a status may have been
written by a newer operator. Where people write by hand (`nova dev`, `nova render`) an unknown field stays an error:
there it is a slip of the pen.
"""

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from nova_api.model import Override


def without_unknown(document: Any, model: type[Any]) -> tuple[Any, tuple[str, ...]]:
    """The document with known fields alone, and the paths of the others, from ``$``. What has another shape than the
    model says stays as it is, for `convert` to refuse."""
    unknown: list[str] = []
    return _known(document, model, "$", unknown), tuple(unknown)


def _known(value: Any, hint: Any, path: str, unknown: list[str]) -> Any:
    struct, items = _below(hint)
    if struct is not None and isinstance(value, dict):
        fields = _fields(struct)
        strict = struct.__struct_config__.forbid_unknown_fields
        unknown += [f"{path}.{name}" for name in value if name not in fields and strict]
        return {
            name: _known(below, fields[name], f"{path}.{name}", unknown) if name in fields else below
            for name, below in value.items()
            if name in fields or not strict
        }
    if items is not None and isinstance(value, list):
        return [_known(below, items, f"{path}[{index}]", unknown) for index, below in enumerate(value)]
    return value


@cache  # every reconcile asks, and looking hints up takes longer than the rest of it
def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Hints by the names in documents."""
    hints = get_type_hints(struct, include_extras=True)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(struct)}


@cache
def _below(hint: Any) -> tuple[type[msgspec.Struct] | None, Any]:
    return _struct(hint), _items(hint)


def _plain(hint: Any) -> Any:
    """Without Annotated and None."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        others = [one for one in get_args(hint) if one is not NoneType]
        return _plain(others[0]) if len(others) == 1 else hint
    return hint


def _struct(hint: Any) -> type[msgspec.Struct] | None:
    plain = _plain(hint)
    if get_origin(plain) is Override:
        plain = get_args(plain)[0]
    return plain if isinstance(plain, type) and issubclass(plain, msgspec.Struct) else None


def _items(hint: Any) -> Any:
    plain = _plain(hint)
    return get_args(plain)[0] if get_origin(plain) in (tuple, list) else None
