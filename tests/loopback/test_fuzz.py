"""Thousands of slightly broken messages: what gets through must be what another parser reads too.

The targets of tests/fuzz look at the wire alone, this at a whole sidecar. llhttp, the parser of Node.js, is the second
opinion: the requests that reach the app must be the first ones of those that llhttp finds in the client's bytes, with
the same method, target and body. The seeds are fixed, so that a failure comes back; HIDDEN in a seed makes a difference
in framing visible as one more request.
"""

import contextlib
import random
from collections.abc import Callable, Iterator

import pytest

from tests.fuzz.http1_requests import REQUESTS, SPICE
from tests.fuzz.http1_responses import RESPONSES
from tests.fuzz.llhttp import Opinion, origin_form
from tests.fuzz.mutate import mutated

from .conftest import StartSidecar
from .support.app import App, Call
from .support.message import request, response
from .support.peer import Ended
from .support.sidecar import ONCE, Sidecar, document, inbound


@pytest.fixture
def edge(start: StartSidecar) -> Iterator[Callable[[Callable[[Call], bytes | None]], tuple[Sidecar, App]]]:
    """A sidecar in front of an app that answers like this."""
    apps = []

    def make(answer: Callable[[Call], bytes | None]) -> tuple[Sidecar, App]:
        apps.append(App(answer))
        return start(document(inbound(apps[-1].address, pool=ONCE))), apps[-1]

    yield make
    for each in apps:
        each.stop()


@pytest.mark.parametrize("seed", range(4))
def test_broken_requests(edge, seed: int) -> None:
    sidecar, app = edge(lambda _: response(body=b"ok"))
    rng = random.Random(seed)
    for _ in range(400):
        data = mutated(rng.choice(REQUESTS), rng, SPICE)
        before = len(app.calls)
        with sidecar.connect() as client, contextlib.suppress(ConnectionError, OSError):
            client.send(data)
            client.finish()
            client.expect_closed()

        reached = [(call.request.target.encode("latin-1"), call.request.body) for call in app.calls[before:]]
        opinion = Opinion(data)
        expected = [(origin_form(each.method, each.target), each.body) for each in opinion.seen if each.whole]
        assert reached[: None if opinion.knows_all else len(expected)] == expected[: len(reached)], data
    assert not app.broken, app.broken
    assert len(app.calls) > 100, "hardly anything came through: the accidents are too large to tell anything"


@pytest.mark.parametrize("seed", range(2))
def test_broken_responses(edge, seed: int) -> None:
    """However an app answers, a client reads one well-formed response or sees that it is broken off."""
    rng = random.Random(seed)
    reply = b""

    def answer(call: Call) -> None:
        call.peer.send(reply)

    sidecar, _ = edge(answer)
    whole = 0
    for number in range(400):
        reply = mutated(rng.choice(RESPONSES), rng, SPICE)
        with sidecar.connect() as client, contextlib.suppress(Ended, ConnectionError):
            client.send(request("GET", f"/{number}"))
            assert 200 <= client.response().status < 600, reply
            assert client.poll() == b"", (reply, client)
            whole += 1
    assert whole > 100
