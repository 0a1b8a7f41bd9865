"""Somebody is erased: what content has of them is gone for good, whatever happens meanwhile."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .social import Content, Person, prepared, serving, tell
from .userspeer import UsersPeer


@pytest.fixture(scope="module")
def users() -> Iterator[UsersPeer]:
    peer = UsersPeer()
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def prefix(kafka: Kafka) -> str:
    made = f"erased-{uuid.uuid4().hex[:8]}."
    kafka.make_topic(f"{made}user")
    return made


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = prepared(Database(postgres))
    yield made
    made.drop()


@pytest.fixture(scope="module")
def content(database: Database, kafka: Kafka, users: UsersPeer, prefix: str) -> Iterator[Content]:
    with serving(database, kafka, prefix, users.address) as service:
        yield service


def erase(kafka: Kafka, prefix: str, person: str, identity: str = "") -> str:
    """Tell that a person is erased; the reference of the record."""
    identity = tell(kafka, f"{prefix}user", "user-erased", {"userId": person}, key=person, identity=identity)
    return f"user-erased/{identity}"


def finished(database: Database, reference: str) -> list[dict[str, int]]:
    """Records of this erasure that came to its end."""
    if not database.value("SELECT to_regclass('nova_erasures') IS NOT NULL"):
        return []
    query = f"SELECT removed::text FROM nova_erasures WHERE reference = '{reference}' AND finished_at IS NOT NULL"
    return [json.loads(removed) for (removed,) in database.rows(query)]


def left(database: Database, person: str) -> int:
    """Rows in which a person stands, deleted ones included."""
    query = " UNION ALL ".join(
        f"SELECT count(*) AS n FROM {table} AS r WHERE r::text LIKE '%{person}%'"
        for table in ("posts", "comments", "follows")
    )
    return int(database.value(f"SELECT sum(n)::bigint FROM ({query}) AS each"))


def test_nothing_is_left_and_others_hear_of_it(content: Content, database: Database, kafka: Kafka, prefix: str) -> None:
    anna, ben = content.person(), content.person()
    post, gone, other = anna.post(), anna.post("deleted before"), ben.post()
    ben.follow(anna)
    anna.follow(ben)
    under = ben.call("POST", f"/posts/{post['postId']}/comments", {"text": "under hers"}).body
    hers = anna.call("POST", f"/posts/{other['postId']}/comments", {"text": "hers"}).body
    assert anna.call("DELETE", f"/posts/{gone['postId']}").status == 204
    removed_by_anna = ben.call("POST", f"/posts/{post['postId']}/comments", {"text": "unwanted"}).body
    assert anna.call("DELETE", f"/comments/{removed_by_anna['commentId']}").status == 204

    reference = erase(kafka, prefix, anna.id)
    (removed,) = eventually(lambda: finished(database, reference), within=20)
    assert removed == {"posts": 2, "comments": 3, "follows": 2}
    assert left(database, anna.id) == 0
    assert ben.feed() == []
    assert ben.sees(other)
    assert ben.call("GET", f"/posts/{other['postId']}/comments").body["comments"] == []
    told = {
        (kind, aggregate)
        for kind, aggregate in database.rows(
            "SELECT event_type, aggregate_id FROM outbox_events WHERE event_type LIKE '%-deleted' OR"
            " event_type = 'user-unfollowed'"
        )
    }
    assert told >= {
        ("post-deleted", post["postId"]),
        ("comment-deleted", under["commentId"]),
        ("comment-deleted", hers["commentId"]),
        ("user-unfollowed", ben.id),
        ("user-unfollowed", anna.id),
    }
    correlations = database.value(
        f"SELECT count(*) FROM outbox_events WHERE aggregate_id = '{post['postId']}' AND event_type = 'post-deleted'"
    )
    assert correlations == 1


def test_whose_account_is_closed_writes_no_more_and_the_event_may_come_again(
    content: Content, database: Database, kafka: Kafka, prefix: str
) -> None:
    anna, ben = content.person(), content.person()
    anna.post()
    reference = erase(kafka, prefix, anna.id)
    eventually(lambda: finished(database, reference), within=20)
    again = erase(kafka, prefix, anna.id, reference.rpartition("/")[2])
    assert again == reference
    for method, path, body in (
        ("POST", "/posts", {"text": "still here"}),
        ("PUT", f"/follows/{ben.id}", None),
    ):
        answer = anna.call(method, path, body)
        assert (answer.status, answer.body) == (403, {"error": "the account is closed"})
    assert ben.call("PUT", f"/follows/{anna.id}").status == 403
    marker = erase(kafka, prefix, str(uuid.uuid4()))
    eventually(lambda: finished(database, marker), within=20)
    assert len(finished(database, reference)) == 1


def test_what_is_written_at_the_same_time_is_refused_or_erased(
    content: Content, database: Database, kafka: Kafka, prefix: str
) -> None:
    anna = content.person()

    def write(_: int) -> int:
        return anna.call("POST", "/posts", {"text": "quick"}).status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(write, range(4))) == {201}
        under_way = pool.map(write, range(60))
        reference = erase(kafka, prefix, anna.id)
        statuses = list(under_way)
    eventually(lambda: finished(database, reference), within=20)
    assert set(statuses) <= {201, 403}
    assert write(0) == 403
    assert left(database, anna.id) == 0


def test_one_who_is_killed_halfway_leaves_it_to_the_next(postgres: Postgres, kafka: Kafka, users: UsersPeer) -> None:
    own = prepared(Database(postgres))
    prefix = f"killed-{uuid.uuid4().hex[:8]}."
    kafka.make_topic(f"{prefix}user")
    person = str(uuid.uuid4())
    own.sql(
        "INSERT INTO posts (id, user_id, text, visibility) SELECT gen_random_uuid(),"
        f" '{person}', 'many', 'public' FROM generate_series(1, 4000)"
    )

    def undeleted() -> int:
        return int(own.value("SELECT count(*) FROM active_posts"))

    with serving(own, kafka, prefix, users.address) as first:
        reference = erase(kafka, prefix, person)
        eventually(lambda: undeleted() < 4000, within=30, every=0.005)
        first.service.process.kill()
        first.service.process.wait()
        assert not finished(own, reference)
    with serving(own, kafka, prefix, users.address):
        assert eventually(lambda: finished(own, reference), within=40)[0]["posts"] == 4000
    assert left(own, person) == 0
    told = "SELECT count(*), count(DISTINCT aggregate_id) FROM outbox_events WHERE event_type = 'post-deleted'"
    assert own.rows(told) == [(4000, 4000)]
    own.drop()


def test_an_event_without_a_user_is_put_aside(content: Content, kafka: Kafka, prefix: str) -> None:
    person: Person = content.person()
    tell(kafka, f"{prefix}user", "user-erased", {"user": "nobody"}, key="nobody")
    series = f'nova_consumer_dead_lettered_total{{reason="rejected",topic="{prefix}user"}}'
    eventually(lambda: content.metric(series) == 1, within=20)
    assert person.call("POST", "/posts", {"text": "others go on"}).status == 201


@pytest.mark.parametrize("identity", ["not a reference: 'x'; --", "k" * 200, "ключ"])
def test_an_event_of_any_name_is_carried_out(
    content: Content, database: Database, kafka: Kafka, prefix: str, identity: str
) -> None:
    """Whoever writes to the topic gives events ids, and the record's references have a form of their own."""
    anna, ben = content.person(), content.person()
    anna.post()
    ben.post()
    erase(kafka, prefix, anna.id, identity)
    reference = erase(kafka, prefix, ben.id)
    eventually(lambda: finished(database, reference), within=20)
    eventually(lambda: left(database, anna.id) == 0, within=20)


