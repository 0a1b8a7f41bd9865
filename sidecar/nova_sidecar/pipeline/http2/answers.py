"""What Nova itself answers on HTTP/2: status and code come from the one table of refusals."""

import json
from email.utils import formatdate
from math import ceil, isfinite
from typing import TYPE_CHECKING

from nova_sidecar.pipeline.refusals import REFUSALS
from nova_sidecar.policy.reasons import REJECT_HEADER, Reason, Reject
from nova_sidecar.policy.retry import PUSHBACK
from nova_sidecar.wire.http2.hpack import encode_field

if TYPE_CHECKING:
    from nova_sidecar.pipeline.http2.call import Call

_GRPC_PLAIN = encode_field(b":status", b"200") + encode_field(b"content-type", b"application/grpc")


class Answers:
    """Makes refusals. `header` names the correlation header, b"" without one."""

    __slots__ = ("_header",)

    def __init__(self, header: bytes) -> None:
        self._header = header

    def refusal(self, call: "Call", reject: Reject, why: str, extra: bytes) -> tuple[bytes, bytes, int, int]:
        """Block, body, HTTP status and gRPC code (-1 where there is none). `extra` are further fields, encoded.

        For gRPC it is trailers-only (gRPC over HTTP/2, "Responses"), for others the JSON of HTTP/1.1.
        """
        refusal = REFUSALS[reject.reason]
        if call.head.is_grpc:
            block = _GRPC_PLAIN + _status(refusal.code, why or refusal.message) + _reject(reject.reason) + extra
            if reject.retry_after is not None and isfinite(reject.retry_after):
                block += encode_field(PUSHBACK, b"%d" % ceil(reject.retry_after * 1000))
            return block, b"", 200, refusal.code
        answer = {"error": str(reject.reason), "message": why or refusal.message}
        if call.correlation:
            answer["correlationId"] = call.correlation.decode("latin-1")
        body = json.dumps(answer, separators=(",", ":")).encode()
        fields = [
            (b":status", b"%d" % refusal.status),
            (b"date", formatdate(usegmt=True).encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if reject.retry_after is not None and isfinite(reject.retry_after):
            fields.append((b"retry-after", b"%d" % max(1, ceil(reject.retry_after))))
        block = b"".join([encode_field(name, value) for name, value in fields]) + _reject(reject.reason) + extra
        return block, b"" if call.head.is_head else body, refusal.status, -1

    def ending(self, reason: Reason) -> tuple[bytes, int]:
        """Trailers for a gRPC response that cannot be finished, and their code."""
        refusal = REFUSALS[reason]
        return _status(refusal.code, refusal.message) + _reject(reason), refusal.code


def _status(code: int, message: str) -> bytes:
    """The message is percent-encoded UTF-8 (gRPC over HTTP/2, "Responses")."""
    return encode_field(b"grpc-status", b"%d" % code) + encode_field(b"grpc-message", _percent(message))


def _percent(message: str) -> bytes:
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in message.encode()
    )


def _reject(reason: Reason) -> bytes:
    return encode_field(REJECT_HEADER, reason.encode())
