"""users as it runs in a pod: a process, a real PostgreSQL with its migrations and soft delete, a real Kafka."""

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from nova.users.v1.users_pb2 import (
    BatchGetProfilesRequest,
    CheckBlockRequest,
    CheckBlocksRequest,
    GetProfileRequest,
)
from nova.users.v1.users_pb2_grpc import UsersServiceStub
from prometheus_client import CollectorRegistry

from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_data.consumer.dead_letters import topic_of
from nova_data.consumer.message import Message
from nova_data.pool.database import Database as Pool
from nova_data.pool.settings import PoolSettings
from nova_services.backing import redis
from nova_services.users.hearing import Hearing
from nova_services.users.metrics import UsersMetrics
from nova_services.users.preferences import Preferences, PreferenceStore
from nova_services.users.profiles import Profiles
from tests.loopback.conftest import StartApp, StartSidecar
from tests.loopback.data.database import Database
from tests.loopback.data.outboxes import relaying
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.redisservers import Server as RedisServer
from tests.loopback.support.sidecar import document, inbound
from tests.loopback.support.waiting import eventually

from .process import Answer, Service, running
from .telling import producer, send
from .test_auth import MIGRATIONS as AUTH_MIGRATIONS
from .test_auth import PASSWORD, write_key

NOBODY = "00000000-0000-4000-8000-000000000000"
"""The same in each process that collects the tests."""

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/users/migrations"
PREFIX = f"users-{os.getpid()}."
PORTS = ("--metrics-port", "0", "--grpc-port", "0")
NOBODYS_KAFKA = ("--brokers", "127.0.0.1:1", "--topic-prefix", PREFIX)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = Database(postgres)
    for words in (("outbox", "install"), ("migrate", MIGRATIONS), ("soft-delete", "install", "--table", "blocks")):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@pytest.fixture(scope="module")
def users(database: Database, kafka: Kafka) -> Iterator[Service]:
    kafka.make_topic(f"{PREFIX}user", partitions=2)
    words = ("--brokers", kafka.url, "--topic-prefix", PREFIX)
    with running("users", *PORTS, *words, DATABASE_URL=database.url) as service:
        service.line("partitions assigned")
        yield service


