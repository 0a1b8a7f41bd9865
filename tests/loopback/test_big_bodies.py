"""Bodies far larger than the sidecar's memory, both ways, byte for byte."""

import hashlib
import threading

import pytest

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import Sidecar, document, inbound

SIZE = 256 << 20
PIECE = bytes(range(256)) * 4096  # 1 MiB
RSS_GROWTH = 24 << 20


def send_all(peer: Peer, *, chunks: bool) -> None:
    for _ in range(SIZE // len(PIECE)):
        if chunks:
            peer.send(b"%x\r\n" % len(PIECE))
        peer.send(PIECE + (b"\r\n" if chunks else b""))
    if chunks:
        peer.send(b"0\r\n\r\n")


def read_all(peer: Peer, sidecar: Sidecar, *, chunks: bool) -> tuple[str, int, int]:
    """Hash of the body, its length and the largest resident memory that the sidecar had meanwhile."""
    seen, total, peak = hashlib.sha256(), 0, 0
    source = peer.socket.makefile("rb", buffering=1 << 20)
    for piece in _pieces(peer.unread, source, chunks=chunks):
        seen.update(piece)
        total += len(piece)
        if total % (16 << 20) < len(piece):
            peak = max(peak, sidecar.rss)
    return seen.hexdigest(), total, peak


def _pieces(first: bytes, source, *, chunks: bool):
    left = SIZE
    if not chunks:
        while left:
            data, first = (first, b"") if first else (source.read1(min(left, 1 << 20)), b"")
            assert data, f"ended {left} bytes early"
            left -= len(data)
            yield data
        return

    def line() -> bytes:
        nonlocal first
        while b"\r\n" not in first:
            data = source.read1(1 << 16)
            assert data, "ended early"
            first += data
        text, first = first.split(b"\r\n", 1)
        return text

    while size := int(line(), 16):
        data, first = first[:size], first[size:]
        size -= len(data)
        yield data
        while size:
            data = source.read1(min(size, 1 << 20))
            assert data, "ended early"
            size -= len(data)
            yield data
        assert line() == b""


@pytest.mark.timeout(90)
@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("way", ["upload", "download"])
def test_a_quarter_of_a_gigabyte(start: StartSidecar, listener: Listener, way: str, *, chunks: bool) -> None:
    sidecar = start(document(inbound(listener.address)))
    framing = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {SIZE}"
    expected = hashlib.sha256()
    for _ in range(SIZE // len(PIECE)):
        expected.update(PIECE)
    with sidecar.connect() as client:
        client.send(request("POST" if way == "upload" else "GET", "/", *([framing] if way == "upload" else [])))
        app = listener.accept()
        app.head()
        before = sidecar.rss
        if way == "download":
            app.send(response("200 OK", framing, body=None))
            client.head()
        source, sink = (client, app) if way == "upload" else (app, client)
        for peer in (source, sink):
            peer.socket.settimeout(30)
        writer = threading.Thread(target=send_all, args=(source,), kwargs={"chunks": chunks})
        writer.start()

        digest, total, peak = read_all(sink, sidecar, chunks=chunks)

        writer.join()
        assert total == SIZE
        assert digest == expected.hexdigest()
        assert peak - before < RSS_GROWTH
        if way == "upload":
            app.send(response(body=b"got it"))
            assert client.response().body == b"got it"
