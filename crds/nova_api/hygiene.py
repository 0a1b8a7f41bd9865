"""What may leave in a log line, a span or a metric: text without secrets, without personal data and without tricks.

Whoever logs is supposed to log none of them. Clients decide what a path is, though, and libraries what an exception
says; so every text of every part (operator, sidecar, services) comes through here on its way out.

What is cut out, each replaced by `REDACTED`:

* **e-mail addresses** (RFC 5322 section 3.4.1), also with ``%40`` for the ``@``;
* **numbers by which people or cards are known**: 10 to 15 digits in a row, which is what a telephone number has
  (ITU-T E.164); 9 and more with spaces, hyphens, dots or brackets in between; 8 and more after a ``+``; and 16 to 19
  that begin with 2 to 6 and end with the right check digit, as payment cards do (ISO/IEC 7812-1). UUIDs, dates,
  decimals and IP addresses are none of them;
* **tokens**: JSON Web Tokens (RFC 7519), credentials after the name of an HTTP scheme (RFC 9110 section 11.4), keys
  that begin as a known issuer's do, private keys in PEM, long segments of a path after one such as ``reset``;
* **what stands beside a telling name**: ``password=…``, ``"apiKey": "…"``, ``Cookie: …`` to the end of the line;
* user information of a URL (RFC 3986 section 3.2.1) and query strings.

What is not printable (line ends, escape sequences of terminals, marks that turn the direction of text) is written as an
escape, so that no reader that decodes JSON shows it as anything but itself. Long texts are cut, after what was found in
them: a secret that begins before the cut is found whole.

Rules: no expression here takes more than linear time, whatever a client sends; the common case, a text with nothing
in it, is decided by two translations of its bytes, in about 0.4 µs.
"""

import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

REDACTED: Final = "[redacted]"
LONGEST: Final = 4096
"""Characters of a text that are logged at most."""
LONGEST_PATH: Final = 1024
"""Characters of a path that are logged at most."""
MOST_ITEMS: Final = 64
"""Items of a list or mapping that are logged at most."""
DEEPEST: Final = 6
"""Levels of nesting that are logged at most."""
REMEMBERED: Final = 2048
"""Texts whose clean form is remembered; those over `SHORT` characters are not."""
SHORT: Final = 256
MOST_FRAMES: Final = 50
"""Of an exception, the innermost ones: what calls itself without end has thousands."""
OTHER_METHOD: Final = "_OTHER"
"""In place of a method that nobody registers; OpenTelemetry's semantic conventions for HTTP call it so."""
_MARGIN: Final = 512
"""Characters beyond the longest text that are looked at too, for what begins before the cut."""
_ROUNDS: Final = 3
"""How often a text may be percent-encoded and is still read."""

# --- the common case: nothing in it

_WORD: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
_HARMLESS: Final = b"/-.~!$'()*,"
_KINDS: Final = bytes(ord("w") if byte in _WORD else byte if byte in _HARMLESS else ord("@") for byte in range(256))
_DIGITS: Final = bytes(ord("0") if byte in b"0123456789" else ord("x") for byte in range(256))
_BETWEEN: Final = b" -.()"
_LONG_WORD: Final = b"w" * 16
_LONG_NUMBER: Final = b"0" * 9
"""One digit less makes a number only after a ``+``, which is no harmless character."""

# --- what is looked for

