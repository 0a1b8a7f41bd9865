"""auth as it runs in a pod: a process, a real PostgreSQL with its migrations, and its tokens judged by others."""

import asyncio
import json
import os
import socket
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.api_jwk import PyJWKSet
from nova.auth.v1.auth_pb2 import IntrospectTokenRequest, IntrospectTokenResponse, RevokeSessionsRequest
from nova.auth.v1.auth_pb2_grpc import AuthServiceStub
from prometheus_client import CollectorRegistry

from nova_data.pool.database import Database as Pool
from nova_services.auth.accounts import Accounts
from nova_services.auth.keys import read
from nova_services.auth.metrics import AuthMetrics
from nova_services.auth.sweeping import sweep, sweeping
from tests.loopback.conftest import StartApp, StartSidecar
from tests.loopback.data.database import Database
from tests.loopback.data.outboxes import relaying
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.ports import free_ports
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.tokens import ask, asking, bearer, policy
from tests.loopback.support.waiting import eventually

from .process import Answer, Service, running

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/auth/migrations"
PASSWORD = "correct horse battery"
ISSUER = "http://auth.test"
PORTS = ("--metrics-port", "0", "--grpc-port", "0")
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def write_key(folder: Path, day: str) -> None:
    """A new key, whole at once, as a mounted Secret changes."""
    key = ec.generate_private_key(ec.SECP256R1())
    scratch = folder / f"{day}.new"
    scratch.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    scratch.rename(folder / f"{day}.pem")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder, "2026-01-01")
    return folder


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = Database(postgres)
    for words in (("outbox", "install"), ("migrate", MIGRATIONS)):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@pytest.fixture(scope="module")
def auth(database: Database, keys: Path) -> Iterator[Service]:
    words = ("--keys", str(keys), "--issuer", ISSUER, "--audience", "shop")
    with running("auth", *words, *PORTS, DATABASE_URL=database.url) as service:
        yield service


@pytest.fixture
def email(auth: Service) -> str:
    """Somebody who has an account."""
    address = f"{uuid.uuid4().hex}@example.org"
    assert register(auth, address).status == 201
    return address


def register(auth: Service, email: str, **headers: str) -> Answer:
    return auth.call("/register", "POST", {"email": email, "password": PASSWORD}, **headers)


def login(auth: Service, email: str, password: str = PASSWORD) -> Answer:
    return auth.call("/login", "POST", {"email": email, "password": password})


def refresh(auth: Service, token: str) -> Answer:
    return auth.call("/refresh", "POST", {"refreshToken": token})


def claims(auth: Service, token: str) -> dict[str, Any]:
    """What the token says, after another library has checked it by what auth publishes."""
    published = PyJWKSet.from_dict(auth.call("/.well-known/jwks.json").body)
    key = published[jwt.get_unverified_header(token)["kid"]]
    found: dict[str, Any] = jwt.decode(token, key.key, algorithms=["ES256"], audience="shop", issuer=ISSUER)
    return found


def test_who_registers_can_log_in_and_has_a_token_that_others_can_check(auth: Service) -> None:
    address = f"Anna.{uuid.uuid4().hex}@Example.org"
    user = register(auth, address).body["userId"]
    answer = login(auth, address.lower())
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    found = claims(auth, answer.body["accessToken"])
    assert (found["sub"], found["exp"] - found["iat"]) == (user, 300)
    assert {"jti", "sid"} <= set(found)