def test_one_that_cannot_be_erased_keeps_nobody_else_waiting(
    content: Content, database: Database, kafka: Kafka, prefix: str
) -> None:
    stuck = uuid.uuid4()
    database.sql(f"INSERT INTO closed_accounts VALUES ('{stuck}', 'no reference at all', now() - interval '1 hour')")
    anna = content.person()
    anna.post()
    reference = erase(kafka, prefix, anna.id)
    eventually(lambda: finished(database, reference), within=20)
    database.sql(f"DELETE FROM closed_accounts WHERE user_id = '{stuck}'")


def test_one_whose_rows_postgresql_does_not_give_keeps_nobody_else_waiting(
    content: Content, database: Database, kafka: Kafka, prefix: str
) -> None:
    stuck, anna = content.person(), content.person()
    stuck.post()
    anna.post()
    database.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE deadlock_detected; END $$;"
        f" CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON posts FOR EACH ROW WHEN (OLD.user_id = '{stuck.id}')"
        " EXECUTE FUNCTION refuse()"
    )
    first = erase(kafka, prefix, stuck.id)
    eventually(lambda: closed(database, stuck.id), within=20)
    try:
        second = erase(kafka, prefix, anna.id)
        eventually(lambda: finished(database, second), within=20)
        assert not finished(database, first)
    finally:
        database.sql("DROP TRIGGER refuse ON posts; DROP FUNCTION refuse")
    eventually(lambda: finished(database, first), within=20)


def closed(database: Database, person: str) -> bool:
    return bool(database.value(f"SELECT EXISTS (SELECT FROM closed_accounts WHERE user_id = '{person}')"))