_EMAIL: Final = re.compile(
    r"""(?:"[^"\n]{1,64}"|(?<![^\s<>()\[\]{},;:"'\\/=&?|@])[^\s<>()\[\]{},;:"'\\/=&?|@]++)"""
    r"@(?!sha(?:256|512):)(?:\[[0-9A-Za-z:.]*\]|\w[\w.-]*)"
)
_USER_INFORMATION: Final = re.compile(
    r"://(?:[^\s/?#\"']*@|[^\s:/@\"']*:(?!\d{1,5}(?:/|$))[^\s\"']{0,256}@)"  # the second: a password with a slash in it
)
_QUERY: Final = re.compile(r"((?<=[\w/.~%-])\?)[^\s\"'?=&]+=[^\s\"']*")
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{4,}(?:\.[\w-]*)*")
_SCHEME: Final = re.compile(
    r"(\b(?:bearer|basic|digest|negotiate|token|apikey) +)(?:(?=[^\s\"',]*[\d=.])[^\s\"',]{6,}|[^\s\"',]{20,})", re.I
)
_KEY: Final = re.compile(
    r"[A-Za-z](?<![A-Za-z0-9].)(?:(?<=[spr])k[_-]\w[\w-]{14,}|(?<=w)hsec_\w{16,}|(?<=g)h[pousr]_\w{16,}"
    r"|(?<=g)ithub_pat_\w{16,}|(?<=g)l[a-z]{2,4}-[\w-]{16,}|(?<=x)ox[a-z]-[\w-]{10,}|(?<=x)app-[\w-]{10,}"
    r"|(?<=A)(?:KIA|SIA|ROA|IDA)[A-Z0-9]{12,}|(?<=A)Iza[\w-]{30,}|(?<=y)a29\.[\w-]{16,}|(?<=S)G\.[\w-]{16,}\.[\w-]{16,}"
    r"|(?<=n)pm_\w{30,}|(?<=p)ypi-[\w-]{30,}|(?<=h)f_\w{30,}|(?<=d)op_v1_\w{30,}|(?<=s)hp[a-z]{2}_\w{30,}"
    r"|(?<=s)q0[a-z]{3}-[\w-]{20,}|(?<=g)lsa_\w{30,}|(?<=h)v[sbr]\.[\w-]{20,}|(?<=L)S0tLS1CRUdJTi[\w+/=]*)"
)
"""The first letter is looked at before what stands in front of it, so that most positions cost one comparison."""
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?!-----END).)*+(?:-----END[A-Z ]*-----)?", re.S)
_SEGMENT: Final = re.compile(r"/(?=[\w.~=-]*\w{16})[\w.~=-]+")
_TELLING_SEGMENT: Final = re.compile(
    r"token|secret|passw|reset|verif|confirm|invit|magic|unsubscribe|session|api-?key|otp", re.I
)
_TELLING: Final = r"passw(?:or)?d|passphrase|\bpwd|secret|token|credential|api[-_ ]?key|private[-_]?key|session[-_]?id"
_VALUE: Final = r"""(?:\\+"[^"]*"?|"(?:\\++.|[^"\\])*"?|\\*'[^']*'?|[^\s,;&"'{}\[\]()]++)"""
_PAIR: Final = re.compile(
    rf"((?:{_TELLING})[\w-]{{0,64}}[\\\"']*\s*[=:]\s*+)(?!expected\b|\[redacted\])({_VALUE})", re.I
)
_NAMED: Final = re.compile(
    rf"(\bname[\\\"']*\s*[=:]\s*[\\\"']*[\w-]{{0,64}}?(?:{_TELLING}|_key\b)[\w-]{{0,64}}[\\\"']*\s*,\s*"
    rf"[\\\"']*value[\\\"']*\s*[=:]\s*+)({_VALUE})",
    re.I,
)
_HEADER: Final = re.compile(
    r"((?:authorization|cookie2?)[\\\"']*\s*[=:][ \t]*+)(?!expected\b)"
    r"(?:\\+\"[^\"]*\"?|\"(?:\\++.|[^\"\\])*\"?|'[^']*'?|[^\r\n]+)",
    re.I,
)
_NUMBER: Final = re.compile(r"[\d+(](?<![0-9A-Fa-f].)(?:(?<=\+)\(?\d|(?<=\()\d|)(?:[ .()-]{0,2}+\d){7,}+", re.S)
_PLAIN_NUMBER: Final = re.compile(r"[0-9(](?<![0-9A-Fa-f].)(?:(?<=\()[0-9]|)(?:[ .()-]{0,2}+[0-9]){7,}+")
"""The same in a text without a ``+`` and with ASCII characters only, twice as quick."""
_UUID: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_UUID_SEGMENT: Final = re.compile(r"/[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![^/])")
"""A segment of a path that is a UUID and nothing else; no number goes beyond a segment."""
_METHOD: Final = re.compile(r"[A-Z](?:[A-Z-]{0,22}[A-Z])?|-")
_UUID_LENGTH: Final = 36
_NO_NUMBER: Final = re.compile(
    r"(?:19|20)\d\d-\d\d-\d\d(?: \d\d?)?|\d{1,2}\.\d{5,}|\d{1,3}(?:\.\d{1,3}){3}"  # a date, a decimal, an IP address
)
_OWN: Final = ("time", "level")
_HEX_LETTERS: Final = tuple("abcdefABCDEF")
_SECRET_NAME: Final = re.compile(
    r"authorization|cookie|passw|passphrase|secret|token|credential|api[-_]?key|private[-_]?key|session[-_]?id", re.I
)