def test_what_is_published_has_no_private_part(auth: Service) -> None:
    for key in auth.call("/.well-known/jwks.json").body["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_a_registration_and_its_event_are_one(auth: Service, database: Database) -> None:
    address = f"{uuid.uuid4().hex}@example.org"
    user = register(auth, address, x_correlation_id="signup-1").body["userId"]
    again = register(auth, address.upper())
    assert (again.status, again.body) == (409, {"error": "the address has an account"})
    columns = "event_type, payload::text, headers->>'correlation-id'"
    query = f"SELECT {columns} FROM outbox_events WHERE aggregate_id = '{user}'"
    ((kind, payload, correlation),) = database.rows(query)
    assert (kind, json.loads(payload)["userId"], correlation) == ("user-registered", user, "signup-1")
    assert address not in payload
    assert database.value(f"SELECT count(*) FROM accounts WHERE email = '{address}'") == 1


def test_an_event_that_cannot_be_written_leaves_no_account(auth: Service, database: Database) -> None:
    address = f"{uuid.uuid4().hex}@example.org"
    database.sql("ALTER TABLE outbox_events ADD CONSTRAINT closed CHECK (event_type <> 'user-registered') NOT VALID")
    try:
        assert register(auth, address).status == 500
    finally:
        database.sql("ALTER TABLE outbox_events DROP CONSTRAINT closed")
    assert database.value(f"SELECT count(*) FROM accounts WHERE email = '{address}'") == 0
    assert register(auth, address).status == 201


def test_passwords_and_tokens_are_kept_as_hashes(auth: Service, database: Database, email: str) -> None:
    token = login(auth, email).body["refreshToken"]
    kept = database.value(f"SELECT password_hash FROM accounts WHERE email = '{email}'")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    everything = database.rows("SELECT a::text, s::text, r::text FROM accounts a, sessions s, refresh_tokens r")
    assert PASSWORD not in str(everything)
    assert token not in str(everything)


def test_who_is_refused_does_not_learn_why(auth: Service, email: str) -> None:
    wrong, unknown = login(auth, email, "another horse battery"), login(auth, "nobody@example.org")
    assert wrong.status == unknown.status == 401
    assert wrong.body == unknown.body


@pytest.mark.alone
def test_an_unknown_address_takes_as_long_as_a_wrong_password(auth: Service, email: str) -> None:
    def quickest(address: str) -> float:
        taken = []
        for _ in range(5):
            start = time.monotonic()
            login(auth, address, "another horse battery")
            taken.append(time.monotonic() - start)
        return min(taken)

    assert 0.6 < quickest("nobody@example.org") / quickest(email) < 1.6


def test_each_refresh_gives_a_new_token_for_the_same_session(auth: Service, email: str) -> None:
    first = login(auth, email).body
    second = refresh(auth, first["refreshToken"]).body
    assert second["refreshToken"] != first["refreshToken"]
    assert claims(auth, second["accessToken"])["sid"] == claims(auth, first["accessToken"])["sid"]
    assert refresh(auth, second["refreshToken"]).status == 200


def test_a_refresh_token_that_comes_twice_ends_its_session_and_no_other(auth: Service, email: str) -> None:
    copied, other = login(auth, email).body["refreshToken"], login(auth, email).body["refreshToken"]
    following = refresh(auth, copied).body["refreshToken"]
    assert refresh(auth, copied).status == 401
    auth.line("refresh token came twice")
    assert refresh(auth, following).status == 401
    assert refresh(auth, other).status == 200


def test_of_many_who_come_at_once_with_one_token_one_is_let_in(auth: Service, email: str) -> None:
    token = login(auth, email).body["refreshToken"]
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: refresh(auth, token).status, range(8)))
    assert statuses == [200] + [401] * 7


def test_a_session_ends_by_its_time(auth: Service, database: Database, email: str) -> None:
    token = login(auth, email).body["refreshToken"]
    database.sql(
        f"UPDATE sessions SET expires_at = now() WHERE account_id = (SELECT id FROM accounts WHERE email = '{email}')"
    )
    assert refresh(auth, token).status == 401


def test_logging_out_ends_one_session_or_all(auth: Service, email: str) -> None:
    first, second, third = (login(auth, email).body["refreshToken"] for _ in range(3))
    assert auth.call("/logout", "POST", {"refreshToken": first}).status == 204
    assert refresh(auth, first).status == 401
    second = refresh(auth, second).body["refreshToken"]
    assert auth.call("/logout", "POST", {"refreshToken": second, "everywhere": True}).status == 204
    assert refresh(auth, second).status == refresh(auth, third).status == 401
    assert auth.call("/logout", "POST", {"refreshToken": "unknown"}).status == 204


