"""Whether a path is one of those a rule names, however it is written.

Apps, frameworks and proxies read the same path differently: `/Login`, `/%6cogin`, `//login`, `/x/../login`, `/login/`
and `/login;a=b` are one resource to some and several to others. A limit that follows one reading is passed by writing
the path in another. So a rule's path is compared with every reading of the request's, and one that fits is enough:
counting a request too many costs little, letting one pass by its spelling makes the rule worthless.

Readings: percent-encoding removed once or twice, in lower case, backslashes as slashes, doubled and final slashes gone;
with parameters (``;``) and dot segments as they are, or removed (RFC 3986 sections 3.3 and 5.2.4).
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 512


class PathMatcher:
    """Whether a path is among these; one that ends in * stands for all that begin so. Paths are remembered."""

    __slots__ = ("_exact", "_known", "_prefixes")

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._prefixes: list[str] = []
        for path in paths:
            if path.endswith("*"):
                self._prefixes.append(_plain(path[:-1]))
            else:
                self._exact.add(_plain(path).rstrip("/") or "/")
        self._known: dict[str, bool] = {}

    def matches(self, path: str) -> bool:
        """Whether it is one of them, in any reading. The path is without its query string."""
        found = self._known.get(path)
        if found is None:
            found = self._look(path)
            if len(path) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[path] = found
        return found

    def _look(self, path: str) -> bool:
        for reading in readings(path):
            if (reading.rstrip("/") or "/") in self._exact:
                return True
            if any(reading.startswith(prefix) or f"{reading}/" == prefix for prefix in self._prefixes):
                return True
        return False


def readings(path: str) -> set[str]:
    """Every way in which an app may understand a path."""
    once = unquote(path, errors="replace")
    found = set()
    for text in (path, once, unquote(once, errors="replace")):
        plain = _plain(text.partition("\0")[0])
        without = "/".join(segment.partition(";")[0] for segment in plain.split("/"))
        for each in (plain, _plain(without)):
            found.add(each)
            found.add(_without_dots(each))
    return found


def segment(path: str, number: int) -> str:
    """A segment of a path as most apps read it, 1 being the first; "" where there are fewer."""
    plain = _plain(unquote(path, errors="replace").partition("\0")[0])
    parts = _without_dots("/".join(part.partition(";")[0] for part in plain.split("/"))).split("/")
    return parts[number] if number < len(parts) else ""


def _plain(path: str) -> str:
    """In lower case, with single slashes."""
    parts = [part for part in path.replace("\\", "/").lower().split("/") if part.strip()]
    final = "/" if parts and path.endswith(("/", "\\")) else ""
    return f"/{'/'.join(part.strip() for part in parts)}{final}"


def _without_dots(path: str) -> str:
    kept: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            if kept:
                kept.pop()
        elif part != ".":
            kept.append(part)
    return "/" + "/".join(kept)
