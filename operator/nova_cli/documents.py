"""YAML as people hand it to `nova dev` and `nova render`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import yaml

from nova_api.errors import ConfigError
from nova_cli.errors import CommandError

DEEPEST: Final = 100
"""Levels of nesting; a Kubernetes object has about a dozen. PyYAML's C parser refuses a thousand by itself from 6.0.4
on, and crashes the process beyond some ten thousand before."""
LARGEST: Final = 1_000_000
"""Values of a file with every alias written out; without a bound, a kilobyte of aliases stands for billions."""


class DocumentError(CommandError):
    """A file, or a document in it, cannot be used: ``file: $.path: rule``."""

    exit_code = 2


def parse(text: bytes | str) -> list[Any]:
    """Every document of a YAML stream that says anything. Raises ConfigError with the line and column of a mistake."""
    try:
        _bound(yaml.parse(text, Loader=_FASTEST))
        return [found for found in yaml.load_all(text, Loader=_Loader) if found is not None]
    except yaml.MarkedYAMLError as error:
        raise _refusal(error.problem_mark, f"({error.problem})") from error
    except yaml.YAMLError as error:
        raise ConfigError("$", f"expected YAML ({' '.join(str(error).split())})") from error
    except ConfigError:
        raise
    except (ValueError, KeyError, AttributeError) as error:  # PyYAML's own, for a date such as 2026-02-30
        raise ConfigError("$", f"expected YAML whose dates and numbers are some, or in quotes ({error})") from error


_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast, where PyYAML has it."""


class _Loader(_FASTEST):  # type: ignore[misc]  # which of the two it is, is known when it runs
    """Refuses a key that comes twice, as `kubectl apply` does: the last would count, and nobody would know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:  # as written: what `<<` brings along is not among them yet, and gives way to them
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} comes twice", key.start_mark)
            keys.add((key.tag, key.value))
        return dict(super().construct_mapping(node, deep=deep))


class _Size:
    """Of a value with its aliases written out: values in it, itself included, and levels below it."""

    __slots__ = ("anchor", "levels", "values")

    def __init__(self, anchor: str | None) -> None:
        self.anchor = anchor
        self.values = 1
        self.levels = 0

    def add(self, part: _Size) -> None:
        """Take in a value that stands in this one."""
        self.values += part.values
        self.levels = max(self.levels, part.levels + 1)


def _bound(events: Iterable[Any]) -> None:
    """Refuse what would take too much to read, on the parser's events, which cost the same for every document."""
    around: list[_Size] = [_Size(None)]
    known: dict[str, _Size] = {}
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Size(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            _close(around.pop(), around[-1], known)
        elif isinstance(event, yaml.ScalarEvent):
            _close(_Size(event.anchor), around[-1], known)
        elif isinstance(event, yaml.AliasEvent):
            if any(size.anchor == event.anchor for size in around):
                raise _refusal(event.start_mark, f"without a value that contains itself (*{event.anchor})")
            around[-1].add(known.get(event.anchor or "", _Size(None)))
        if len(around) + around[-1].levels > DEEPEST:
            raise _refusal(event.start_mark, f"of at most {DEEPEST} levels")
        if around[-1].values > LARGEST:
            raise _refusal(event.start_mark, f"of at most {LARGEST} values, aliases written out")


def _close(done: _Size, parent: _Size, known: dict[str, _Size]) -> None:
    if done.anchor is not None:
        known[done.anchor] = done
    parent.add(done)


def _refusal(mark: Any, why: str) -> ConfigError:
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return ConfigError("$", f"expected YAML{where} {why}")
