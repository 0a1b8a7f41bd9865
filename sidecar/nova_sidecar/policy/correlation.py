"""One id per request, taken over from the caller or made here.

An id goes into headers, log lines, spans and events, so one from outside is taken over only if it can do no harm in
any of them: 1 to 128 characters from letters, digits and ``-._~:/+=``. That covers UUIDs, ULIDs, base64 and W3C trace
ids; it leaves out what ends a header or a log field, and e-mail addresses. Nor is one taken over that looks like a
token, a telephone or a card number (`nova_api.hygiene`): an id stands in every log line on its way, so it cannot be cut
out there without losing the request.

Making one must not cost a system call per request: random bytes come in batches, and a whole batch is brought into
the text form of a version 4 UUID (RFC 9562 section 5.4) column by column: 0.25 µs an id, where ``str(uuid.uuid4())``
takes 2.5 µs. Taking one over costs 0.3 µs where it is a UUID or a trace id, about 1 µs otherwise.
"""

from collections.abc import Callable
from typing import Final

from nova_api.hygiene import tells

LONGEST: Final = 128
_SAFE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/+="

_HEXADECIMAL: Final = b"0123456789abcdefABCDEF"
_HYPHENS: Final = b"----"
_TRACE_ID: Final = 32

_BATCH: Final = 128
_TEMPLATE: Final = b"xxxxxxxx-xxxx-4xxx-Vxxx-xxxxxxxxxxxx"
_LENGTH: Final = len(_TEMPLATE)
_DIGITS: Final = 32
_COLUMNS: Final = tuple(
    (column, digit)
    for digit, column in enumerate(i for i, c in enumerate(_TEMPLATE) if c != ord("-"))
    if _TEMPLATE[column] == ord("x")
)
_VARIANT_COLUMN: Final = _TEMPLATE.index(b"V")
_VARIANT_DIGIT: Final = 16
_VARIANT: Final = bytes.maketrans(b"0123456789abcdef", b"89ab89ab89ab89ab")


def acceptable(value: bytes) -> bool:
    """Whether an id from outside may be taken over."""
    length = len(value)
    if length in (_LENGTH, _TRACE_ID):  # what nearly all are: quick, and nothing in it to be looked for
        rest = value.translate(None, _HEXADECIMAL)
        if (length == _TRACE_ID and not rest) or (rest == _HYPHENS and value[8:24:5] == _HYPHENS):
            return True
    return 0 < length <= LONGEST and not value.translate(None, _SAFE) and not tells(value.decode("ascii"))


class CorrelationIds:
    """Takes over or makes ids; `entropy(n)` returns n random bytes (`os.urandom` in production)."""

    __slots__ = ("_batch", "_entropy", "generated", "replaced")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._batch: list[bytes] = []
        self.generated = 0
        """Ids made here, the replaced ones included."""
        self.replaced = 0
        """Ids from outside that were not acceptable."""

    def adopt(self, value: bytes | None) -> bytes:
        """The caller's id where there is an acceptable one, else a new one."""
        if value is None:
            return self.generate()
        if acceptable(value):
            return value
        self.replaced += 1
        return self.generate()

    def generate(self) -> bytes:
        """A new id: a random UUID in lower case, 36 characters."""
        self.generated += 1
        if not self._batch:
            self._batch = _make_batch(self._entropy(_BATCH * _DIGITS // 2))
        return self._batch.pop()


def _make_batch(random: bytes) -> list[bytes]:
    digits = random.hex().encode()
    text = bytearray(_TEMPLATE * _BATCH)
    for column, digit in _COLUMNS:
        text[column::_LENGTH] = digits[digit::_DIGITS]
    text[_VARIANT_COLUMN::_LENGTH] = digits[_VARIANT_DIGIT::_DIGITS].translate(_VARIANT)
    made = bytes(text)
    return [made[start : start + _LENGTH] for start in range(0, len(made), _LENGTH)]
