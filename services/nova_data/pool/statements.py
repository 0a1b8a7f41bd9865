"""A statement as it may stand in a log: without values, without comments, on one line, cut.

A slow statement must be told, and its text may hold what customers entrusted: a name in a literal, an e-mail address in
a comment. What is a value for PostgreSQL becomes ``?``, so that statements which differ in values alone are the same
text, too. Read by the server's lexical rules (https://www.postgresql.org/docs/current/sql-syntax-lexical.html):

* strings ``'…'`` with ``''`` for a quote, ``E'…'`` with backslashes, ``B'…'``, ``X'…'``, ``N'…'``, ``U&'…'``, and
  ``$tag$…$tag$``; one that does not end takes the rest of the text with it;
* numbers, but not ``$1`` and not those within names;
* comments to the end of the line, and ``/* … */``, which nest;
* ``"names"`` in quotes stay, and so do words.

A list of values counts as one: ``IN (?, ?, ?)`` is written ``IN (?)``, and so are the rows of an INSERT. What
nevertheless looks like personal data (in a quoted name, say) is cut out by `nova_api.hygiene`.
"""

import re
from typing import Final

from nova_api.hygiene import clean

LONGEST: Final = 400
"""Characters of a statement that are kept."""
_LOOKED_AT: Final = 16 * 1024
"""Characters that are read at most; a longer text is an INSERT of many rows."""
_TOKEN: Final = re.compile(
    r"""(?P<comment>--[^\n]*)
      | (?P<block>/\*)
      | (?P<name>"(?:[^"]|"")*+(?:"|\Z))
      | (?P<value>
            \b[eE]'(?:[^'\\]|\\.|'')*+(?:'|\\?\Z)
          | (?:\b(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*+(?:'|\Z)
          | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$(?:.*?\$(?P=tag)\$|.*\Z)
          | (?<![\w$.])(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+)
          | (?<![\w$])(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?
        )
      | (?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)
_NESTING: Final = re.compile(r"/\*|\*/")
_LIST: Final = re.compile(r"\(\s*(?:\?|\$\d+)(?:\s*,\s*(?:\?|\$\d+|NULL|DEFAULT))+\s*\)", re.IGNORECASE)
_ROWS: Final = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")


def normalised(text: str, longest: int = LONGEST) -> str:
    """The text without values; at most `longest` characters, and then a ``…``. Linear in its length."""
    parts: list[str] = []
    position, text = 0, text[:_LOOKED_AT]
    while (found := _TOKEN.search(text, position)) is not None:
        parts.append(text[position : found.start()])
        position = found.end()
        if found.lastgroup == "block":
            position = _comment_end(text, position)
            parts.append(" ")
        else:
            parts.append(_replacement(found))
    parts.append(text[position:])
    line = " ".join("".join(parts).split())
    return clean(_ROWS.sub("(?)", _LIST.sub("(?)", line)), longest)


def _replacement(token: re.Match[str]) -> str:
    if token["name"] is not None:
        return token["name"]
    return "?" if token["value"] is not None else " "


def _comment_end(text: str, position: int) -> int:
    depth = 1
    for mark in _NESTING.finditer(text, position):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)
