"""Answers in place of an upstream that has failed for good: see `policy.fallback`.

Off means not there: a port without the policy makes plain exchanges. With it exchanges are of a class of their own,
which looks at good responses as they pass and steps in where an exchange would be refused, or pass on a 5xx.

Only GET and HEAD are answered. That an order was placed is nothing to make up.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from nova_api.policies import FallbackPolicy
from nova_sidecar.pipeline.exchange import Exchange
from nova_sidecar.pipeline.state import RESPONDING
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.fallback import FALLBACK, Kept, KeptResponses, Kind
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.wire.keeping import Keepable, Question, keepable, question, varies
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.request import RequestHead
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Port
    from nova_sidecar.transport.downstream import DownstreamConnection

COVERED: Final = frozenset((
    Reason.CIRCUIT_OPEN, Reason.POOL_EXHAUSTED, Reason.NO_ENDPOINT, Reason.CONNECT_FAILURE, Reason.UPSTREAM_RESET,
    Reason.BAD_RESPONSE, Reason.RESPONSE_HEAD_TOO_LARGE, Reason.ATTEMPT_TIMEOUT, Reason.DEADLINE_EXCEEDED,
))  # fmt: skip
"""Refusals that speak of the upstream; the caller's own faults and the sidecar's are answered as they are."""

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_BODILESS: Final = (204, 205, 304)


class Fallback:
    """The fallback of one upstream: what is kept, and what is answered. `tenant` names the field of the tenant."""

    __slots__ = ("_answers", "_policy", "_questions", "_static", "_stats", "_tenant", "kept")

    def __init__(self, policy: FallbackPolicy, stats: PortStats, tenant: bytes) -> None:
        self._stats = stats
        self.kept: KeptResponses[Question] = KeptResponses(policy.max_bytes)
        self.configure(policy, tenant)

    def configure(self, policy: FallbackPolicy, tenant: bytes) -> None:
        """Take over a new policy; what is kept stays, as far as it fits."""
        self._policy = policy
        self._tenant = tenant
        self._static = _static(policy) if policy.body else None
        self._questions: Memo[bytes, tuple[Question | None]] = Memo()
        self._answers: Memo[bytes, tuple[Keepable | None]] = Memo()
        self.kept.configure(policy.max_bytes if policy.stale_for > 0 else 0)

    # --- keeping

    def wanted(self, request: RequestHead, response: ResponseHead) -> tuple[Question, Keepable] | None:
        """What to keep this response as, if it is one to keep and not too large."""
        largest = self.kept.largest
        if not largest or response.status != 200 or request.is_head or response.length > largest:
            return None
        asked = self._question(request)
        if asked is None:
            return None
        found = self._answers.get(response.forward)
        if found is None:
            found = (keepable(response),)
            self._answers.offer(response.forward, found)
        return (asked, found[0]) if found[0] is not None else None

    def keep(self, request: RequestHead, wanted: tuple[Question, Keepable], body: bytes, now: float) -> None:
        """Keep a whole response."""
        asked, what = wanted
        values = varies(request, what.vary) if what.vary else ()
        size = sum(map(len, asked)) + sum(len(name) + len(value or b"") for name, value in values)
        self.kept.keep(asked, Kept(what.head, body, now, what.age, values, asked=size))

    def _question(self, request: RequestHead) -> Question | None:
        if request.length:  # of a body in chunks nothing is in `forward`, by which questions are remembered
            return None
        found = self._questions.get(request.forward)
        if found is None:
            found = (question(request, self._tenant),)
            self._questions.offer(request.forward, found)
        return found[0]

    # --- answering

    def answer(self, request: RequestHead, now: float) -> tuple[int, bytes, bytes] | None:
        """Status, head and body of what stands in for the upstream's answer, counted; None when nothing does."""
        if request.method not in (b"GET", b"HEAD"):
            return None
        found = self._stale(request, now)
        if found is not None:
            kind, answer = Kind.STALE, found
        elif self._static is not None:
            kind, answer = Kind.STATIC, _dated(self._static)
        else:
            return None
        if self._policy.mode == "Shadow":
            self._stats.shadow_fallbacks[kind] += 1
            return None
        self._stats.fallbacks[kind] += 1
        return answer

    def _stale(self, request: RequestHead, now: float) -> tuple[int, bytes, bytes] | None:
        asked = self._question(request)
        found = self.kept.find(asked, now, float(self._policy.stale_for)) if asked is not None else None
        if found is None or found.varies != varies(request, tuple(name for name, _ in found.varies)):
            return None
        age = found.age + int(now - found.at)
        head = b"%bcontent-length: %d\r\nage: %d\r\n%b: stale\r\n" % (found.head, len(found.body), age, FALLBACK)
        return 200, head, found.body

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {"mode": self._policy.mode, "keptResponses": len(self.kept), "keptBytes": self.kept.bytes}


