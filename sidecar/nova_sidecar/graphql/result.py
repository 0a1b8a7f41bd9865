"""What of an answer's body decides whether it is kept.

It is not in the pipeline, which is compiled: mypyc makes no class whose base has a metaclass of its own.
"""

from typing import Final

import msgspec


class Result(msgspec.Struct):
    """An answer (spec.graphql.org/October2021/#sec-Response-Format), its parts as they came."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    errors: msgspec.Raw | None = None


_decoder: Final = msgspec.json.Decoder(Result)


def result(body: bytes) -> Result:
    """Read a body. Raises msgspec.DecodeError for one that is no answer."""
    return _decoder.decode(body)