def clean(text: str, longest: int = LONGEST) -> str:
    """A text that may be logged: see the module. At most `longest` characters, and then a ``…``."""
    if len(text) <= longest and not _may_tell(text):
        return text
    return _cut(visible(_cleaned(text[: longest + _MARGIN])), longest)


def tells(text: str) -> bool:
    """Whether there is in a text what may not be logged, for who would rather refuse it than log it cut."""
    return _may_tell(text) and _cleaned(text) != text


def spotless(paths: list[str]) -> bool:
    """Whether each of these can be logged as it is. All are looked at as one text, which takes a fifth of what one
    after the other does, and then, without UUIDs, those alone that have many digits."""
    joined = "/".join(paths)
    if not joined.isascii():
        return False
    data = joined.encode("ascii")
    kinds = data.translate(_KINDS)
    if b"@" in kinds or (len(joined) > LONGEST_PATH and max(map(len, paths)) > LONGEST_PATH):
        return False
    if _LONG_WORD in kinds:
        return not tells("/".join([path for path in paths if _may_tell(path)]))
    if _LONG_NUMBER not in data.translate(_DIGITS, _BETWEEN):
        return True
    rest = _UUID_SEGMENT.sub("/", joined).encode("ascii")
    if _LONG_NUMBER not in rest.translate(_DIGITS, _BETWEEN):
        return True
    many = [path for path in paths if _LONG_NUMBER in path.encode("ascii").translate(_DIGITS, _BETWEEN)]
    return not tells("/".join(many))


def clean_value(value: Any, depth: int = DEEPEST) -> Any:
    """A value that may be logged; containers are copied and bounded, numbers pass."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth <= 0:
            return REDACTED
        return _clean_mapping(value, depth) if isinstance(value, Mapping) else _clean_items(value, depth)
    return value if value is None or isinstance(value, bool | int | float) else clean(str(value))


def clean_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a log line's fields that may be written: what stands under a telling name is replaced whole. `time` and
    `level` are the line's own and stay."""
    found = _clean_mapping({name: value for name, value in event.items() if name not in _OWN}, DEEPEST)
    return {name: event[name] for name in _OWN if name in event} | found


