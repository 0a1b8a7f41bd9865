"""Of which class an operation is, and so for whom and how long its answer may be used.

What the policy lists by name comes first, the strictest list first: NO_CACHE, USER_DATA, SEARCH, PUBLIC. Then
@cacheControl, where the policy listens to it. Then the default. Mutations and subscriptions have no class: they are
never cached.
"""

from typing import Final, NamedTuple

from nova_api.request_policies.graphql import GraphqlPolicy, QueryClass
from nova_sidecar.graphql.document import Operation


class Use(NamedTuple):
    """What may be done with an operation's answer."""

    kind: QueryClass
    seconds: float


NEVER: Final = Use("NO_CACHE", 0.0)


class Classes:
    """The classes of one policy."""

    __slots__ = ("_directives", "_lists", "_unnamed", "_uses")

    def __init__(self, policy: GraphqlPolicy) -> None:
        ttl = policy.ttl
        self._uses: dict[QueryClass, Use] = {
            "PUBLIC": Use("PUBLIC", float(ttl.public)),
            "USER_DATA": Use("USER_DATA", float(ttl.user_data)),
            "SEARCH": Use("SEARCH", float(ttl.search)),
            "NO_CACHE": NEVER,
        }
        self._directives = policy.directives
        self._unnamed = self._uses[policy.default_class]
        lists: tuple[tuple[tuple[str, ...], QueryClass], ...] = (
            (policy.no_cache, "NO_CACHE"), (policy.user_data, "USER_DATA"), (policy.search, "SEARCH"),
            (policy.public, "PUBLIC"),
        )  # fmt: skip
        self._lists = [
            (frozenset(names), tuple(name[:-1] for name in names if name.endswith("*")), self._uses[kind])
            for names, kind in lists
        ]

    def of(self, operation: Operation) -> Use:
        """What may be done with its answer."""
        if operation.kind != "query":
            return NEVER
        name = operation.name
        for names, starts, use in self._lists if name else ():
            if name in names or name.startswith(starts):
                return use
        if self._directives and operation.hint is not None:
            return self._hinted(operation)
        return self._unnamed

    def _hinted(self, operation: Operation) -> Use:
        hint = operation.hint
        assert hint is not None  # noqa: S101 - the caller looked
        use = self._uses["USER_DATA" if hint.private else "PUBLIC"]
        if hint.seconds is None:
            return use
        return Use(use.kind, min(use.seconds, float(hint.seconds))) if hint.seconds else NEVER