def test_the_end_of_sessions_is_told_once_and_names_them(auth: Service, database: Database, email: str) -> None:
    first, second, third, copied = (login(auth, email).body for _ in range(4))
    said = [claims(auth, one["accessToken"]) for one in (first, second, third, copied)]
    user, sessions = said[0]["sub"], [one["sid"] for one in said]

    def told() -> list[list[str]]:
        query = "SELECT payload::text FROM outbox_events WHERE event_type = 'sessions-ended' AND aggregate_id = '%s'"
        found = [json.loads(payload) for (payload,) in database.rows(query % user + " ORDER BY created_at")]
        assert all(one["userId"] == user for one in found)
        return [sorted(one["sessionIds"]) for one in found]

    for _ in range(2):
        auth.call("/logout", "POST", {"refreshToken": first["refreshToken"]})
    assert told() == [[sessions[0]]]
    following = refresh(auth, copied["refreshToken"]).body["refreshToken"]
    for token in (copied["refreshToken"], following):
        assert refresh(auth, token).status == 401
    assert told() == [[sessions[0]], [sessions[3]]]
    with calling(auth) as asked:
        for _ in range(2):
            asked.RevokeSessions(RevokeSessionsRequest(user_id=user), timeout=5)
    assert told() == [[sessions[0]], [sessions[3]], sorted(sessions[1:3])]


def test_keys_are_rotated_without_a_restart(auth: Service, keys: Path, email: str) -> None:
    before = login(auth, email).body["accessToken"]
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    write_key(keys, tomorrow)
    assert tomorrow in {key["kid"] for key in auth.call("/.well-known/jwks.json").body["keys"]}
    assert jwt.get_unverified_header(login(auth, email).body["accessToken"])["kid"] == "2026-01-01"
    write_key(keys, "2026-02-01")
    after = login(auth, email).body["accessToken"]
    assert jwt.get_unverified_header(after)["kid"] == "2026-02-01"
    assert claims(auth, before)["sub"] == claims(auth, after)["sub"]


def test_a_key_that_is_none_changes_nothing(auth: Service, keys: Path) -> None:
    published = auth.call("/.well-known/jwks.json").body
    (keys / "2026-03-01.pem").write_text("no key")
    try:
        assert auth.call("/.well-known/jwks.json").body == published
        assert auth.line("keys not taken over")["error"].startswith("2026-03-01.pem: expected a private key in PEM")
    finally:
        (keys / "2026-03-01.pem").unlink()


@pytest.mark.parametrize("name", ["today", "2026-13-01", "20260101"])
def test_a_key_without_a_day_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_key(tmp_path, name)
    with pytest.raises(ValueError, match=rf"{name}\.pem: expected a day such as"):
        read(tmp_path)