def ask(users: Service, viewer: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """A request as the sidecar hands it on, which has verified who it is from."""
    return users.call(path, method, body, x_nova_subject=viewer, **headers)


def somebody(users: Service) -> str:
    """A user with a profile."""
    user = str(uuid.uuid4())
    assert ask(users, user, "/profiles/me").status == 200
    return user


@contextmanager
def calling(users: Service) -> Iterator[UsersServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{users.grpc_port}") as channel:
        yield UsersServiceStub(channel)


def sent(kafka: Kafka, kind: str, user: str, payload: dict[str, Any] | None = None) -> str:
    """An event of auth's; returns its id."""
    event = str(uuid.uuid4())
    client, told = producer(kafka), payload or {"userId": user}
    for _ in range(2):  # at least once means twice
        send(client, f"{PREFIX}user", kind, told, key=user, event=event, correlation=f"heard-{event[:8]}")
    return event


# --- profiles


def test_a_profile_is_there_at_the_first_visit_and_its_changes_are_told(users: Service, database: Database) -> None:
    user = str(uuid.uuid4())
    first = ask(users, user, "/profiles/me").body
    assert (first["userId"], first["displayName"], first["biography"]) == (user, f"user-{user[:8]}", "")
    given = {"displayName": "  Anna Ä. 🎈 ", "biography": "Tea.\nAnd pots."}
    changed = ask(users, user, "/profiles/me", "PATCH", given, x_correlation_id="profile-1")
    assert (changed.status, changed.body) == (
        200,
        first | {"displayName": "Anna Ä. 🎈", "biography": "Tea.\nAnd pots."},
    )
    assert ask(users, user, f"/profiles/{user}", "PATCH", {"biography": "Pots."}).body["displayName"] == "Anna Ä. 🎈"
    assert ask(users, somebody(users), f"/profiles/{user}").body["biography"] == "Pots."
    query = "SELECT event_type, aggregate_type, payload::text, headers->>'correlation-id' FROM outbox_events"
    events = database.rows(f"{query} WHERE aggregate_id = '{user}' ORDER BY position")
    assert {(kind, aggregate) for kind, aggregate, *_ in events} == {("profile-changed", "profile")}
    assert json.loads(events[1][2]) == changed.body
    assert events[1][3] == "profile-1"
    assert [json.loads(event[2])["biography"] for event in events] == ["", "Tea.\nAnd pots.", "Pots."]


@pytest.mark.parametrize(
    ("request_line", "body", "status", "says"),
    [
        ("PATCH /profiles/me", {"displayName": "x" * 81}, 400, "$.displayName"),
        ("PATCH /profiles/me", {"displayName": " \u2003 "}, 400, "displayName: expected 1 to 80"),
        ("PATCH /profiles/me", {"biography": "a\x00b"}, 400, "$.biography"),
        ("PATCH /profiles/me", {"email": "anna@example.org"}, 400, "email"),
        (f"PATCH /profiles/{NOBODY}", {"biography": ""}, 403, "by its user"),
        (f"GET /profiles/{NOBODY}", None, 404, "no such user"),
        ("GET /profiles/anna", None, 400, "id: expected a UUID"),
        ("PUT /preferences", {"theme": "pink"}, 400, "$.theme"),
        ("PUT /preferences", {"language": "English!"}, 400, "$.language"),
        (f"PUT /blocks/{NOBODY}", None, 404, "no such user"),
        ("GET /blocks?pageSize=101", None, 400, "pageSize: expected 1 to 100"),
        ("GET /blocks?pageSize=0", None, 400, "pageSize: expected 1 to 100"),
        ("GET /blocks?pageToken=x", None, 400, "pageToken"),
    ],
)
def test_what_is_wrong_is_answered_with_its_field(
    users: Service, request_line: str, body: Any, status: int, says: str
) -> None:
    method, path = request_line.split(" ")
    answer = ask(users, str(uuid.uuid4()), path, method, body)
    assert answer.status == status
    assert says in answer.body["error"]


@pytest.mark.parametrize("path", ["/profiles/me", "/preferences", "/blocks"])
def test_nobody_is_told_nothing(users: Service, path: str) -> None:
    assert users.call(path).status == 401
    assert ask(users, "anna", path).status == 401


def test_other_services_get_many_profiles_at_once(users: Service) -> None:
    found = [somebody(users) for _ in range(3)]
    with calling(users) as asked:
        answer = asked.BatchGetProfiles(BatchGetProfilesRequest(user_ids=[*found, str(uuid.uuid4())]), timeout=5)
        one = asked.GetProfile(GetProfileRequest(user_id=found[0]), timeout=5).profile
        assert {profile.user_id for profile in answer.profiles} == set(found)
        assert one in answer.profiles
        assert one.created_at.ToSeconds() > 1_700_000_000
        for wrong in ([], ["x"], [str(uuid.uuid4())] * 101):
            with pytest.raises(grpc.RpcError) as refused:
                asked.BatchGetProfiles(BatchGetProfilesRequest(user_ids=wrong), timeout=5)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details().startswith("user_ids: expected")


# --- blocks


def test_who_is_blocked_does_not_find_the_other_one(users: Service, database: Database) -> None:
    anna, ben = somebody(users), somebody(users)
    for _ in range(2):
        assert ask(users, anna, f"/blocks/{ben}", "PUT").status == 204
    assert ask(users, ben, f"/profiles/{anna}").status == 404
    assert ask(users, anna, f"/profiles/{ben}").status == 200
    with calling(users) as asked:
        with pytest.raises(grpc.RpcError) as hidden:
            asked.GetProfile(GetProfileRequest(user_id=anna, viewer_id=ben), timeout=5)
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND
        both = BatchGetProfilesRequest(user_ids=[anna, ben], viewer_id=ben)
        assert [one.user_id for one in asked.BatchGetProfiles(both, timeout=5).profiles] == [ben]
        for one, other in ((anna, ben), (ben, anna)):
            assert asked.CheckBlock(CheckBlockRequest(user_id=one, other_id=other), timeout=5).blocked
        for _ in range(2):
            assert ask(users, anna, f"/blocks/{ben}", "DELETE").status == 204
        assert not asked.CheckBlock(CheckBlockRequest(user_id=anna, other_id=ben), timeout=5).blocked
    assert ask(users, ben, f"/profiles/{anna}").status == 200
    assert ask(users, anna, f"/blocks/{ben}", "PUT").status == 204
    rows = database.rows(f"SELECT deleted_by::text FROM blocks WHERE blocker_id = '{anna}' ORDER BY created_at")
    assert rows == [(anna,), (None,)]  # the one that was lifted, by whom, and the one that holds


def test_of_many_those_are_said_with_whom_there_is_a_block(users: Service) -> None:
    anna, ben, cleo, dora = (somebody(users) for _ in range(4))
    ask(users, anna, f"/blocks/{ben}", "PUT")
    ask(users, cleo, f"/blocks/{anna}", "PUT")
    ask(users, anna, f"/blocks/{dora}", "PUT")
    ask(users, anna, f"/blocks/{dora}", "DELETE")
    with calling(users) as asked:
        others = [ben, cleo, dora, NOBODY]
        found = asked.CheckBlocks(CheckBlocksRequest(user_id=anna, other_ids=others), timeout=5).blocked_ids
        assert sorted(found) == sorted([ben, cleo])
        for wrong in ([], ["cleo"], [ben] * 101):
            with pytest.raises(grpc.RpcError) as refused:
                asked.CheckBlocks(CheckBlocksRequest(user_id=anna, other_ids=wrong), timeout=5)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details().startswith("other_ids: expected")


def test_of_many_who_block_at_once_there_is_one_block(users: Service, database: Database) -> None:
    anna, ben = somebody(users), somebody(users)
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: ask(users, anna, f"/blocks/{ben}", "PUT").status, range(6)))
    assert statuses == [204] * 6
    assert database.value(f"SELECT count(*) FROM blocks WHERE blocker_id = '{anna}'") == 1


