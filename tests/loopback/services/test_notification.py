"""notification as it runs in a pod: a process, a real PostgreSQL with its migrations, a real Kafka."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from nova.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from prometheus_client import CollectorRegistry

from nova_data.consumer.dead_letters import topic_of
from nova_data.pool.database import Database as Pool
from nova_services.notification.keeping import rules
from nova_services.retention import RetentionMetrics, sweep
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .chatting import person
from .process import Service, running
from .telling import Topics

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/notification/migrations"
PORTS = ("--grpc-port", "0", "--metrics-port", "0")


@pytest.fixture(scope="module")
def topics(kafka: Kafka) -> Topics:
    return Topics(kafka, "notification", "user", "follow", "comment", "message")


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = Database(postgres)
    done = made.command("migrate", MIGRATIONS)
    assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@pytest.fixture(scope="module")
def service(database: Database, topics: Topics) -> Iterator[Service]:
    with running("notification", *PORTS, *topics.words(), DATABASE_URL=database.url) as started:
        started.line("partitions assigned")
        yield started


@pytest.fixture
def user(service: Service, topics: Topics) -> str:
    """Somebody who has been welcomed."""
    somebody = person()
    happen(service, topics, "user", "user-registered", {"userId": somebody})
    return somebody


def happen(service: Service, topics: Topics, topic: str, kind: str, payload: dict[str, Any], *, event: str = "") -> str:
    """An event, which is handled when this returns; its id is its correlation id."""
    identity = topics.tell(topic, kind, payload, event=event)
    service.line("event handled", correlation_id=identity, event_type=kind)
    return identity


def told(service: Service, user: str, query: str = "") -> Any:
    """What the user is told."""
    answer = service.call(f"/notifications{query}", x_nova_subject=user)
    assert answer.status == 200, answer
    return answer.body


def kinds(service: Service, user: str) -> list[str]:
    """Newest first."""
    return [one["kind"] for one in told(service, user)["notifications"]]


def test_each_event_tells_whom_it_concerns(service: Service, topics: Topics, user: str) -> None:
    other, post, conversation = person(), person(), person()
    happen(service, topics, "follow", "user-followed", {"followerId": other, "followeeId": user})
    commented = {"commentId": person(), "postId": post, "postAuthorId": user, "authorId": other}
    happen(service, topics, "comment", "comment-created", commented)
    sent = {"conversationId": conversation, "position": 1, "senderId": other, "awayIds": [user]}
    happen(service, topics, "message", "message-sent", sent)
    body = told(service, user)
    found = [(one["kind"], one["actorId"], one["subjectId"], one["read"]) for one in body["notifications"]]
    assert found == [
        ("KIND_MESSAGED", other, conversation, False),
        ("KIND_COMMENTED", other, post, False),
        ("KIND_FOLLOWED", other, None, False),
        ("KIND_WELCOME", None, None, False),
    ]
    assert body["unread"] == 4
    assert told(service, other) == {"notifications": [], "nextPageToken": "", "unread": 0}


def test_nobody_is_told_of_oneself(service: Service, topics: Topics, user: str) -> None:
    own = {"commentId": person(), "postId": person(), "postAuthorId": user, "authorId": user}
    happen(service, topics, "comment", "comment-created", own)
    sent = {"conversationId": person(), "position": 1, "senderId": user, "awayIds": [user]}
    happen(service, topics, "message", "message-sent", sent)
    assert kinds(service, user) == ["KIND_WELCOME"]


def test_an_event_that_comes_twice_tells_once(service: Service, topics: Topics, database: Database, user: str) -> None:
    follow = {"followerId": person(), "followeeId": user}
    event = happen(service, topics, "follow", "user-followed", follow)
    first = told(service, user)["notifications"][0]["notificationId"]
    topics.tell("follow", "user-followed", follow, event=event)
    assert service.line("event handled", correlation_id=event)["repeated"] is True
    database.sql("DELETE FROM dedup_keys")  # even where it is forgotten that it came
    happen(service, topics, "follow", "user-followed", follow, event=event)
    assert kinds(service, user) == ["KIND_FOLLOWED", "KIND_WELCOME"]
    assert told(service, user)["notifications"][0]["notificationId"] == first


def test_while_one_is_unread_the_same_again_adds_nothing(service: Service, topics: Topics, user: str) -> None:
    other, conversation = person(), person()

    def write(position: int) -> None:
        sent = {"conversationId": conversation, "position": position, "senderId": other, "awayIds": [user]}
        happen(service, topics, "message", "message-sent", sent)

    write(1)
    write(2)
    assert kinds(service, user) == ["KIND_MESSAGED", "KIND_WELCOME"]
    assert service.call("/notifications/read", "POST", x_nova_subject=user).body == {"unread": 0}
    write(3)
    assert [one["read"] for one in told(service, user)["notifications"]] == [False, True, True]


def test_reading_one_reads_all_older_ones(service: Service, topics: Topics, user: str) -> None:
    for _ in range(3):
        happen(service, topics, "follow", "user-followed", {"followerId": person(), "followeeId": user})
    second = told(service, user)["notifications"][1]["notificationId"]
    for _ in range(2):  # may be repeated
        answer = service.call(f"/notifications/{second}/read", "POST", x_nova_subject=user)
        assert (answer.status, answer.body) == (200, {"unread": 1})
    assert [one["read"] for one in told(service, user)["notifications"]] == [False, True, True, True]
    assert service.call(f"/notifications/{second}/read", "POST", x_nova_subject=person()).status == 404
    assert service.call("/notifications/x/read", "POST", x_nova_subject=user).status == 400
    assert service.call("/notifications").status == 401


def test_they_come_in_pages(service: Service, topics: Topics, user: str) -> None:
    actors = [person() for _ in range(4)]
    for actor in actors:
        happen(service, topics, "follow", "user-followed", {"followerId": actor, "followeeId": user})
    first = told(service, user, "?pageSize=3")
    second = told(service, user, f"?pageSize=3&pageToken={first['nextPageToken']}")
    found = [one["actorId"] for one in first["notifications"] + second["notifications"]]
    assert (found, second["nextPageToken"]) == ([*reversed(actors), None], "")


def test_others_read_them_by_grpc(service: Service, topics: Topics, user: str) -> None:
    happen(service, topics, "follow", "user-followed", {"followerId": person(), "followeeId": user})
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        stub = notifications_pb2_grpc.NotificationsServiceStub(channel)
        asked = notifications_pb2.ListNotificationsRequest(user_id=user, page_size=1)
        first = stub.ListNotifications(asked, timeout=5)
        asked.page_token = first.next_page_token
        second = stub.ListNotifications(asked, timeout=5)
        found = [one.kind for one in (*first.notifications, *second.notifications)]
        assert found == [notifications_pb2.KIND_FOLLOWED, notifications_pb2.KIND_WELCOME]
        assert (first.unread, second.next_page_token, second.notifications[0].actor_id) == (2, "", "")
        newest = first.notifications[0].notification_id
        marking = notifications_pb2.MarkReadRequest(user_id=user, notification_id=newest)
        assert stub.MarkRead(marking, timeout=5).unread == 0
        marking.user_id = person()
        with pytest.raises(grpc.RpcError) as refused:
            stub.MarkRead(marking, timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_line_of_an_event_has_the_id_of_the_request_that_caused_it(service: Service, topics: Topics) -> None:
    topics.tell("user", "user-registered", {"userId": person()}, correlation="signup-7")
    line = service.line("event handled", correlation_id="signup-7")
    assert (line["service"], line["event_type"], line["repeated"]) == ("notification", "user-registered", False)


def test_an_event_that_says_nothing_useful_is_set_aside(service: Service, topics: Topics, kafka: Kafka) -> None:
    event = topics.tell("follow", "user-followed", {"followerId": "nobody"})
    line = service.line("message set aside", correlation_id=event)
    assert (line["reason"], line["attempts"]) == ("rejected", 1)
    series = f'nova_consumer_dead_lettered_total{{reason="rejected",topic="{topics.prefix}follow"}}'
    eventually(lambda: service.metric(series) == 1, within=20)
    with kafka.reader(topic_of(f"{topics.prefix}follow")) as reader:
        (message,) = reader.until(1)
    assert dict(message.headers())["idempotency-key"] == event.encode()


def test_who_is_erased_is_told_of_nothing_and_nobody_of_them(
    service: Service, topics: Topics, database: Database, user: str
) -> None:
    other = person()
    happen(service, topics, "follow", "user-followed", {"followerId": user, "followeeId": other})
    event = happen(service, topics, "user", "user-erased", {"userId": user})
    late = {"commentId": person(), "postId": person(), "postAuthorId": other, "authorId": user}
    happen(service, topics, "comment", "comment-created", late)  # whose topic was behind
    happen(service, topics, "follow", "user-followed", {"followerId": other, "followeeId": user})
    assert kinds(service, other) == kinds(service, user) == []
    assert user not in str(database.rows("SELECT one::text FROM notifications AS one"))
    query = f"SELECT removed->>'notifications' FROM nova_erasures WHERE reference = '{event}'"
    assert database.value(query) == "2"


def test_it_counts_what_people_were_told_and_read(service: Service, topics: Topics) -> None:
    def welcomes(name: str) -> float:
        return service.metric(f'nova_notification_{name}_total{{kind="welcome"}}')

    before, spared, read = welcomes("notifications"), welcomes("spared"), service.metric("nova_notification_read_total")
    user = person()
    for _ in range(2):  # another event, the same person
        happen(service, topics, "user", "user-registered", {"userId": user})
    eventually(lambda: (welcomes("notifications"), welcomes("spared")) == (before + 1, spared + 1))
    service.call("/notifications/read", "POST", x_nova_subject=user)
    assert service.metric("nova_notification_read_total") == read + 1


# ---- how long they are kept

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def old(postgres: Postgres) -> Iterator[Database]:
    """A database with notifications of many days, named after them: of each day one that is unread (`u`), and one that
    was read on the same day (`r`)."""
    made = Database(postgres)
    done = made.command("migrate", MIGRATIONS)
    assert done.returncode == 0, done.stderr
    for days in (1, 29, 31, 89, 91):
        made.sql(f"""
            INSERT INTO notifications (id, user_id, kind, subject_id, created_at, read_at) VALUES
            (gen_random_uuid(), gen_random_uuid(), 'u{days}', NULL, '{NOW - timedelta(days=days)}', NULL),
            (gen_random_uuid(), gen_random_uuid(), 'r{days}', NULL, '{NOW - timedelta(days=days)}',
             '{NOW - timedelta(days=days)}')
        """)
    yield made
    made.drop()


def kept(database: Database) -> set[str]:
    return {kind for (kind,) in database.rows("SELECT kind FROM notifications")}


def swept(database: Database, **bounds: int) -> list[int]:
    """What each rule removes at `NOW`."""

    async def look() -> list[int]:
        found = rules()
        metrics = RetentionMetrics(CollectorRegistry(), found)
        async with Pool(database.url) as pool:
            return [await sweep(pool, rule, metrics, now=NOW, **bounds) for rule in found]

    return asyncio.run(look())


def test_those_that_were_read_are_kept_for_a_month_and_the_others_for_three(old: Database) -> None:
    assert swept(old) == [3, 1]
    assert kept(old) == {"u1", "u29", "u31", "u89", "r1", "r29"}
    assert swept(old) == [0, 0]


def test_they_are_removed_some_at_a_time_the_oldest_first(old: Database) -> None:
    assert swept(old, batch=2, most=1) == [2, 1]
    assert kept(old) >= {"u89", "r31"}
    assert swept(old, batch=2, most=1) == [1, 0]


def test_one_process_removes_them_at_a_time(old: Database) -> None:
    async def meanwhile(connection: Any) -> list[int]:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext('read'))", 0x52657465)
            return await asyncio.to_thread(swept, old)

    assert old.do(meanwhile) == [0, 2]
    assert swept(old) == [2, 0]


def test_who_holds_the_table_is_not_waited_for(old: Database) -> None:
    async def meanwhile(connection: Any) -> None:
        async with connection.transaction():
            await connection.execute("LOCK TABLE notifications IN EXCLUSIVE MODE")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await asyncio.to_thread(swept, old)

    old.do(meanwhile)
    assert swept(old) == [3, 1]


def test_the_process_removes_them_by_itself_and_counts(old: Database, topics: Topics) -> None:
    words = ("--brokers", topics.url, "--topic-prefix", f"{uuid.uuid4().hex[:8]}.", "--sweep-every", "1")
    days = ("--keep-days", "36500", "--keep-read-days", "36500")
    old.sql("UPDATE notifications SET read_at = '1900-01-01' WHERE kind = 'r1'")
    with running("notification", *PORTS, *words, *days, DATABASE_URL=old.url) as started:
        for what in ("read", "old"):
            assert started.metric(f'nova_retention_failures_total{{what="{what}"}}') == 0
        assert started.line("rows expired", what="read")["removed"] == 1
        assert started.metric('nova_retention_removed_total{what="read"}') == 1
    assert kept(old) == {f"{one}{days}" for one in "ur" for days in (1, 29, 31, 89, 91)} - {"r1"}


def test_without_its_database_it_says_so_and_lives(topics: Topics) -> None:
    nowhere = "postgresql://notification@127.0.0.1:1/notification"
    words = ("--brokers", topics.url, "--topic-prefix", f"{uuid.uuid4().hex[:8]}.")
    with running("notification", *PORTS, *words, DATABASE_URL=nowhere) as started:
        answer = started.call("/notifications", x_nova_subject=person())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert started.call("/healthz").status == 200
