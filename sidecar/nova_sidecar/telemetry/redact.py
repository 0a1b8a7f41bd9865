"""Keeps credentials and query strings out of log lines, whoever wrote the line.

The callers are supposed to log neither. This is the second line of defence, for texts of foreign exceptions and for
fields added in a hurry: it looks at every key and every string.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

_SECRET_KEY: Final = re.compile(
    r"authorization|cookie|passw|passphrase|secret|token|credential|api[-_]?key|private[-_]?key|session[-_]?id", re.I
)
_SECRET_TEXT: Final = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|digest|negotiate) +)(?=\S*[\d=.])[^\s\"',]{6,}"  # value of an Authorization header
    r"|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"  # a JSON Web Token anywhere
    r"|(?P<url>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@"  # user information of a URL (RFC 3986 section 3.2.1)
    r"|(?P<path>(?<=[\w/.~%-])\?)[^\s\"'?=&]+=[^\s\"']*"  # a query string
    r"|(?P<pair>\b[\w-]*(?:passw(?:or)?d|secret|token|api[-_]?key)[\"']?\s*[=:]\s*)[^\s,;&]+",
    re.I,
)


def redact(event: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without secrets: values under a telling key are replaced, secrets inside of strings cut out."""
    return {key: REDACTED if _SECRET_KEY.search(key) else redact_value(value) for key, value in event.items()}


def redact_value(value: Any) -> Any:
    """A value without secrets; containers are copied, numbers pass."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return redact({str(key): inner for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return [redact_value(inner) for inner in value]
    return value


def redact_text(text: str) -> str:
    """A text without the credentials and query strings it contains; what is not Unicode in it is escaped."""
    return _SECRET_TEXT.sub(_replacement, text).encode(errors="backslashreplace").decode()


def _replacement(match: re.Match[str]) -> str:
    kept = next((group for group in match.groups() if group), "")
    return f"{kept}{REDACTED}@" if match["url"] else f"{kept}{REDACTED}"
