"""What a field would have taken: msgspec names the wrong value of an enumeration, users want to read the right ones."""

import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_STEP = re.compile(r"\.(\w+)|\[(?:\d+|\.\.\.)\]")


def choices(hint: Any, path: str) -> tuple[str, ...]:
    """The values allowed at a path (``$.spec.retry.when[0]``) below a type; empty where it is no enumeration."""
    for step in _STEP.finditer(path):
        hint = _below(_plain(hint), step[1])
    hint = _plain(hint)
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def _plain(hint: Any) -> Any:
    """Without annotations and without the null of an optional field."""
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    return hint


def _below(hint: Any, name: str | None) -> Any:
    """The type of a field, or of the items of a list or a map; Any where the path leaves the model."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = {field.encode_name: field.name for field in msgspec.structs.fields(hint)}
        return get_type_hints(hint, include_extras=True).get(fields.get(name or "", ""), Any)
    arguments = get_args(hint)
    if get_origin(hint) is dict:
        return arguments[1]
    return arguments[0] if get_origin(hint) is tuple else Any