def test_nobody_blocks_themselves(users: Service) -> None:
    anna = somebody(users)
    answer = ask(users, anna, f"/blocks/{anna}", "PUT")
    assert (answer.status, answer.body["error"]) == (400, "id: expected another user")


def test_whom_one_has_blocked_comes_in_pages(users: Service) -> None:
    anna, others = somebody(users), [somebody(users) for _ in range(5)]
    for other in others:
        ask(users, anna, f"/blocks/{other}", "PUT")
    found, token = [], ""
    for size in (2, 2, 1):
        page = ask(users, anna, f"/blocks?pageSize=2&pageToken={token}").body
        assert len(page["blocks"]) == size
        found += [block["userId"] for block in page["blocks"]]
        token = page["nextPageToken"]
    assert (found, token) == (others[::-1], "")


# --- preferences


def test_what_one_prefers_holds_at_once_and_is_saved_soon(users: Service, database: Database) -> None:
    anna = somebody(users)
    usual = ask(users, anna, "/preferences").body
    assert usual == {"theme": "system", "language": "en", "digest": "weekly", "autoplay": True}
    assert ask(users, anna, "/preferences", "PUT", {"theme": "dark", "language": "pt-BR"}).status == 200
    assert ask(users, anna, "/preferences").body == usual | {"theme": "dark", "language": "pt-BR"}
    row = f"SELECT chosen->>'theme' FROM preferences WHERE user_id = '{anna}'"
    assert eventually(lambda: database.value(row), within=10) == "dark"


def test_a_process_that_is_asked_to_end_saves_what_was_chosen(database: Database) -> None:
    anna = str(uuid.uuid4())
    with running("users", *PORTS, *NOBODYS_KAFKA, DATABASE_URL=database.url) as service:
        assert ask(service, anna, "/preferences", "PUT", {"digest": "never"}).status == 200
    assert service.process.returncode == 0
    assert database.value(f"SELECT chosen->>'digest' FROM preferences WHERE user_id = '{anna}'") == "never"
    with running("users", *PORTS, *NOBODYS_KAFKA, DATABASE_URL=database.url) as service:
        assert ask(service, anna, "/preferences").body["digest"] == "never"


def reads_of_preferences(database: Database) -> int:
    """As PostgreSQL has counted them; what a connection did is added when it ends."""
    count: int = database.value("SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'preferences'")
    return count


def test_nineteen_of_twenty_reads_of_preferences_are_spared(database: Database) -> None:
    """20 users open 100 pages each, and change their mind with every twentieth."""
    people = [uuid.uuid4() for _ in range(20)]

    async def visit() -> tuple[int, int]:
        requests = changes = 0
        async with Pool(database.url, name="counted") as pool, PreferenceStore(pool, flush_after=0.05) as store:
            for page in range(100):
                for number, user in enumerate(people):
                    chosen = await store.of(user)
                    requests += 1
                    if (page + number) % 20 == 0:
                        changes += 1
                        store.choose(user, Preferences(language="de", autoplay=not chosen.autoplay))
        return requests, changes

    before = reads_of_preferences(database)
    assert asyncio.run(visit()) == (2000, 100)
    spent = eventually(lambda: reads_of_preferences(database) - before)
    assert len(people) <= spent <= 2000 * 0.05
    ids = ", ".join(f"'{user}'" for user in people)
    rows = database.rows(f"SELECT chosen->>'language', chosen->>'autoplay' FROM preferences WHERE user_id IN ({ids})")
    assert rows == [("de", "false")] * 20  # of five changes each, the last


