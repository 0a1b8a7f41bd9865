"""The claims about the backend, in the order of a day. Each makes what it looks at, so that each can be asked alone."""

import statistics
import time
import uuid
from collections.abc import Sequence
from typing import Final

from nova_cli.demo.backend.chat import chat
from nova_cli.demo.backend.forgetting import erase
from nova_cli.demo.backend.pictures import media
from nova_cli.demo.backend.sharing import delete, graphql, post, search
from nova_cli.demo.backend.stage import SOON, Answer, Backend, stranger
from nova_cli.demo.backend.trail import trail
from nova_cli.demo.claim import Claim, Verdict


def sign_up(backend: Backend) -> Verdict:
    """Two people register and log in; each registration's event is in Kafka, with the id of its request."""
    people = [stranger("anna"), stranger("ben")]
    ids = [f"demo-sign-up-{uuid.uuid4()}" for _ in people]
    registered = [backend.register(one, correlation=name) for one, name in zip(people, ids, strict=True)]
    logged_in = [backend.login(one) for one in people]
    for name, one in zip(("anna", "ben"), people, strict=True):
        backend.meet(name, one)
    again = backend.ask("POST", "auth", "/register", body=people[0].credentials).status
    wrong = backend.ask("POST", "auth", "/login", body={**people[0].credentials, "password": "another password"}).status
    begin = time.monotonic()
    events = [backend.messages("user", containing=one.user, within=SOON) for one in people]
    took = time.monotonic() - begin
    told = [message["headers"] for found in events for message in found]
    right = [one["event-type"] for one in told] == ["user-registered"] * 2
    traced = [one["correlation-id"] for one in told] == ids
    figures = (
        f"registered in {_median(registered):.0f} ms, logged in in {_median(logged_in):.0f} ms; the address once more:"
        f" {again}, a wrong password: {wrong}; {len(told)} of 2 events user-registered found in Kafka in {took:.1f} s,"
        f" with the requests' correlation ids: {'yes' if traced else 'NO'}"
    )
    return Verdict(again == 409 and wrong == 401 and right and traced, figures)


def _median(answers: Sequence[Answer]) -> float:
    return statistics.median([one.milliseconds for one in answers])


CLAIMS: Final = (
    Claim("sign-up", "two people sign up, and Kafka hears of it", sign_up),
    Claim("post", "one follows the other, who writes a post: it is in the feed", post),
    Claim("search", "the post is found by its words", search),
    Claim("graphql", "one question for posts with their authors", graphql),
    Claim("chat", "a chat over WebSockets while every pod of messaging is replaced", chat),
    Claim("delete", "the post is deleted, and gone wherever it was", delete),
    Claim("media", "a picture is its owner's until it is shown, and somebody is recommended something", media),
    Claim("trail", "one correlation id through HTTP, gRPC, Kafka and the logs of all pods", trail),
    Claim("erase", "a person is erased, and gone wherever anything was", erase),
)
