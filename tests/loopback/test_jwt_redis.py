"""What sidecars tell each other of tokens by Redis: it saves work, it lets nobody in, and nobody needs it."""

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api.proxy import Jwt, Store
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.issuer import ES512, OTHER, RS256, Issuer, token
from .support.redisservers import Server
from .support.sidecar import Sidecar
from .support.tokens import ask, asking, bearer, of, policy
from .support.waiting import eventually

SECRET = os.urandom(32)
ALWAYS: dict[str, Any] = {"redis": "Always"}
Pod = Callable[..., Sidecar]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer(RS256.public(), ES512.public())
    yield found
    found.stop()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def pod(start: StartSidecar, app: StartApp, tmp_path: Path, redis: Server) -> Pod:
    """Start a sidecar of the service; all of them have the same key unless told otherwise."""

    def make(found: Callable[[str], Jwt], secret: bytes = SECRET) -> Sidecar:
        directory = tmp_path / f"key-{hashlib.sha256(secret).hexdigest()[:8]}"
        directory.mkdir(exist_ok=True)
        (directory / "key").write_bytes(secret)
        store = Store(url=f"redis://127.0.0.1:{redis.port}/0", timeout=Duration(0.5))
        return start(asking(app().address, found(str(directory)), store=store))

    return make


def by(issuer: Issuer, **fields: Any) -> Callable[[str], Jwt]:
    return lambda directory: policy(issuer, keyDirectory=directory, **fields)


def counts(sidecar: Sidecar) -> tuple[int, int]:
    """Tokens that a sibling and that this one has verified."""
    found = sidecar.stats()["policies"]["jwt"]["lookups"]
    return found["redis"], found["direct"]


def test_what_one_has_verified_the_next_one_need_not(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, second = pod(by(issuer, cache=ALWAYS)), pod(by(issuer, cache=ALWAYS))
    text = token(sub="b.bunny@example.org")
    assert ask(first, bearer(text)).status == 200
    (key,) = eventually(redis.keys)
    assert ask(second, bearer(text)).status == 200
    assert (counts(first), counts(second)) == ((0, 1), (1, 0))
    assert ask(second, bearer(text)).status == 200
    assert counts(second) == (1, 0)  # remembered there too
    # neither the token nor a claim is in it, and it goes before the token does
    kept = key + redis.command("GET", key)
    assert not any(part.encode() in kept for part in (*text.split("."), "bunny"))
    assert 0 < redis.command("TTL", key) <= 300
    assert second.metric("nova_jwt_redis_total", result="hit") == 1


def test_a_slow_signature_is_asked_for_and_a_quick_one_is_not(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, second = pod(by(issuer)), pod(by(issuer))
    slow, quick = token(ES512), token()
    for text in (slow, quick):
        assert ask(first, bearer(text)).status == 200
    eventually(lambda: len(redis.keys()) == 2)
    for text in (slow, quick):
        assert ask(second, bearer(text)).status == 200
    assert counts(second) == (1, 1)


def test_a_pod_that_starts_while_the_issuer_is_down(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, text = pod(by(issuer)), token()
    assert ask(first, bearer(text)).status == 200
    eventually(redis.keys)
    issuer.stop()
    second = pod(by(issuer))
    assert ask(second, bearer(text)).status == 200
    assert ask(second, bearer(token(jti="new"))).status == 503
    assert ask(second, bearer(token(exp=1))).status == 401


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "the same sentence for another token": lambda said: said,
    "without its signature": lambda said: said.rpartition(b".")[0],
    "with another one": lambda said: said[:-4] + b"AAAA",
    "just a yes": lambda _: b"1",
    "nothing of the kind": lambda _: b"\xff" * 200,
    "a lot": lambda _: b"v1." * 100_000,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_who_can_write_to_redis_lets_nobody_in(pod: Pod, issuer: Issuer, redis: Server, forgery: str) -> None:
    sidecar = pod(by(issuer, cache=ALWAYS))
    assert ask(sidecar, bearer(token())).status == 200
    (key,) = eventually(redis.keys)
    said = redis.command("GET", key)
    made_up = token(OTHER, header={"kid": RS256.kid}, sub="root")
    assert ask(sidecar, bearer(made_up)).status == 401
    # what would have to stand there for it, under the name that it would have
    second = pod(by(issuer, cache=ALWAYS | {"refusedEntries": 0}))
    assert ask(second, bearer(made_up)).status == 401
    with redis.client() as client:
        monitor = client.monitor()
        with monitor as watched:
            assert ask(second, bearer(made_up)).status == 401
            asked = next(one["command"] for one in watched.listen() if one["command"].startswith("GET"))
        client.set(asked.split(" ")[1], FORGERIES[forgery](said), px=60_000)
    assert ask(second, bearer(made_up)).status == 401
    assert second.metric("nova_jwt_redis_total", result="unusable") == 1


def test_a_sentence_signed_with_another_key_means_nothing(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, second = pod(by(issuer, cache=ALWAYS)), pod(by(issuer, cache=ALWAYS), os.urandom(32))
    text = token()
    assert ask(first, bearer(text)).status == 200
    eventually(redis.keys)
    assert ask(second, bearer(text)).status == 200
    assert counts(second) == (0, 1)


def test_a_sentence_about_a_key_that_was_withdrawn_means_nothing(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, text = pod(by(issuer, cache=ALWAYS)), token()
    assert ask(first, bearer(text)).status == 200
    eventually(redis.keys)
    issuer.publish(ES512.public())
    assert ask(pod(by(issuer, cache=ALWAYS)), bearer(text)).status == 401


def test_claims_are_judged_by_who_reads_the_sentence(pod: Pod, issuer: Issuer, redis: Server) -> None:
    first, text = pod(by(issuer, cache=ALWAYS)), token(jti="t1")
    assert ask(first, bearer(text)).status == 200
    eventually(redis.keys)
    assert ask(pod(by(issuer, cache=ALWAYS, revoked={"ids": ["t1"]})), bearer(text)).status == 401
    other = pod(
        lambda directory: policy(issuers=[of(issuer, audiences=["billing"])], keyDirectory=directory, cache=ALWAYS)
    )
    assert ask(other, bearer(text)).status == 401


def test_off_is_off(pod: Pod, issuer: Issuer, redis: Server) -> None:
    sidecar = pod(by(issuer, cache={"redis": "Off"}))
    assert ask(sidecar, bearer(token())).status == 200
    assert ask(sidecar, bearer(token(ES512))).status == 200
    assert redis.keys() == []
    assert sidecar.metric("nova_store_calls_total", store="policies", result="ok") == 0


@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_a_redis_that_is_lost_fails_no_request(pod: Pod, issuer: Issuer, redis: Server, fault: str) -> None:
    sidecar = pod(by(issuer, cache=ALWAYS | {"entries": 0}))
    statuses: list[int] = []
    lost, process = threading.Event(), redis._process
    assert process is not None

    def load() -> None:
        client = sidecar.connect()
        for number in range(150):
            client.send(f"GET / HTTP/1.1\r\nHost: app\r\n{bearer(token(jti=f'{number % 7}'))}\r\n\r\n".encode())
            statuses.append(client.response().status)
            if number == 40:
                process.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
                lost.set()

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lost.is_set()
    assert statuses == [200] * 450
    found = sidecar.stats()["policies"]
    assert found["jwt"]["lookups"]["direct"] > 0
    assert sum(count for how, count in found["store"]["calls"].items() if how != "ok") > 0
    if fault == "hung":
        process.send_signal(signal.SIGCONT)
