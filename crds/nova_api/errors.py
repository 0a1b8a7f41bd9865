"""The one error family of the API, and the translation of foreign errors into it."""

import re

import msgspec

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


class ConfigError(ValueError):
    """A document that cannot be used: ``path`` names the field (JSONPath, from ``$``), ``rule`` what it must be.

    ``str()`` gives ``$.path: rule``, which is what users see.
    """

    def __init__(self, path: str, rule: str) -> None:
        self.path = path
        self.rule = rule
        super().__init__(f"{path}: {rule}")

    def below(self, parent: str) -> "ConfigError":
        """The same error seen from further up: ``$.a`` below ``$.b`` is ``$.b.a``."""
        return ConfigError(parent + self.path[1:], self.rule)


def translate(error: msgspec.DecodeError | msgspec.ValidationError) -> ConfigError:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.a``` into ``$.a: expected int, got str``."""
    if not isinstance(error, msgspec.ValidationError):
        return ConfigError("$", f"expected a document, got malformed text ({error})")
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
    if isinstance(error.__cause__, ConfigError):  # a decoding hook knew the way further down
        return error.__cause__.below(path)
    plain = what.replace("`", "")
    return ConfigError(path, plain[:1].lower() + plain[1:])
