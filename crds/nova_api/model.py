"""What every struct of the API has in common: strictness, rules across fields, overrides, and the codec.

A rule that spans several fields must hold in two places: in the API server (as CEL, so that ``kubectl apply`` is
refused at once) and in Python (so that ``nova dev`` and ``nova render`` refuse the same documents without a
cluster). `Rule` keeps the two side by side; the tests feed both the same documents.

A null in a document counts as leaving the field out, as the API server has it; templates often leave nulls behind.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from nova_api.errors import ConfigError, translate
from nova_api.units import Duration, Share

M = TypeVar("M", bound="Model")
T = TypeVar("T")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A condition across the fields of one struct: ``cel`` for the API server, ``holds`` for Python, one message.

    ``cel`` is None where the schema says the same by other means (unique keys of a list) or no server checks it.
    """

    cel: str | None = None
    message: str
    holds: Callable[[Any], bool]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every struct: immutable, camelCase in documents, unknown fields refused, rules checked on creation."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    key: ClassVar[str | None] = None
    """Field by which items of this type are told apart in a list, in its document form; see `unique`."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)


def unique(message: str, *fields: str, of: str, cel: str | None = None) -> Rule:
    """The rule that no two items of the list `of` agree in all `fields` (Python names).

    Where the field is the items' `Model.key` the schema's list type says so already, at no cost in CEL.
    """

    def holds(model: Any) -> bool:
        items = getattr(model, of)
        return len({tuple(getattr(item, field) for field in fields) for item in items}) == len(items)

    return Rule(cel=cel, message=message, holds=holds)


def stored(section: type[Model], field: str, *, at: str) -> str:
    """CEL for a field of a section, or for its default where the section was left out; `field` as it is in Python,
    `at` the section's place, such as ``self.shutdown``.

    The definition gives defaults to fields, not to sections: one that nobody has begun to write is not stored. With all
    of them a service of 170 bytes would have 4600, which the API server reads, checks and writes with each status.
    """
    found = next(spec for spec in msgspec.structs.fields(section) if spec.name == field)
    return f"(has({at}) ? {at}.{found.encode_name} : {builtins(found.default)!r})"


class Override(Generic[M]):
    """The fields of a policy that somebody set, to be laid over a base policy of the same type.

    The CRD shows the fields without defaults here, since the API server would otherwise fill them in and nothing
    could be inherited.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def over(self, base: M) -> M:
        """The base policy with the set fields replaced, recursively. Raises ConfigError if a rule then breaks."""
        merged = _merge(msgspec.to_builtins(base, enc_hook=encode_hook), self._fields)
        return convert(merged, type(base))

    def __repr__(self) -> str:
        return f"Override({self._fields!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Override) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(msgspec.json.encode(self._fields, order="sorted"))

    @classmethod
    def decode(cls, model: type[M], fields: object) -> "Override[M]":
        """Check the fields alone: types, bounds and names; rules across fields wait for `over`.

        Raises ConfigError with a path that starts at the override; `translate` puts it below the override's own.
        """
        if not isinstance(fields, dict):
            raise ConfigError("$", f"expected object, got {type(fields).__name__}")
        hints = get_type_hints(model, include_extras=True)
        known = {spec.encode_name: hints[spec.name] for spec in msgspec.structs.fields(model)}
        for name, value in fields.items():
            if name not in known:
                raise ConfigError("$", f"object contains unknown field {name}")
            try:
                cls._check(known[name], value)
            except ConfigError as error:
                raise error.below(f"$.{name}") from error
        return cls(fields)

    @classmethod
    def _check(cls, hint: Any, value: object) -> None:
        if isinstance(hint, type) and issubclass(hint, Model):
            cls.decode(cast("type[M]", hint), value)
        else:
            convert(value, hint)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        below = base.get(name)
        merged[name] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def decode_hook(kind: Any, value: object) -> Any:
    """Decode the types that msgspec does not know. Raises ValueError, which msgspec turns into an error with a path."""
    if kind is Duration or kind is Share:
        return kind.parse(value)
    if get_origin(kind) is Override:
        return Override.decode(get_args(kind)[0], value)
    raise NotImplementedError(kind)


def encode_hook(value: object) -> object:
    """Encode the types that msgspec does not know."""
    if isinstance(value, Duration | Share):
        return str(value)
    if isinstance(value, Override):
        return cast("object", value._fields)
    raise NotImplementedError(type(value))


def convert(document: object, model: type[T]) -> T:
    """Check plain Python data against a struct. Raises ConfigError naming the field and the rule."""
    try:
        return msgspec.convert(_without_nulls(document), model, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise translate(error, model) from error


_NESTED = (dict, list)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_nulls(below) if isinstance(below, _NESTED) else below
            for name, below in value.items()
            if below is not None
        }
    if isinstance(value, list):
        return [_without_nulls(below) if isinstance(below, _NESTED) else below for below in value]
    return value


def decode_json(text: bytes, model: type[T]) -> T:
    """Decode and check a JSON document. Raises ConfigError naming the field and the rule."""
    try:
        return msgspec.json.decode(text, type=model, dec_hook=decode_hook)
    except msgspec.DecodeError as error:
        raise translate(error, model) from error
    except RecursionError as error:
        raise ConfigError("$", "expected a document, got one nested too deeply") from error


def encode_json(value: object) -> bytes:
    """Canonical JSON: keys in declaration order, no spaces; equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=encode_hook)


def builtins(value: object) -> Any:
    """Plain dicts, lists and strings, as for YAML."""
    return msgspec.to_builtins(value, enc_hook=encode_hook)