def test_a_sidecar_lets_in_who_has_a_token_and_tells_the_app_who_it_is(
    auth: Service, keys: Path, email: str, start: StartSidecar, app: StartApp
) -> None:
    url = f"http://127.0.0.1:{auth.port}/.well-known/jwks.json"
    issuer = {"issuer": ISSUER, "jwksUrl": url, "audiences": ["shop"], "algorithms": ["ES256"]}
    service = app()
    sidecar = start(asking(service.address, policy(issuers=[issuer])))
    first = login(auth, email).body
    assert ask(sidecar, bearer(first["accessToken"])).status == 200
    assert service.requests[-1].get("x-nova-subject") == claims(auth, first["accessToken"])["sub"]
    assert ask(sidecar, bearer(first["refreshToken"])).status == 401
    assert ask(sidecar).status == 401
    write_key(keys, "2026-02-02")
    second = refresh(auth, first["refreshToken"]).body["accessToken"]
    assert jwt.get_unverified_header(second)["kid"] == "2026-02-02"
    assert ask(sidecar, bearer(second)).status == 200  # it fetches the keys anew for a name that it does not know


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/register", {"email": "anna@example.org", "password": "short"}, "$.password"),
        ("/register", {"email": "anna", "password": PASSWORD}, "$.email"),
        ("/register", {"email": "anna@example.org\n", "password": PASSWORD}, "$.email"),
        ("/login", {"email": "anna@example.org"}, "password"),
        ("/refresh", {"refreshToken": 7}, "$.refreshToken"),
        ("/logout", {"token": "x"}, "token"),
    ],
)
def test_what_is_wrong_is_answered_with_its_field(auth: Service, path: str, body: Any, field: str) -> None:
    answer = auth.call(path, "POST", body, x_correlation_id="wrong")
    assert (answer.status, answer.headers["x-correlation-id"]) == (400, "wrong")
    assert field in answer.body["error"]
    assert "short" not in answer.body["error"]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("content-length: 2\r\ncontent-encoding: gzip", b"{}"),
        ("content-length: 2\r\ncontent-encoding: br", b"{}"),
        ("transfer-encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
        ("content-length: 9", b'{"x":"\xff"}'[:9]),
        ("content-length: 200000", b"[" * 200_000),
        ("content-length: 36", b'{"refreshToken":"\\ud800","a":"\\udc00"}'[:36]),
    ],
    ids=["gzip that is none", "brotli that is none", "a chunk without a length", "no utf-8", "deep", "half a pair"],
)
def test_a_body_that_is_none_is_the_callers_mistake(auth: Service, head: str, body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", auth.port), timeout=10) as rude:
        rude.sendall(f"POST /refresh HTTP/1.1\r\nhost: auth\r\n{head}\r\n\r\n".encode() + body)
        assert rude.recv(4096).split()[1] == b"400"


def test_a_body_that_breaks_off_is_nobodys_failure(auth: Service) -> None:
    with socket.create_connection(("127.0.0.1", auth.port), timeout=10) as rude:
        rude.sendall(b"POST /refresh HTTP/1.1\r\nhost: auth\r\ncontent-length: 99\r\n\r\n{")
    refused = auth.call("/refresh", "POST", {"refreshToken": "x"}, x_correlation_id="after-it")
    assert refused.status == 401
    events = {line["event"] for line in auth.lines_until("request", correlation_id="after-it")}
    assert events.isdisjoint({"request failed", "database unreachable"})


def test_who_is_erased_while_logging_in_is_refused(auth: Service, database: Database, email: str) -> None:
    """The password is right, and then the account goes before there is a session."""
    user = register(auth, f"second-{email}").body["userId"]

    async def go(connection: Any) -> Answer:
        with ThreadPoolExecutor(1) as client:
            async with connection.transaction():
                await connection.execute("DELETE FROM accounts WHERE id = $1", user)
                waiting = client.submit(login, auth, f"second-{email}")
                await asyncio.to_thread(eventually, lambda: database.value(WAITING))
            return await asyncio.wrap_future(waiting)

    assert database.do(go).status == 401


def test_the_event_comes_to_kafka_with_the_id_of_the_request(auth: Service, database: Database, kafka: Kafka) -> None:
    prefix = f"auth-{os.getpid()}."
    topic = kafka.make_topic(f"{prefix}user")
    user = register(auth, f"{uuid.uuid4().hex}@example.org", x_correlation_id="signup-2").body["userId"]
    with relaying(database.url, kafka.url, "--topic-prefix", prefix), kafka.reader(topic) as reader:
        count = database.value("SELECT count(*) FROM outbox_events")
        messages = {message.key().decode(): message for message in reader.until(count)}
    headers = dict(messages[user].headers())
    assert (headers["event-type"], headers["correlation-id"]) == (b"user-registered", b"signup-2")
    assert set(json.loads(messages[user].value())) == {"userId", "registeredAt"}


@contextmanager
def calling(auth: Service) -> Iterator[AuthServiceStub]:
    """auth as other services ask it, by the library's other half: blocking calls."""
    with grpc.insecure_channel(f"127.0.0.1:{auth.grpc_port}") as channel:
        yield AuthServiceStub(channel)


def introspected(auth: Service, token: str) -> IntrospectTokenResponse:
    with calling(auth) as asked:
        return asked.IntrospectToken(IntrospectTokenRequest(access_token=token), timeout=5)


def test_a_token_holds_until_its_session_ends(auth: Service, email: str) -> None:
    first = login(auth, email).body
    said, known = claims(auth, first["accessToken"]), introspected(auth, first["accessToken"])
    assert (known.active, known.user_id, known.session_id) == (True, said["sub"], said["sid"])
    assert known.expires_at.ToSeconds() == said["exp"]
    auth.call("/logout", "POST", {"refreshToken": first["refreshToken"]})
    assert introspected(auth, first["accessToken"]) == IntrospectTokenResponse()


def test_what_is_no_token_of_ours_does_not_hold(auth: Service, email: str) -> None:
    given = login(auth, email).body
    said, header = claims(auth, given["accessToken"]), jwt.get_unverified_header(given["accessToken"])
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(said, stranger, algorithm="ES256", headers={"kid": header["kid"]})
    unsigned = jwt.encode(said, "", algorithm="none", headers={"kid": header["kid"]})
    for token in (forged, unsigned, given["refreshToken"], given["accessToken"][:-9], "a.b.c", "....", "\x00é"):
        assert introspected(auth, token) == IntrospectTokenResponse()
    with pytest.raises(grpc.RpcError) as refused:
        introspected(auth, "")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "access_token: expected 1 to 8192 characters"


def test_a_service_ends_all_sessions_of_a_user(auth: Service, email: str) -> None:
    one, two = (login(auth, email).body for _ in range(2))
    user = claims(auth, one["accessToken"])["sub"]
    with calling(auth) as asked:
        metadata = (("correlation-id", "goodbye-1"),)
        answers = [
            asked.RevokeSessions(RevokeSessionsRequest(user_id=user), timeout=5, metadata=metadata).revoked
            for _ in range(2)
        ]
    assert answers == [2, 0]
    assert refresh(auth, one["refreshToken"]).status == refresh(auth, two["refreshToken"]).status == 401
    line = auth.line("call", correlation_id="goodbye-1")
    assert (line["path"], line["grpc_status"]) == ("/nova.auth.v1.AuthService/RevokeSessions", 0)


def leave(auth: Service, user: str, password: str = PASSWORD, **headers: str) -> Answer:
    """As the sidecar hands it on, which has verified the token."""
    return auth.call("/account", "DELETE", {"password": password}, x_nova_subject=user, **headers)


def test_who_leaves_is_gone_and_everybody_is_told(auth: Service, database: Database) -> None:
    address = f"{uuid.uuid4().hex}@example.org"
    user = register(auth, address).body["userId"]
    token = login(auth, address).body
    assert leave(auth, user, "another horse battery").status == 401
    assert login(auth, address).status == 200
    answer = leave(auth, user, x_correlation_id="leaving-1", traceparent=TRACE)
    assert answer.status == 200
    query = "SELECT id::text, payload::text, headers->>'correlation-id', headers->>'traceparent' FROM outbox_events"
    ((event, payload, correlation, trace),) = database.rows(
        f"{query} WHERE aggregate_id = '{user}' AND event_type = 'user-erased'"
    )
    assert (event, json.loads(payload)) == (answer.body["reference"], {"userId": user})
    assert (correlation, trace) == ("leaving-1", TRACE)
    for table, column in (("accounts", "id"), ("sessions", "account_id")):
        assert database.value(f"SELECT count(*) FROM {table} WHERE {column} = '{user}'") == 0
    ((removed, note),) = database.rows(
        f"SELECT removed::text, e::text FROM nova_erasures e WHERE reference = '{event}'"
    )
    assert json.loads(removed) == {"sessions": 2, "accounts": 1}
    assert user not in note
    assert login(auth, address).status == refresh(auth, token["refreshToken"]).status == 401
    assert not introspected(auth, token["accessToken"]).active
    assert leave(auth, user).status == 401
    assert register(auth, address).status == 201


def test_who_is_nobody_cannot_leave(auth: Service, email: str) -> None:
    for headers in ({}, {"x_nova_subject": "anna"}):
        answer = auth.call("/account", "DELETE", {"password": PASSWORD}, **headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert login(auth, email).status == 200


def test_sessions_that_are_long_over_are_removed_some_at_a_time(database: Database, email: str, auth: Service) -> None:
    user = database.value(f"SELECT id FROM accounts WHERE email = '{email}'")
    ended = f"INSERT INTO sessions (id, account_id, expires_at) SELECT gen_random_uuid(), '{user}', now() - interval "
    database.sql(f"{ended} '2 days' FROM generate_series(1, 7); {ended} '1 hour'")
    database.sql(
        "INSERT INTO refresh_tokens (digest, session_id)"
        f" SELECT id::text::bytea, id FROM sessions WHERE account_id = '{user}'"
    )
    kept = login(auth, email).body["refreshToken"]
    counts = []

    async def sweep_thrice() -> None:
        async with Pool(database.url, name="sweeps") as pool, pool.transaction() as other:
            accounts = Accounts(pool)
            old = "SELECT id FROM sessions WHERE account_id = $1 AND expires_at < now() - interval '1 day'"
            await other.fetch(f"{old} LIMIT 1 FOR UPDATE", user)  # somebody is at one of them
            counts.extend([await sweep(accounts, batch=2, most=2), await sweep(accounts, batch=2, most=2)])

    asyncio.run(sweep_thrice())
    assert counts == [4, 2]
    left = database.value(f"SELECT count(*) FROM sessions WHERE account_id = '{user}'")
    assert left == 3  # the busy one, the one of an hour ago, and the one that is open
    assert refresh(auth, kept).status == 200


def test_a_sweep_that_fails_is_followed_by_another(database: Database) -> None:
    registry = CollectorRegistry()

    class Failing(Accounts):
        """Fails once."""

        def __init__(self, pool: Pool) -> None:
            super().__init__(pool)
            self.sweeps = 0
            self.again = asyncio.Event()

        async def remove_expired(self, *, keep: float, most: int) -> int:
            self.sweeps += 1
            if self.sweeps == 1:
                raise ConnectionError("gone")
            removed = await super().remove_expired(keep=keep, most=most)
            self.again.set()
            return removed

    async def go_on() -> None:
        async with Pool(database.url, name="sweeps") as pool:
            accounts = Failing(pool)
            task = asyncio.create_task(sweeping(accounts, AuthMetrics(registry), every=0.02, random=Random(1)))
            async with asyncio.timeout(5):
                await accounts.again.wait()
            task.cancel()

    asyncio.run(go_on())


def test_the_trace_of_a_request_goes_with_its_event(auth: Service, database: Database) -> None:
    user = register(auth, f"{uuid.uuid4().hex}@example.org", traceparent=TRACE).body["userId"]
    other = register(auth, f"{uuid.uuid4().hex}@example.org", traceparent="00-not-a-trace").body["userId"]
    query = "SELECT aggregate_id, headers->>'traceparent' FROM outbox_events"
    assert dict(database.rows(f"{query} WHERE aggregate_id IN ('{user}', '{other}')")) == {user: TRACE, other: None}


def test_without_its_database_it_says_so_and_lives(keys: Path) -> None:
    nowhere = "postgresql://auth@127.0.0.1:1/auth"
    with running("auth", "--keys", str(keys), *PORTS, DATABASE_URL=nowhere) as service:
        answer = login(service, "anna@example.org")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert service.call("/healthz").status == 200
        with calling(service) as auth, pytest.raises(grpc.RpcError) as away:
            auth.RevokeSessions(RevokeSessionsRequest(user_id=str(uuid.uuid4())), timeout=5)
        assert (away.value.code(), away.value.details()) == (grpc.StatusCode.UNAVAILABLE, "a store is not available")


def test_it_counts_who_came(database: Database, keys: Path) -> None:
    (port,) = free_ports(1)

    def pages() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    words = ("--keys", str(keys), "--metrics-port", str(port), "--grpc-port", "0")
    with running("auth", *words, DATABASE_URL=database.url) as service:
        assert 'nova_auth_refreshes_total{result="reused"} 0.0' in pages()
        address = f"{uuid.uuid4().hex}@example.org"
        register(service, address)
        register(service, address)
        login(service, address, "another horse battery")
        token = login(service, address).body["refreshToken"]
        refresh(service, token)
        refresh(service, token)
        page = pages()
    for series in (
        'registrations_total{result="created"}',
        'registrations_total{result="taken"}',
        'logins_total{result="ok"}',
        'logins_total{result="refused"}',
        'refreshes_total{result="ok"}',
        'refreshes_total{result="reused"}',
    ):
        assert f"nova_auth_{series} 1.0" in page
    assert 'db_pool_wait_seconds_count{pool="auth"}' in page
    assert address not in page
