"""The gRPC load generator: what it sends is what it says, and what it counts has happened."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hpack import Decoder

from . import grpcload, load, proxies_grpc, tools
from .processes import running, wait_until_accepting

CORE = min(os.sched_getaffinity(0))


def block_of(head: bytes) -> bytes:
    """The header block of a HEADERS frame whose stream is not filled in."""
    assert int.from_bytes(head[:3], "big") == len(head) - 5
    return head[5:]


def test_the_same_call_is_repeated() -> None:
    first, second = (block_of(head) for head in itertools.islice(grpcload.repeated("/a.B/C"), 2))
    assert first == second
    assert dict(Decoder().decode(first, raw=True))[b":path"] == b"/a.B/C"


def test_prepared_calls_decode_in_order_and_differ(tmp_path: Path) -> None:
    grpcload.write_calls(tmp_path / "calls", "/a.B/C", connections=2, calls=100)
    seen = set()
    for heads in grpcload.read_calls(tmp_path / "calls", 2):
        decoder = Decoder()
        for head in heads:
            fields = dict(decoder.decode(block_of(head), raw=True))
            assert fields[b":path"] == b"/a.B/C"
            assert fields[b"grpc-timeout"].endswith(b"m")
            seen.add(fields[b"traceparent"])
    assert len(seen) == 200


def test_counts_answers_and_tells_wrong_ones(tmp_path: Path) -> None:
    try:
        upstream = proxies_grpc.upstream(tmp_path)
    except tools.Unavailable as reason:
        pytest.skip(str(reason))
    address = upstream.rows["direct"]
    errors = tmp_path / "stderr"
    with running(upstream.command, core=CORE, errors=errors) as process:
        wait_until_accepting(address, process, errors)
        good = load.Calls(proxies_grpc.PATH, 4, request_bytes=100, response_bytes=proxies_grpc.RESPONSE_BYTES)
        answer = load.grpc(address, good, seconds=1, connections=2, core=CORE)
        assert answer.requests > 100
        assert answer.errors == 0
        assert 0 < answer.p50_ms <= answer.p99_ms
        wrong = load.Calls("/not.There/Call", 4, request_bytes=100, response_bytes=proxies_grpc.RESPONSE_BYTES)
        answer = load.grpc(address, wrong, seconds=1, connections=2, core=CORE)
        assert answer.errors > answer.requests / 2