def test_processes_share_what_was_read_by_redis_which_forgets_who_left(database: Database, tmp_path: Path) -> None:
    server, user = RedisServer(tmp_path), uuid.uuid4()

    async def share() -> None:
        async with Pool(database.url, name="shared") as pool, redis(f"redis://127.0.0.1:{server.port}") as client:
            async with PreferenceStore(pool, redis=client, redis_timeout=5) as first:
                first.choose(user, Preferences(theme="dark"))
            async with pool.acquire() as connection:  # behind everybody's back
                await connection.execute("UPDATE preferences SET chosen = '{}' WHERE user_id = $1", user)
            async with PreferenceStore(pool, redis=client, redis_timeout=5) as second:
                assert (await second.of(user)).theme == "dark"
                await second.forget(user)
            assert server.keys() == []
            async with PreferenceStore(pool, redis=client, redis_timeout=5) as third:
                assert (await third.of(user)).theme == "system"

    try:
        asyncio.run(share())
    finally:
        server.stop()


# --- what auth tells of


def test_who_registers_has_a_profile_and_once(users: Service, database: Database, kafka: Kafka) -> None:
    user = str(uuid.uuid4())
    event = sent(kafka, "user-registered", user, {"userId": user, "registeredAt": "2026-11-01T12:00:00+00:00"})
    line = users.line("event handled", correlation_id=f"heard-{event[:8]}")
    assert (line["event_type"], line["topic"], line["repeated"]) == ("user-registered", f"{PREFIX}user", False)
    assert users.line("event handled", correlation_id=f"heard-{event[:8]}")["repeated"]
    assert ask(users, user, "/profiles/me").body["createdAt"] == "2026-11-01T12:00:00Z"
    assert database.value(f"SELECT count(*) FROM outbox_events WHERE aggregate_id = '{user}'") == 1


def test_who_leaves_has_left_nothing(users: Service, database: Database, kafka: Kafka) -> None:
    anna, ben, cleo = somebody(users), somebody(users), somebody(users)
    ask(users, anna, f"/blocks/{ben}", "PUT")
    ask(users, anna, f"/blocks/{cleo}", "PUT")
    ask(users, anna, f"/blocks/{cleo}", "DELETE")
    ask(users, ben, f"/blocks/{anna}", "PUT")
    ask(users, anna, "/preferences", "PUT", {"theme": "dark"})
    eventually(lambda: database.value(f"SELECT 1 FROM preferences WHERE user_id = '{anna}'"), within=10)
    before = users.metric('nova_users_profiles_total{result="erased"}')
    event = sent(kafka, "user-erased", anna)
    eventually(lambda: users.metric('nova_users_profiles_total{result="erased"}') == before + 1, within=20)
    for table, column in (
        ("profiles", "user_id"),
        ("preferences", "user_id"),
        ("blocks", "blocker_id"),
        ("blocks", "blocked_id"),
        ("blocks", "deleted_by"),
    ):
        assert database.value(f"SELECT count(*) FROM {table} WHERE {column} = '{anna}'") == 0
    noted = database.value(f"SELECT removed::text FROM nova_erasures WHERE reference = '{event}'")
    assert json.loads(noted) == {"preferences": 1, "blocks": 3, "profiles": 1}
    assert ask(users, ben, f"/profiles/{anna}").status == 404
    # a token of hers goes on for minutes, and makes nothing of hers again
    assert ask(users, anna, "/profiles/me").status == 404
    assert ask(users, anna, "/profiles/me", "PATCH", {"biography": "still here"}).status == 404
    assert ask(users, anna, f"/blocks/{ben}", "PUT").status == 404
    assert ask(users, anna, "/preferences", "PUT", {"theme": "light"}).status == 200
    users.line("preferences not saved")
    assert database.value(f"SELECT count(*) FROM preferences WHERE user_id = '{anna}'") == 0


def test_an_event_that_names_nobody_is_set_aside(users: Service, kafka: Kafka) -> None:
    event = sent(kafka, "user-erased", "who", {"userId": "who"})
    users.line("message set aside", correlation_id=f"heard-{event[:8]}")
    series = f'nova_consumer_dead_lettered_total{{reason="rejected",topic="{PREFIX}user"}}'
    eventually(lambda: users.metric(series) >= 1, within=20)
    with kafka.reader(topic_of(f"{PREFIX}user")) as reader:
        (first, *_) = reader.until(1)
    assert dict(first.headers())["nova-dead-letter-error"] == b"RejectedError: userId: expected a UUID"


