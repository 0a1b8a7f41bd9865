"""The one error family of the API, and the translation of foreign errors into it."""

import re
from typing import Any

import msgspec

from nova_api.choices import choices
from nova_api.patterns import WORDS

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?(?P<path>.*)`)?$", re.DOTALL)

_WRONG_CHOICE = "Invalid enum value "
_WRONG_FORM = "Expected `str` matching regex "
_IN_WORDS = {f"{_WRONG_FORM}{form!r}": words for form, words in WORDS.items()}
_YAML_BOOL = " (YAML reads off, on, no and yes as booleans: write them in quotes)"


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


def translate(error: msgspec.DecodeError | msgspec.ValidationError, hint: Any = Any) -> ConfigError:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.a``` into ``$.a: expected int, got str``.

    `hint` is the type that was decoded; with it the message names the values that an enumeration allows.
    """
    if not isinstance(error, msgspec.ValidationError):
        return ConfigError("$", f"expected a document, got malformed text ({error})")
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
    if isinstance(error.__cause__, ConfigError):  # a decoding hook knew the way further down
        return error.__cause__.below(path)
    if what.startswith(_WRONG_CHOICE) and (allowed := choices(hint, path)):
        return ConfigError(path, f"expected one of {', '.join(allowed)}, got {what.removeprefix(_WRONG_CHOICE)}")
    if what in _IN_WORDS:
        return ConfigError(path, f"expected {_IN_WORDS[what]}")
    plain = what.replace("`", "").replace(" | null", "")  # a null is a field left out, no answer to "expected"
    if match is not None and match["key"]:  # YAML alone has such keys: numbers, dates, booleans
        return ConfigError(path, plain[:1].lower() + plain[1:] + " as a key; write it in quotes")
    return ConfigError(path, plain[:1].lower() + plain[1:] + (_YAML_BOOL if plain == "Expected str, got bool" else ""))
