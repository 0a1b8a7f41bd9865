"""Asking a client that has finished sending whether it is still there.

TCP does not tell one that closed only its sending side from one that left, and work for somebody who left would go on
until its deadline. An interim response does: who reads skips it (RFC 9110 section 15.2), and the kernel of one that
left answers it with a reset.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange

ASK_AFTER: Final = 0.1
"""Seconds that a response may take before the client is asked; the first look at the answer comes as late again."""
LOOK_AT_LEAST_EVERY: Final = 1.0
"""Most seconds between two looks."""

_QUESTION: Final = b"HTTP/1.1 102 Processing\r\n\r\n"


def watch(exchange: "Exchange") -> None:
    """Ask, if there is no response soon; a client found gone is broken off. HTTP/1.0 has no interim responses."""
    if not exchange.head.http10:
        exchange.port.loop.call_later(ASK_AFTER, _ask, exchange)


def _ask(exchange: "Exchange") -> None:
    if exchange.unanswered:
        exchange.downstream.transport.write(_QUESTION)
        exchange.port.loop.call_later(ASK_AFTER, _look, exchange, ASK_AFTER * 2)


def _look(exchange: "Exchange", again: float) -> None:
    if not exchange.unanswered:
        return
    if exchange.downstream.gone:
        exchange.downstream.abort()
    else:
        exchange.port.loop.call_later(again, _look, exchange, min(again * 2, LOOK_AT_LEAST_EVERY))
