"""The responses that a cache keeps in memory: by what was asked, by variant, and by target for invalidation.

    resource (what was asked) ── Vary names ──▶ variants ──▶ Stored, all in one S3-FIFO bounded by bytes
    target (path and query)   ── its resources, so that an unsafe request finds them

A resource has one list of names at a time, that of its latest response. When an app changes its mind about them, what
was stored under the former list can no longer be found by a request, and goes. The number of variants of a resource is
bounded, oldest first: whoever may choose a value that Vary names could else fill the cache with one target.

A response that was under way while its target changed may show what was before. So changes are counted, and whoever
keeps a response says how many there were when it was asked for. The changes of `MOST_CHANGED` targets are told apart;
of others it is only known that they are older.
"""

import re
from collections import OrderedDict
from typing import Final

from nova_sidecar.policy.freshness import Stored
from nova_sidecar.policy.s3fifo import S3Fifo

LARGEST: Final = 4
"""One response takes at most this part of the memory."""
MOST_STARS: Final = 8
LONGEST_PATTERN: Final = 1024
MOST_CHANGED: Final = 4096


class PatternError(ValueError):
    """No pattern of targets; the message says why."""


class _Resource:
    __slots__ = ("names", "target", "variants")

    def __init__(self, names: tuple[bytes, ...], target: bytes) -> None:
        self.names = names
        self.target = target
        self.variants: OrderedDict[bytes, None] = OrderedDict()


class CachedResponses:
    """See the module. `limit` in bytes, `most_variants` per resource."""

    __slots__ = (
        "_changed", "_entries", "_floor", "_most_variants", "_owner", "_resources", "_targets", "changes", "evictions",
        "held", "invalidated",
    )  # fmt: skip

    def __init__(self, limit: int, most_variants: int) -> None:
        self._entries: S3Fifo[bytes, Stored] = S3Fifo(limit)
        self._resources: dict[bytes, _Resource] = {}
        self._owner: dict[bytes, bytes] = {}
        """Variant to resource."""
        self._targets: dict[bytes, dict[bytes, None]] = {}
        self._most_variants = most_variants
        self._changed: OrderedDict[bytes, int] = OrderedDict()
        """Targets by the number of their latest change, oldest first."""
        self._floor = 0
        """The number of the latest change that may have been any target's."""
        self.changes = 0
        """Of targets and patterns, since the beginning."""
        self.held = 0
        """Bytes of responses on their way that will be kept."""
        self.evictions = 0
        """Entries that left for want of room."""
        self.invalidated = 0
        """Entries that were called invalid."""

    def configure(self, limit: int, most_variants: int) -> None:
        """Take over other bounds; what is too much leaves."""
        self._most_variants = most_variants
        self._left(self._entries.configure(limit))

    @property
    def size(self) -> int:
        """Of all that is kept."""
        return self._entries.size

    @property
    def largest(self) -> int:
        """Most bytes of one response."""
        return self._entries.limit // LARGEST

    @property
    def full(self) -> bool:
        """Whether responses on their way take as much as one may: no further one is collected."""
        return self.held >= self.largest

    def names(self, resource: bytes) -> tuple[bytes, ...] | None:
        """The fields by which its responses differ; None where nothing is stored for it."""
        found = self._resources.get(resource)
        return None if found is None else found.names

    def unchanged(self, target: bytes, since: int) -> bool:
        """Whether nothing has changed about a target since there were so many `changes`."""
        return since >= self._floor and self._changed.get(target, 0) <= since

    def find(self, variant: bytes) -> Stored | None:
        """The response, fresh or not, counted as used."""
        return self._entries.get(variant)

    def keep(self, resource: bytes, names: tuple[bytes, ...], stored: Stored) -> bool:
        """Keep a response in place of an earlier one; whether it is kept. One that is too large takes the earlier one
        away all the same: it has been replaced."""
        found = self._resources.get(resource)
        if found is not None and found.names != names:
            self.forget(resource)
            found = None
        if stored.size > self.largest:
            self.drop(stored.key)
            return False
        if found is None:
            found = self._resources[resource] = _Resource(names, stored.target)
            self._targets.setdefault(stored.target, {})[resource] = None
        found.variants[stored.key] = None
        self._owner[stored.key] = resource
        self._left(self._entries.put(stored.key, stored, stored.size))
        while len(found.variants) > self._most_variants:
            self.evictions += 1
            self.drop(next(iter(found.variants)))
        return stored.key in self._entries

    def drop(self, variant: bytes) -> bool:
        """Forget one response; whether there was one."""
        there = self._entries.pop(variant) is not None
        self._unlink(variant)
        return there

    def forget(self, resource: bytes) -> int:
        """Forget all responses of a resource; how many there were."""
        found = self._resources.get(resource)
        return sum([self.drop(variant) for variant in tuple(found.variants)]) if found is not None else 0

    def invalidate(self, target: bytes) -> int:
        """Forget what is stored about a target (RFC 9111 section 4.4), whoever asked and for whichever host."""
        self.changes += 1
        self._changed[target] = self.changes
        self._changed.move_to_end(target)
        if len(self._changed) > MOST_CHANGED:
            self._floor = max(self._floor, self._changed.popitem(last=False)[1])
        return self._invalidate(target)

    def _invalidate(self, target: bytes) -> int:
        gone = sum([self.forget(resource) for resource in tuple(self._targets.get(target, ()))])
        self.invalidated += gone
        return gone

    def purge(self, pattern: bytes) -> int:
        """Forget what is stored about all targets that a pattern names. Raises PatternError."""
        matches = compiled(pattern)
        self._all_changed()
        return sum([self._invalidate(target) for target in tuple(self._targets) if matches.fullmatch(target)])

    def clear(self) -> int:
        """Forget everything; how many there were."""
        gone = len(self._entries)
        self._all_changed()
        self._entries.clear()
        self._resources.clear()
        self._owner.clear()
        self._targets.clear()
        return gone

    def _all_changed(self) -> None:
        self.changes += 1
        self._floor = self.changes
        self._changed.clear()

    def _left(self, gone: list[tuple[bytes, Stored]]) -> None:
        self.evictions += len(gone)
        for variant, _ in gone:
            self._unlink(variant)

    def _unlink(self, variant: bytes) -> None:
        resource = self._owner.pop(variant, None)
        if resource is None:
            return
        found = self._resources[resource]
        found.variants.pop(variant, None)
        if not found.variants:
            del self._resources[resource]
            of_target = self._targets[found.target]
            del of_target[resource]
            if not of_target:
                del self._targets[found.target]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<CachedResponses {len(self)} of {self.size} bytes>"


def compiled(pattern: bytes) -> re.Pattern[bytes]:
    """A pattern of targets, in which * stands for any number of bytes. Raises PatternError.

    What stands between two * is looked for once, and taken at its first place, which is as good as any later one. So a
    match takes no longer than the lengths of target and pattern, one times the other."""
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"expected a pattern of 1 to {LONGEST_PATTERN} characters")
    parts = pattern.split(b"*")
    if len(parts) - 1 > MOST_STARS:
        raise PatternError(f"expected at most {MOST_STARS} times * in a pattern")
    first, *others = [re.escape(part) for part in parts]
    if not others:
        return re.compile(first)
    between = b"".join([b"(?>.*?%b)" % part for part in others[:-1]])
    return re.compile(first + between + b".*" + others[-1], re.DOTALL)