def error_fields(error: BaseException) -> dict[str, Any]:
    """An exception as fields of a line. Frames only: values of variables could hold anything."""
    frames = traceback.extract_tb(error.__traceback__, -MOST_FRAMES)
    return {
        "error": f"{type(error).__name__}: {error}",
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def visible(text: str) -> str:
    """A text in which everything can be seen: what is not printable stands there as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def clean_path(path: str) -> str:
    """A path that may be logged."""
    return clean(path, LONGEST_PATH)


def clean_method(method: str) -> str:
    """A method that may be logged: capitals and hyphens, as all registered ones are (RFC 9110 section 16.1), else
    ``_OTHER``, since a client may choose any token."""
    return method if _METHOD.fullmatch(method) else OTHER_METHOD


class Cleaned(dict[str, str]):
    """The clean form of texts that come again and again: ``cleaned[text]``, 0.04 µs for what is known.

    `form` brings one into it. Bounded: it begins anew when it is full, and what is long is looked at each time.
    """

    __slots__ = ("_form",)

    def __init__(self, form: Callable[[str], str]) -> None:
        super().__init__()
        self._form = form

    def __missing__(self, text: str) -> str:
        """Look at it, and remember."""
        found = self._form(text)
        if len(text) <= SHORT:
            if len(self) >= REMEMBERED:
                self.clear()
            self[text] = found
        return found


def _may_tell(text: str) -> bool:
    """False where there is surely nothing in it; quick, since that is the case nearly always."""
    if not text.isascii():
        return True
    data = text.encode("ascii")
    kinds = data.translate(_KINDS)
    return b"@" in kinds or _LONG_WORD in kinds or _LONG_NUMBER in data.translate(_DIGITS, _BETWEEN)


def _cleaned(text: str) -> str:
    """Without secrets; percent-encoded text is decoded where there is one in it."""
    kinds = text.encode("utf-8", "replace").translate(_KINDS)
    if b"@" not in kinds and _LONG_WORD not in kinds:
        return _PLAIN_NUMBER.sub(_number, text)  # nothing else can be there; UUIDs come here
    found = _cleaned_plain(text)
    decoded = text
    for _ in range(_ROUNDS):
        if "%" not in decoded or (plain := unquote(decoded)) == decoded:
            break
        decoded = plain
        if (candidate := _cleaned_plain(decoded)) != decoded:
            found = candidate
    return found


def _cleaned_plain(text: str) -> str:
    """Each kind is looked for only where there is what it cannot do without."""
    if "://" in text:
        text = _USER_INFORMATION.sub(f"://{REDACTED}@", text)
    if "=" in text or ":" in text:
        text = _PEM.sub(REDACTED, text)
        text = _HEADER.sub(_keep_name, text)
        text = _NAMED.sub(_keep_name, text)
        text = _PAIR.sub(_keep_name, text)
    if " " in text:
        text = _SCHEME.sub(_keep_name, _PEM.sub(REDACTED, text))
    if "?" in text:
        text = _QUERY.sub(_keep_name, text)
    if "@" in text:
        text = _EMAIL.sub(REDACTED, text)
    data = text.encode("utf-8", "replace")
    if _LONG_WORD in data.translate(_KINDS):
        text = _KEY.sub(REDACTED, _SEGMENT.sub(_segment, text))
    if "eyJ" in text:
        text = _TOKEN.sub(REDACTED, text)
    return _NUMBER.sub(_number, text)


def _keep_name(match: re.Match[str]) -> str:
    return f"{match[1]}{REDACTED}"


def _segment(match: re.Match[str]) -> str:
    """What stays of a long segment of a path."""
    text, start = match.string, match.start()
    before = text[text.rfind("/", 0, start) + 1 : start]
    telling = _TELLING_SEGMENT.search(before, max(0, len(before) - 64)) and any(map(str.isdigit, match[0]))
    return f"/{REDACTED}" if telling else match[0]


def _number(match: re.Match[str]) -> str:
    """What stays of digits, with what is between them."""
    found = match[0]
    if _NO_NUMBER.fullmatch(found) or _in_uuid(match):
        return found
    digits = [int(each) for each in found if each.isdigit()]
    if found[0] == "+":
        secret = True
    elif len(digits) < len(found):
        secret = len(digits) >= 9
    elif match.string[match.end() : match.end() + 1] in _HEX_LETTERS:
        secret = False  # the beginning of a hexadecimal number
    else:
        secret = 10 <= len(digits) <= 15 or (16 <= len(digits) <= 19 and 2 <= digits[0] <= 6 and _luhn(digits))
    return REDACTED if secret else found


def _in_uuid(match: re.Match[str]) -> bool:
    """Whether these digits are a part of a UUID, whole groups of it."""
    start, end = match.span()
    around = _UUID.finditer(match.string, max(0, start - _UUID_LENGTH), end + _UUID_LENGTH)
    return any(uuid.start() <= start and end <= uuid.end() for uuid in around)


def _luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = sum(digits[-1::-2])
    for digit in digits[-2::-2]:
        total += digit * 2 - (9 if digit > 4 else 0)
    return total % 10 == 0


def _clean_mapping(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if len(found) == MOST_ITEMS:
            break
        key = clean(str(name), SHORT)
        found[key] = REDACTED if _SECRET_NAME.search(key) else clean_value(value, depth - 1)
    return found


def _clean_items(values: Iterable[Any], depth: int) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if len(found) == MOST_ITEMS:
            break
        found.append(clean_value(value, depth - 1))
    return found


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _escaped(character: str) -> str:
    """As in a Python literal: ``\\n``, ``\\x1b``, ``\\u2028``."""
    return character.encode("unicode_escape").decode("ascii")
