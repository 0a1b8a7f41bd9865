"""Accidents that happen to bytes: small ones, since large ones are refused at the first byte and tell nothing."""

from collections.abc import Sequence
from random import Random

_ACCIDENTS = ("insert", "insert", "replace", "delete", "repeat", "flip", "case")


def mutated(data: bytes, rng: Random, spice: Sequence[bytes], *, start: int = 0) -> bytes:
    """The data with one to three small accidents behind `start`; `spice` are bytes that mean something there."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(min(start, len(data)), len(data) + 1)
        end = min(len(data), at + rng.choice([1, 1, 2, 5, 20]))
        accident = rng.choice(_ACCIDENTS)
        if accident == "insert":
            data = data[:at] + rng.choice(spice) + data[at:]
        elif accident == "replace":
            data = data[:at] + rng.choice(spice) + data[end:]
        elif accident == "delete":
            data = data[:at] + data[end:]
        elif accident == "repeat":
            data = data[:end] + data[at:]
        elif accident == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif accident == "case":
            data = data[:at] + data[at:end].swapcase() + data[end:]
    return data


def shuffled(parts: Sequence[bytes], rng: Random) -> list[bytes]:
    """The parts of a message (frames, chunks, field lines) with one of them lost, doubled, moved or put elsewhere."""
    parts = list(parts)
    if not parts:
        return parts
    at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    accident = rng.choice(["lose", "double", "swap", "move"])
    if accident == "lose":
        del parts[at]
    elif accident == "double":
        parts.insert(other, parts[at])
    elif accident == "swap":
        parts[at], parts[other] = parts[other], parts[at]
    else:
        parts.insert(other, parts.pop(at))
    return parts


def pieces(data: bytes, rng: Random) -> list[bytes]:
    """The data as a socket might give it: whole, byte by byte, or cut in some places."""
    kind = rng.randrange(4)
    if kind == 0:
        return [data[at : at + 1] for at in range(len(data))] if len(data) < 2_000 else [data]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(kind))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
