"""Quantities as people write them: ``5m``, ``250ms``, ``20%``.

Inside Nova a duration is float seconds and a share a float from 0 to 1; both types are floats, so no caller
converts. The text form is that of Go and Kubernetes (``1h30m``), because that is what the readers of a manifest know.
"""

import re
from typing import Final, Self

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST: Final = "720h"
TEXT_LENGTH: Final = 32
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
SHARE_PATTERN: Final = r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$"
_DURATION: Final = re.compile(DURATION_PATTERN)
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SHARE: Final = re.compile(SHARE_PATTERN)
_LONGEST: Final = 30 * 24 * 3600.0


class Duration(float):
    """Seconds, from 0 to 30 days; written like ``250ms``, ``5s``, ``1h30m``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read the text form. Raises ValueError with the rule that was broken."""
        if not isinstance(text, str) or len(text) > TEXT_LENGTH or not _DURATION.fullmatch(text):
            raise ValueError(f"expected a duration such as 250ms, 5s or 1h30m, got {text!r}")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if seconds > _LONGEST:
            raise ValueError(f"expected a duration of at most {LONGEST}, got {text!r}")
        return cls(seconds)

    def __str__(self) -> str:
        nanos = round(self * 1e9)
        if nanos == 0:
            return "0s"
        parts = []
        for unit, size in (("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)):
            count, nanos = divmod(nanos, size)
            if count:
                parts.append(f"{count}{unit}")
        if nanos:
            parts.append(f"{_decimal(nanos / 1e6)}ms")
        return "".join(parts)

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


class Share(float):
    """A share from 0 to 1; written like ``20%``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read the text form. Raises ValueError with the rule that was broken."""
        if not isinstance(text, str) or len(text) > TEXT_LENGTH or not _SHARE.fullmatch(text):
            raise ValueError(f"expected a share such as 20%, from 0% to 100%, got {text!r}")
        return cls(float(text[:-1]) / 100)

    def __str__(self) -> str:
        return f"{_decimal(self * 100)}%"

    def __repr__(self) -> str:
        return f"Share({str(self)!r})"


def _decimal(number: float) -> str:
    """Up to six decimals, without an exponent, which the text forms do not know."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
