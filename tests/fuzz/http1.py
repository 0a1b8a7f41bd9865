"""What the targets for requests and responses of HTTP/1.1 have in common."""

from collections.abc import Sequence
from random import Random
from typing import Any

from nova_sidecar.wire.memo import GENERATION_BYTES, Memo

from .mutate import mutated, shuffled


def broken(corpus: Sequence[bytes], rng: Random, spice: Sequence[bytes]) -> bytes:
    """A message broken in its bytes, or in the order of its lines."""
    data = rng.choice(corpus)
    if rng.random() < 0.2:
        data = b"\r\n".join(shuffled(data.split(b"\r\n"), rng))
    return mutated(data, rng, spice)


def check_bound(memo: Memo[bytes, Any]) -> None:
    """The memo of heads keeps to its bound."""
    for kept in (memo.young, memo._old):
        assert sum(map(len, kept)) <= GENERATION_BYTES
