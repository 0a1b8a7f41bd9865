"""An issuer's keys: fetched, renewed, withdrawn, and an issuer that is down, slow, or somebody else."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartApp, StartSidecar
from .support.certificates import Authority
from .support.issuer import OTHER, RS256, Issuer, Key, token
from .support.message import response
from .support.ports import free_ports
from .support.sidecar import Sidecar, with_fields
from .support.tokens import ask, asking, bearer, changed, of, policy
from .support.waiting import eventually


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.stop()


def state(sidecar: Sidecar) -> dict[str, Any]:
    (found,) = sidecar.stats()["policies"]["jwt"]["issuers"]
    return dict(found)


def warned(sidecar: Sidecar) -> list[str]:
    return [line["error"] for line in sidecar.log if line["event"] == "issuer's keys not fetched"]


def test_a_new_key_is_fetched_when_a_token_names_it(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(asking(app().address, policy(issuer)))
    assert ask(sidecar, bearer(token())).status == 200
    issuer.publish(RS256.public(), OTHER.public())
    assert ask(sidecar, bearer(token(OTHER))).status == 200
    assert issuer.asked == 2


@pytest.mark.parametrize("kid", [None, "the same"])
def test_a_new_key_of_the_same_name_is_fetched_when_a_token_is_signed_with_it(
    start: StartSidecar, app: StartApp, issuer: Issuer, kid: str | None
) -> None:
    def named(key: Key) -> dict[str, Any]:
        found = key.public(kid=kid)
        return found if kid else {name: value for name, value in found.items() if name != "kid"}

    issuer.publish(named(RS256))
    sidecar = start(asking(app().address, policy(issuer)))
    assert ask(sidecar, bearer(token(header={"kid": kid}))).status == 200
    issuer.publish(named(OTHER))
    assert ask(sidecar, bearer(token(OTHER, header={"kid": kid}))).status == 200


def test_made_up_signatures_cause_no_flood_of_fetches(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(asking(app().address, policy(issuer)))
    eventually(lambda: state(sidecar)["keys"] == 1)
    for number in range(10):
        forged = token(OTHER, header={"kid": RS256.kid}, jti=str(number))
        assert ask(sidecar, bearer(forged)).status == 401
    assert issuer.asked == 2


def test_made_up_names_cause_no_flood_of_fetches(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(asking(app().address, policy(issuer)))
    eventually(lambda: state(sidecar)["keys"] == 1)
    for number in range(30):
        assert ask(sidecar, bearer(token(header={"kid": f"made up {number}"}))).status == 401
    assert issuer.asked == 2
    assert sidecar.metric("nova_jwt_requests_total", result="key") == 30


def test_all_who_wait_for_keys_wait_for_one_fetch(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    issuer.gate.clear()
    sidecar = start(asking(app().address, policy(issuer)))
    same, clients = token(), [sidecar.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        text = same if number % 2 else token(jti=str(number))
        client.send(f"GET / HTTP/1.1\r\nHost: app\r\n{bearer(text)}\r\n\r\n".encode())
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 8)
    issuer.gate.set()
    assert [client.response().status for client in clients] == [200] * 8
    assert issuer.asked == 1
    assert sidecar.stats()["policies"]["jwt"]["lookups"]["direct"] == 5


def test_who_leaves_while_it_waits_is_forgotten(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service = app()
    issuer.gate.clear()
    sidecar = start(asking(service.address, policy(issuer)))
    client = sidecar.connect()
    client.send(f"GET / HTTP/1.1\r\nHost: app\r\n{bearer(token())}\r\n\r\n".encode())
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 1)
    client.close()
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    issuer.gate.set()
    assert ask(sidecar, bearer(token(jti="2"))).status == 200
    assert len(service.calls) == 1


def test_without_keys_nobody_comes_in_and_everybody_does_once_they_are_there(
    start: StartSidecar, app: StartApp, issuer: Issuer
) -> None:
    issuer.stop()
    sidecar = start(asking(app().address, policy(issuer)))
    eventually(lambda: state(sidecar)["fetches"]["failed"])
    refusal = ask(sidecar, bearer(token()))
    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "keys_unavailable")
    assert refusal.get("retry-after")
    assert ask(sidecar, bearer(token(iss="https://evil.example"))).status == 401  # for that no key is needed
    issuer.restart()
    eventually(lambda: ask(sidecar, bearer(token())).status == 200, within=15)
    assert len(warned(sidecar)) == 1
    assert sidecar.metric("nova_jwt_key_fetches_total", result="failed") >= 1
    assert sidecar.metric("nova_jwt_keys_age_seconds") >= 0


def test_an_issuer_that_is_gone_changes_nothing(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    found = policy(issuer)
    config = asking(app().address, found)
    sidecar = start(config)
    assert ask(sidecar, bearer(token())).status == 200
    issuer.stop()
    sidecar.reload(with_fields(config, jwt=changed(found, leeway="1s")))  # what was remembered goes, the keys stay
    eventually(lambda: sidecar.stats()["policies"]["jwt"]["remembered"]["valid"] == 0)
    assert ask(sidecar, bearer(token())).status == 200
    assert ask(sidecar, bearer(token(jti="2"))).status == 200


def test_a_key_that_is_withdrawn_takes_its_tokens_with_it(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    issuer.publish(RS256.public(), OTHER.public())
    sidecar = start(asking(app().address, policy(issuer)))
    stays, goes = token(), token(OTHER)
    for text in (stays, goes):
        assert ask(sidecar, bearer(text)).status == 200
    issuer.publish(RS256.public())
    ask(sidecar, bearer(token(header={"kid": "unknown"})))  # has them fetched
    eventually(lambda: state(sidecar)["keys"] == 1)
    assert ask(sidecar, bearer(goes)).status == 401
    assert ask(sidecar, bearer(stays)).status == 200


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (("200 OK", (), b"<html>"), "expected a JWK set, got something else than JSON"),
        (("200 OK", (), b"[]"), "expected a JWK set: an object with a list of keys"),
        (("200 OK", (), b'{"keys":[]}'), "expected a key that can be used, 0 cannot"),
        (("200 OK", (), b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'), "expected a key that can be used, 1 cannot"),
        (("200 OK", (), b" " * 300_000), "the answer is longer than 262144 bytes"),
        (("302 Found", ("Location: http://127.0.0.1:1/",), b""), "the answer has the status 302"),
        (("500 Oops", (), b""), "the answer has the status 500"),
        (("200 OK", ("x: " + "y" * 40_000,), b""), "the answer is malformed"),
        (("200 OK", ("Transfer-Encoding: gzip, chunked",), b""), "the answer is malformed"),
    ],
)
def test_what_is_no_set_of_keys_changes_nothing(
    start: StartSidecar, app: StartApp, issuer: Issuer, answer: tuple[str, tuple[str, ...], bytes], why: str
) -> None:
    config = asking(app().address, policy(issuer))
    sidecar = start(config)
    assert ask(sidecar, bearer(token())).status == 200
    issuer.status, issuer.fields, issuer.body = answer
    assert ask(sidecar, bearer(token(header={"kid": "unknown"}))).status == 401
    assert why in eventually(lambda: warned(sidecar))[0]
    assert ask(sidecar, bearer(token(jti="2"))).status == 200


def test_chunks_and_interim_answers_are_read(start: StartSidecar, app: StartApp) -> None:
    keys = json.dumps({"keys": [RS256.public()]}).encode()
    half = len(keys) // 2
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (keys[:half], keys[half:])) + b"0\r\n\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    published = app(
        lambda _: interim + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n" + chunked
    )
    where = of(None, jwksUrl=f"http://127.0.0.1:{published.address[1]}/a/b?c=d")
    sidecar = start(asking(app().address, policy(issuers=[where])))
    assert ask(sidecar, bearer(token())).status == 200
    assert published.requests[0].target == "/a/b?c=d"
    assert published.requests[0].get("host") == f"127.0.0.1:{published.address[1]}"


class Https:
    """A server with a certificate that publishes the keys."""

    def __init__(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        (self.port,) = free_ports(1)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._context = context
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        body = json.dumps({"keys": [RS256.public()]}).encode()
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as peer:
                    peer.recv(65536)
                    peer.sendall(response(body=body))
            except OSError:
                plain.close()


@pytest.mark.parametrize(
    ("certificate", "expected"), [(("localhost", True), 200), (("localhost", False), 503), (("other", True), 503)]
)
def test_the_host_of_the_keys_is_known_by_its_certificate(
    start: StartSidecar, app: StartApp, tmp_path: Path, certificate: tuple[str, bool], expected: int
) -> None:
    name, trusted = certificate
    authority = Authority()
    pair = authority.issue(name)
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    known = tmp_path / "known"
    known.mkdir()
    (known / "ca.crt").write_bytes((authority if trusted else Authority("another")).certificate)
    server = Https(tmp_path / "tls.crt", tmp_path / "tls.key")
    try:
        where = of(None, jwksUrl=f"https://localhost:{server.port}/keys")
        sidecar = start(asking(app().address, policy(issuers=[where], directories=[str(known)])))
        eventually(lambda: sum(state(sidecar)["fetches"].values()))
        assert ask(sidecar, bearer(token())).status == expected
        if expected != 200:
            assert "certificate verify failed" in warned(sidecar)[0]
    finally:
        server.stop()


def test_an_issuer_that_never_ends_its_answer(start: StartSidecar, app: StartApp) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    where = of(None, jwksUrl=f"http://127.0.0.1:{silent.getsockname()[1]}/")
    sidecar = start(asking(app().address, policy(issuers=[where])))
    begun = time.monotonic()
    assert ask(sidecar, bearer(token())).status == 503
    assert time.monotonic() - begun < 8
    assert "no answer within 5 s" in warned(sidecar)[0]
    begun = time.monotonic()
    assert ask(sidecar, bearer(token())).status == 503
    assert time.monotonic() - begun < 3  # the next ones wait for a second and no more
    silent.close()
