"""Paths as policies list them: whole, or by how they begin."""


class Paths:
    """A list of paths. One that ends in * stands for all that begin so; queries do not belong to a path."""

    __slots__ = ("_listed", "_prefixes", "empty")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.empty = not patterns
        self._listed = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self._prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def __contains__(self, path: str) -> bool:
        return path in self._listed or path.startswith(self._prefixes)

    def __repr__(self) -> str:
        return f"<Paths {len(self._listed)} whole, {len(self._prefixes)} beginnings>"
