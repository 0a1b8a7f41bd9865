"""How to take back what was laid over an object, whatever its owner changes in between.

A change is remembered field by field, as JSON that fits an annotation:

    {"at": ["spec", "hostAliases"], "set": []}                    a field that was not there
    {"at": ["spec", "terminationGracePeriodSeconds"], "set": 45, "was": 30}
    {"at": ["spec", "initContainers", {"name": "nova-sidecar"}]}  an item that goes whatever it says by then

Taken back is only what still says what was set: a field that somebody changed since is theirs. A list or an object that
was made goes when nothing else is in it any more. What is laid over may add and overwrite, and removes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import msgspec

Step = str | dict[str, str]
"""A key of an object, or what tells an item of a list apart, such as {"name": "app"}."""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field that was set. `was` is UNSET where there was none, `set` where the item goes in any case."""

    at: tuple[Step, ...]
    set: Any = msgspec.UNSET
    was: Any = msgspec.UNSET


def changes(before: Any, after: Any, at: tuple[Step, ...] = ()) -> Iterator[Change]:
    """What was set in `after`, from the outside to the inside."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in after.items():
            if name in before:
                yield from changes(before[name], value, (*at, name))
            else:
                yield from _made(value, (*at, name))
    elif isinstance(before, list) and isinstance(after, list) and (key := _only_adds(before, after)) is not None:
        yield from _items(before, after, key, at)
    else:
        yield Change(at, after, before)


def take_back(document: Any, made: tuple[Change, ...]) -> Any:
    """The document as it would be without these changes; `document` itself stays as it is."""
    document = deepcopy(document)
    for change in reversed(made):  # what is inside goes first
        parent = find(document, change.at[:-1])
        there = find(parent, change.at[-1:])
        if there is not _NOTHING and (change.set is msgspec.UNSET or there == change.set):
            _put_back(parent, change)
    return document


def find(document: Any, at: tuple[Step, ...]) -> Any:
    """What is there, or something that equals nothing."""
    for step in at:
        if isinstance(step, str):
            document = document.get(step, _NOTHING) if isinstance(document, dict) else _NOTHING
        else:
            ((key, value),) = step.items()
            items = document if isinstance(document, list) else ()
            document = next((one for one in items if isinstance(one, dict) and one.get(key) == value), _NOTHING)
    return document


_NOTHING: Final = object()
_ITEM_KEYS: Final = ("ip", "name")


def _item_key(items: list[Any]) -> str | None:
    """What tells the items apart, of a host alias its address; None where they are no objects."""
    if not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _ITEM_KEYS if all(key in item for item in items)), None)


def _only_adds(before: list[Any], after: list[Any]) -> str | None:
    """What tells the items apart, if every item that was there still is; a list of anything else is one value."""
    key = _item_key(after) if after else None
    if key is None or _item_key(before) is None:
        return None
    return key if {str(item.get(key)) for item in before} <= {str(item[key]) for item in after} else None


def _items(before: list[Any], after: list[Any], key: str, at: tuple[Step, ...]) -> Iterator[Change]:
    """Namesakes, such as a variable that a container has twice, are the owner's and unchanged."""
    there = {str(item.get(key)): item for item in before}
    often = Counter(str(item[key]) for item in after)
    for item in after:
        name, step = str(item[key]), (*at, {key: item[key]})
        if name not in there:
            yield _added(item, step)
        elif often[name] == 1:
            yield from changes(there[name], item, step)


def _made(value: Any, at: tuple[Step, ...]) -> Iterator[Change]:
    """A field that was not there: what is in it one by one, since others may put more into it."""
    if isinstance(value, dict):
        yield Change(at, {})
        yield from changes({}, value, at)
    elif isinstance(value, list) and _only_adds([], value) is not None:
        yield Change(at, [])
        yield from changes([], value, at)
    else:
        yield Change(at, value)


def _added(item: Any, at: tuple[Step, ...]) -> Change:
    """The API server fills defaults into an item that has parts of its own; a plain one stays as it was written."""
    plain = not any(isinstance(value, dict | list) for value in item.values())
    return Change(at, item) if plain else Change(at)


def _put_back(parent: Any, change: Change) -> None:
    step = change.at[-1]
    if isinstance(step, dict):
        parent.remove(find(parent, (step,)))
    elif change.was is msgspec.UNSET:
        del parent[step]
    else:
        parent[step] = change.was
