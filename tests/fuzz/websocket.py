"""One direction of a WebSocket: frames, messages and the close frame, by their heads alone."""

from random import Random

from wsproto.frame_protocol import CloseReason, FrameProtocol, ParseFailed

from nova_sidecar.wire.websocket import FrameTracker, Stop

from .mutate import mutated, pieces, shuffled

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_HEADS = [b"\x00", b"\x01", b"\x02", b"\x7e", b"\x7f", b"\x80", b"\x81", b"\x82", b"\x88", b"\x89", b"\xfe", b"\xff"]
_SPICE = [*_HEADS, b"\x88\x80mask", b"\x89\x80mask", b"\x82\xfe\x00\x7dmask", b"\x82\xff" + bytes(8), b"\x88\x82maskmk"]
_EXTENSION = ("eserved", "RSV", "close code", "CLOSE")
"""What wsproto refuses and a tracker may not: bits of an extension, text that is none, codes it does not know."""
_STATES = ("lost", "closing", "between_frames", "between_messages", "ended")


class WebSocket:
    """The target: what a client sends."""

    name = "websocket"
    about = "the frame tracker of WebSockets; wsproto gives up where it loses the track"
    verdicts = ("followed", "lost", "closed")

    def make(self, rng: Random) -> bytes:
        """Frames that may be out of order, some with broken heads, some with broken bytes."""
        parts = []
        for _ in range(rng.randrange(1, 6)):
            opcode = rng.choice([BINARY, BINARY, 0, PING, PONG, CLOSE])
            size = rng.choice([0, 2, 5, 125, 126, 200, 66_000 if rng.random() < 0.1 else 3])
            final = opcode > BINARY or rng.random() < 0.7
            parts.append(_frame(opcode, size, final=final))
        if rng.random() < 0.3:
            parts = shuffled(parts, rng)
        if rng.random() < 0.5 and parts:
            at = rng.randrange(len(parts))
            head = bytearray(parts[at])
            index, bit = rng.choice([(0, rng.randrange(8)), (0, rng.randrange(8)), (1, 7)])
            head[index] ^= 1 << bit
            parts[at] = bytes(head)
        data = b"".join(parts)
        return data if rng.random() < 0.6 else mutated(data, rng, _SPICE)

    def check(self, data: bytes, rng: Random) -> str:
        """Whole, in pieces, with stops on the way, and by wsproto."""
        whole = FrameTracker(masked=True)
        assert whole.feed(data) == len(data)
        cut = FrameTracker(masked=True)
        for piece in pieces(data, rng):
            assert cut.feed(piece) == len(piece)
            assert len(cut._head) < 14, "more is kept than a frame's head"
        assert _state(cut) == _state(whole), "cuts matter"
        for stop in Stop:
            _stopping(data, stop, whole, rng)
        broken, closed = _opinion(data)
        if broken is not None:
            early = broken and whole._head  # wsproto judges a length before it has all of it
            assert early or whole.lost == broken, "wsproto judges otherwise"
            assert whole.closing or not closed, "wsproto sees a close frame"
        return "lost" if whole.lost else "closed" if whole.closing else "followed"


def _frame(opcode: int, size: int, *, final: bool) -> bytes:
    """A client's frame, whose payload looks like close frames."""
    head = bytes((opcode | (0x80 if final else 0),))
    if size < 126:
        head += bytes((0x80 | size,))
    else:
        head += b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b"\xff" + size.to_bytes(8)
    return head + b"mask" + b"\x88" * size


def _state(tracker: FrameTracker) -> list[bool]:
    return [getattr(tracker, name) for name in _STATES]


def _stopping(data: bytes, stop: Stop, whole: FrameTracker, rng: Random) -> None:
    """Who stops and goes on ends where one ends who did not stop; at each stop what it is for is true."""
    tracker = FrameTracker(masked=True)
    for piece in pieces(data, rng):
        at = 0
        while at < len(piece):
            taken = tracker.feed(piece[at:], stop)
            assert 0 <= taken <= len(piece) - at
            at += taken
            if at == len(piece):
                break
            if stop is Stop.MESSAGE_END:
                assert tracker.between_messages or tracker.ended, "it stopped within a message"
                assert taken, "it does not go on"
            else:
                assert piece[at] & 15 == CLOSE, "it stopped before something else"
                assert tracker.between_frames
                at += tracker.feed(piece[at:])  # lets it pass, with all that follows
    assert _state(tracker) == _state(whole), "stops matter"


def _opinion(data: bytes) -> tuple[bool | None, bool]:
    """Whether wsproto finds a breach (None: one that is no business of a tracker, or a frame that is not whole, which
    wsproto does not judge), and whether a close frame came."""
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data)
    try:
        for frame in protocol.received_frames():
            if frame.opcode == CLOSE:
                return False, True
    except ParseFailed as error:
        foreign = error.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA or any(word in str(error) for word in _EXTENSION)
        return (None if foreign else True), False
    whole = FrameTracker(masked=True)
    whole.feed(data)
    return (None if whole.lost else False), False