NOTHING: Final = {"mode": "Off", "keptResponses": 0, "keptBytes": 0}
"""The snapshot of a fallback that is not there."""


class FallbackExchange(Exchange):
    """An exchange with a fallback."""

    __slots__ = ("_fallback", "_held", "_pieces", "_wanted")

    def __init__(self, port: "Port", downstream: "DownstreamConnection", head: RequestHead, now: float) -> None:
        super().__init__(port, downstream, head, now)
        assert port.fallback is not None  # noqa: S101 - ports without one make plain exchanges
        self._fallback = port.fallback  # a reload may take it from the port
        self._wanted: tuple[Question, Keepable] | None = None
        self._pieces: list[bytes] = []
        self._held = 0

    # --- good responses

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """Pass it on, and keep it."""
        wanted = self._fallback.wanted(self.head, head)
        if wanted is not None:
            self._fallback.keep(self.head, wanted, body, self.port.clock())
        super().on_response(head, body)

    def on_response_head(self, head: ResponseHead) -> None:
        """Pass it on, and begin to keep what follows."""
        super().on_response_head(head)
        if self.state is RESPONDING:
            self._wanted = self._fallback.wanted(self.head, head)

    def on_response_body(self, data: bytes) -> None:
        """Pass it on, and keep it while there is room."""
        super().on_response_body(data)
        if self._wanted is not None:
            kept = self._fallback.kept
            self._held += len(data)
            self._pieces.append(data)
            kept.hold(len(data))
            if self._held > kept.largest or kept.full:
                self._let_go()

    def on_response_end(self, trailers: bytes) -> None:
        """Pass the end on; now it is good to keep."""
        wanted, pieces = self._wanted, self._pieces
        if wanted is not None:
            self._let_go()
            self._fallback.keep(self.head, wanted, b"".join(pieces), self.port.clock())
        super().on_response_end(trailers)

    def _let_go(self) -> None:
        self._wanted = None
        self._pieces = []
        self._fallback.kept.let_go(self._held)
        self._held = 0

    def _complete(self, now: float) -> None:
        if self._held:
            self._let_go()
        super()._complete(now)

    # --- failures

    def _retry_status(self, head: ResponseHead, now: float) -> bytes | None:
        mark = super()._retry_status(head, now)
        answer = self._fallback.answer(self.head, now) if mark is not None else None
        if answer is None:
            return mark
        self._drop_response(head, now)
        self._stand_in(answer, Reason.UPSTREAM_ERROR)
        return None

    def refuse(self, reject: Reject, why: str = "", mark: bytes = b"") -> None:
        """Answer with what stands in for the upstream's answer, or with the refusal."""
        answer = self._fallback.answer(self.head, self.port.clock()) if reject.reason in COVERED else None
        if answer is None:
            super().refuse(reject, why, mark)
        else:
            self._stand_in(answer, reject.reason)

    def _stand_in(self, answer: tuple[int, bytes, bytes], reason: Reason) -> None:
        port, downstream = self.port, self.downstream
        self.status, head, body = answer
        self.reason = reason
        keep, tail = self._ending_of_head()
        if self.head_only:
            body = b""
        self.bytes_out = len(body)
        downstream.transport.write(b"".join((head, tail, self.correlation, port.head_end, body)))
        self._complete(port.clock())
        downstream.finished(keep=keep)


def _static(policy: FallbackPolicy) -> tuple[int, bytes, bytes]:
    """Status, head without its date, and body of the fixed answer."""
    status, body = policy.status, policy.body.encode()
    head = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{FALLBACK.decode()}: {Kind.STATIC}\r\n"
    if status in _BODILESS:
        return status, head.encode(), b""
    if policy.content_type:
        head += f"content-type: {policy.content_type}\r\n"
    return status, f"{head}content-length: {len(body)}\r\n".encode(), body


def _dated(answer: tuple[int, bytes, bytes]) -> tuple[int, bytes, bytes]:
    status, head, body = answer
    return status, b"%bdate: %b\r\n" % (head, formatdate(usegmt=True).encode()), body