def test_leaving_and_coming_at_the_same_time_leave_nothing(database: Database) -> None:
    async def race(pool: Pool, hearing: Hearing, user: uuid.UUID) -> None:
        profiles, message = (
            Profiles(pool),
            Message("user", 0, 0, key=b"", value=json.dumps({"userId": str(user)}).encode()),
        )

        async def leave() -> None:
            async with pool.transaction() as connection:
                await hearing.effects["user-erased"](connection, message)

        await asyncio.gather(profiles.own(user), leave(), profiles.change(user, display_name="A", biography=None))
        assert await profiles.own(user) is None

    async def races() -> None:
        settings = PoolSettings(size=8, threshold=1.0, wait=20)
        async with Pool(database.url, name="races", settings=settings) as pool, PreferenceStore(pool) as store:
            hearing = Hearing(store, UsersMetrics(CollectorRegistry()))
            for _ in range(20):
                await race(pool, hearing, uuid.uuid4())

    asyncio.run(races())


def test_from_signing_up_at_auth_to_leaving(
    users: Service, database: Database, kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    write_key(tmp_path, "2026-01-01")
    accounts = Database(postgres)
    for words in (("outbox", "install"), ("migrate", AUTH_MIGRATIONS)):
        assert accounts.command(*words).returncode == 0
    try:
        with (
            running("auth", "--keys", str(tmp_path), *PORTS, DATABASE_URL=accounts.url) as auth,
            relaying(accounts.url, kafka.url, "--topic-prefix", PREFIX),
        ):
            account = {"email": "anna@example.org", "password": PASSWORD}
            user = auth.call("/register", "POST", account, x_correlation_id="life-1").body["userId"]
            assert users.line("event handled", correlation_id="life-1")["event_type"] == "user-registered"
            assert database.value(f"SELECT count(*) FROM profiles WHERE user_id = '{user}'") == 1
            left = ask(auth, user, "/account", "DELETE", {"password": PASSWORD}, x_correlation_id="life-2")
            assert users.line("event handled", correlation_id="life-2")["event_type"] == "user-erased"
    finally:
        accounts.drop()
    assert database.value(f"SELECT count(*) FROM profiles WHERE user_id = '{user}'") == 0
    assert database.value(f"SELECT count(*) FROM nova_erasures WHERE reference = '{left.body['reference']}'") == 1


# --- as a process


def test_it_counts_and_says_what_it_offers(users: Service) -> None:
    before = users.metric('nova_users_blocks_total{result="set"}')
    ask(users, somebody(users), f"/blocks/{somebody(users)}", "PUT")
    assert users.metric('nova_users_blocks_total{result="set"}') == before + 1
    assert users.metric('db_pool_wait_seconds_count{pool="users"}') > 0
    assert users.metric('nova_data_cache_requests_total{cache="preferences",result="loaded"}') >= 0
    assert "/profiles/{id}" in users.call("/openapi.json").body["paths"]


def test_its_sidecar_hears_how_full_its_pool_is(database: Database, start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), pool_guard=PoolGuardPolicy(mode="Enforce")))
    control = f"http://127.0.0.1:{sidecar.config.admin.control.port}"
    words = (*PORTS, *NOBODYS_KAFKA, "--pool-size", "7")
    with running("users", *words, DATABASE_URL=database.url, NOVA_CONTROL_URL=control):
        eventually(lambda: sidecar.metric("nova_pool_guard_reports_total", result="accepted") > 0, within=10)
        assert sidecar.metric("nova_pool_guard_utilization_ratio", pool="users") < 1


def test_without_its_stores_it_says_so_and_lives() -> None:
    nowhere = "postgresql://users@127.0.0.1:1/users"
    with running("users", *PORTS, *NOBODYS_KAFKA, "--redis", "redis://127.0.0.1:1", DATABASE_URL=nowhere) as service:
        for path in ("/profiles/me", "/preferences"):
            answer = ask(service, str(uuid.uuid4()), path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert service.call("/healthz").status == 200
        with calling(service) as asked, pytest.raises(grpc.RpcError) as away:
            asked.GetProfile(GetProfileRequest(user_id=str(uuid.uuid4())), timeout=5)
        assert away.value.code() is grpc.StatusCode.UNAVAILABLE
        service.line("database awaited")


def test_a_consumer_that_cannot_go_on_ends_the_process_and_says_why(database: Database) -> None:
    role = f"reader_{os.getpid()}"
    database.sql(f"CREATE ROLE {role} LOGIN")
    server = database.url.partition("://")[2].rpartition("@")[2]
    try:
        with running("users", *PORTS, *NOBODYS_KAFKA, DATABASE_URL=f"postgresql://{role}@{server}") as service:
            assert service.line("background work failed")["error"].startswith("InsufficientPrivilegeError")
            assert service.process.wait(timeout=20) == 1
    finally:
        database.sql(f"DROP ROLE {role}")
