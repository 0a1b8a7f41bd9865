"""What the bytes of HTTP/2 cost, in nanoseconds of processor time. Prints, asserts nothing:
``python tests/unit/wire_http2/cost.py``. Neighbours on the machine make the figures larger, never smaller."""

import time
import timeit
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import hpack as oracle

from nova_sidecar.policy.flood import FloodGuard
from nova_sidecar.wire.http2 import frames, hpack, huffman
from nova_sidecar.wire.http2.heads import RequestReader, ResponseReader
from nova_sidecar.wire.http2.hpack import Decoder

ROUNDS = 25
CALL = [
    (":method", "POST"), (":scheme", "http"), (":path", "/helloworld.Greeter/SayHello"), (":authority", "greeter:80"),
    ("content-type", "application/grpc"), ("user-agent", "grpc-go/1.60.1"), ("te", "trailers"), ("x-tenant", "blue"),
    ("grpc-accept-encoding", "gzip"),
]  # fmt: skip
RNG = Random(1)


def traceparent() -> str:
    return f"00-{RNG.getrandbits(128):032x}-{RNG.getrandbits(64):016x}-01"


def traced(encoder: oracle.Encoder) -> bytes:
    return encoder.encode([*CALL, ("grpc-timeout", f"{RNG.randrange(10**8)}u"), ("traceparent", traceparent())])


def each(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Per item, where every item can be worked on only once: the best of some shares."""
    share = len(items) // ROUNDS
    best = float("inf")
    for start in range(0, share * ROUNDS, share):
        part = items[start : start + share]
        begun = time.process_time_ns()
        for item in part:
            work(item)
        best = min(best, (time.process_time_ns() - begun) / share)
    return best


def again(work: Callable[[], object], number: int = 20_000) -> float:
    return min(timeit.repeat(work, number=number, repeat=ROUNDS, timer=time.process_time)) / number * 1e9


def main() -> None:
    encoder, decoder = oracle.Encoder(), Decoder()
    blocks = [traced(encoder) for _ in range(6000)]
    calls = [decoder.decode(block) for block in blocks[:1000]]
    show("decode: two of eleven fields are new", each(decoder.decode, blocks[1000:]))
    plain, plain_encoder = Decoder(), oracle.Encoder()
    plain.decode(plain_encoder.encode(CALL))
    block = plain_encoder.encode(CALL)
    usual = plain.decode(block)
    show("decode: known block", again(lambda: plain.decode(block)))
    strings = [_coder().encode(traceparent().encode()) for _ in range(6000)]
    show("huffman: a new traceparent", each(huffman.decode_new, strings))
    reader = RequestReader(capture=frozenset((b"correlation-id", b"grpc-timeout")))
    for _ in range(3):
        reader.read(usual)
    show("head: known fields", again(lambda: reader.read(usual)))
    show("head: two of eleven fields its own", each(reader.read, calls[500:]))
    others = [(*usual[:2], (b":path", b"/%d" % number), *usual[3:]) for number in range(6000)]
    show("head: new path", each(reader.read, others))
    responses, trailers = ResponseReader(drop=frozenset()), ((b"grpc-status", b"0"), (b"grpc-message", b""))
    for _ in range(3):
        responses.trailers(trailers)
    show("trailers: known", again(lambda: responses.trailers(trailers)))
    show("encode: one literal", again(lambda: hpack.literal(b"traceparent", b"x" * 55)))
    connection = frames.FrameReader()
    list(connection.feed(frames.settings({})))
    one = frames.headers(1, block, end=False) + frames.data(1, b"x" * 100, end=True)
    show("frame, of two in a chunk", again(lambda: list(connection.feed(one))) / 2)
    show("frame, of 32 in a chunk", again(lambda: list(connection.feed(one * 16)), 2000) / 32)
    guard = FloodGuard()
    show("flood guard: one rare frame", again(lambda: guard.admit(0.0, 1.0)))


def _coder() -> Any:
    constants = oracle.huffman_constants
    return oracle.huffman.HuffmanEncoder(constants.REQUEST_CODES, constants.REQUEST_CODES_LENGTH)


def show(what: str, nanoseconds: float) -> None:
    print(f"{nanoseconds:8.0f} ns  {what}")


if __name__ == "__main__":
    main()
