"""How long a WebSocket stays: as long as its token, its login and its account, and no more of one user than a few; and
how far back a stream goes."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from websockets.exceptions import InvalidStatus

from nova_data.pool.database import Database as Pool
from nova_services.messaging.sessions import forget
from nova_services.messaging.trimming import trimming
from nova_services.retention import RetentionMetrics, Rule, sweep
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .chatting import begin, chat, closed, hear, messaging, person, prepared, ready, say
from .process import Service
from .telling import Topics

FEW = 3
"""WebSockets of one user."""


@pytest.fixture(scope="module")
def topics(kafka: Kafka) -> Topics:
    return Topics(kafka, "staying", "user")


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    with prepared(postgres) as made:
        yield made


@pytest.fixture(scope="module")
def one(database: Database, topics: Topics) -> Iterator[Service]:
    with messaging(database, "--most-sockets", str(FEW), *topics.words()) as service:
        yield service


def expiring(seconds: float) -> dict[str, str]:
    """What the sidecar says of a token that holds for so long."""
    return {"x-nova-expires": str(int(time.time() + seconds))}


def test_a_websocket_ends_with_its_token_and_the_client_reads_on_with_the_next(one: Service) -> None:
    anna, ben = person(), person()
    conversation = begin(one, anna, ben)
    before = one.metric('nova_messaging_sockets_closed_total{reason="expired"}')
    with ready(one, ben, said=expiring(2)) as his, ready(one, ben, said=expiring(300)) as going_on:
        say(one, anna, conversation, "first")
        after = hear(his)["after"]
        assert closed(his) == (4401, "token expired")
        say(one, anna, conversation, "second")
        assert [hear(going_on)["text"] for _ in range(2)] == ["first", "second"]
    eventually(lambda: one.metric('nova_messaging_sockets_closed_total{reason="expired"}') == before + 1)
    with chat(one, ben, after, said=expiring(300)) as his:
        assert [hear(his).get("text") for _ in range(2)] == [None, "second"]


def test_one_whose_token_has_expired_in_this_moment_is_told_so(one: Service) -> None:
    with chat(one, person(), said=expiring(-5)) as socket:
        assert closed(socket) == (4401, "token expired")


def test_none_goes_on_for_ever(database: Database) -> None:
    with messaging(database, "--longest", "0.2") as service:
        for said in ({}, expiring(300)):
            with chat(service, person(), said=said) as socket:
                assert closed(socket) == (4401, "token expired")


@pytest.mark.parametrize(
    "said", [{"x-nova-expires": "soon"}, {"x-nova-expires": "nan"}, {"x-nova-session": "42"}], ids=str
)
def test_what_auth_says_in_no_token_lets_nobody_in(one: Service, said: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refused, chat(one, person(), said=said):
        pass
    assert refused.value.response.status_code == 401


def test_of_too_many_the_oldest_makes_room(one: Service) -> None:
    anna, ben = person(), person()
    conversation = begin(one, anna, ben)
    with ready(one, anna) as first, ready(one, ben) as his:
        with ready(one, anna) as second, ready(one, anna) as third, ready(one, anna) as fourth:
            assert closed(first) == (4429, "too many")
            say(one, ben, conversation, "hello")
            assert {hear(socket)["text"] for socket in (second, third, fourth, his)} == {"hello"}
        eventually(lambda: one.metric("nova_messaging_sockets") == 1)
    eventually(lambda: one.metric('nova_messaging_sockets_closed_total{reason="crowded"}') == 1)


def test_a_logout_closes_what_came_with_the_login_in_all_processes(
    one: Service, database: Database, topics: Topics
) -> None:
    anna, ended, going_on = person(), str(uuid.uuid4()), str(uuid.uuid4())
    with (
        messaging(database, *topics.words()) as other,
        ready(one, anna, said={"x-nova-session": ended}) as here,
        ready(other, anna, said={"x-nova-session": ended}) as there,
        ready(one, anna, said={"x-nova-session": going_on}) as another,
    ):
        for _ in range(2):  # it may come twice
            topics.tell("user", "sessions-ended", {"userId": anna, "sessionIds": [ended]})
        assert [closed(socket, within=30) for socket in (here, there)] == [(4403, "logged out")] * 2
        with pytest.raises(InvalidStatus) as refused, chat(other, anna, said={"x-nova-session": ended}):
            pass
        assert refused.value.response.status_code == 401
        conversation = begin(one, anna, person())
        say(one, anna, conversation, "still here")
        assert hear(another)["text"] == "still here"
    eventually(lambda: one.metric('nova_messaging_sockets_closed_total{reason="logged_out"}') == 1)
    assert anna not in str(database.rows("SELECT one::text FROM ended_sessions AS one"))


def test_who_is_erased_is_let_go(one: Service, topics: Topics) -> None:
    anna, ben = person(), person()
    with ready(one, anna) as hers, ready(one, ben) as his:
        topics.tell("user", "user-erased", {"userId": anna})
        assert closed(hers, within=30) == (4403, "logged out")
        say(one, ben, begin(one, ben, person()), "still here")
        assert hear(his)["text"] == "still here"


def test_an_event_that_names_no_logins_is_set_aside(one: Service, topics: Topics) -> None:
    event = topics.tell("user", "sessions-ended", {"userId": person()})
    assert one.line("message set aside", correlation_id=event)["reason"] == "rejected"


def test_a_login_that_has_ended_is_forgotten_after_a_day(database: Database) -> None:
    session = uuid.uuid4()
    database.sql(f"INSERT INTO ended_sessions (session_id) VALUES ('{session}')")

    async def look(hours: float) -> bool:
        rule = Rule("ended_sessions", forget)
        async with Pool(database.url) as pool:
            now = datetime.now(UTC) + timedelta(hours=hours)
            await sweep(pool, rule, RetentionMetrics(CollectorRegistry(), [rule]), now=now)
        query = f"SELECT EXISTS (SELECT FROM ended_sessions WHERE session_id = '{session}')"
        return bool(await asyncio.to_thread(database.value, query))

    assert asyncio.run(look(23))
    assert not asyncio.run(look(25))


# ---- streams


def filled(database: Database, service: Service, count: int) -> str:
    """Somebody in whose stream so many messages are."""
    anna, ben = person(), person()
    conversation = begin(service, anna, ben)
    database.sql(f"""
        INSERT INTO messages (conversation_id, position, sender_id, client_id, text)
        SELECT '{conversation}', n, '{anna}', gen_random_uuid(), 'number ' || n FROM generate_series(1, {count}) AS n;
        INSERT INTO deliveries (user_id, place, conversation_id, position)
        SELECT '{ben}', n, '{conversation}', n FROM generate_series(1, {count}) AS n;
        UPDATE streams SET last_place = {count} WHERE user_id = '{ben}';
        UPDATE conversations SET last_position = {count} WHERE id = '{conversation}';
    """)
    return ben


def trimmed(database: Database, kept: int, **bounds: int) -> int:
    """Have streams shortened to so many places; how many places went."""

    async def look() -> int:
        rule = Rule("streams", trimming(kept))
        async with Pool(database.url) as pool:
            return await sweep(
                pool, rule, RetentionMetrics(CollectorRegistry(), [rule]), now=datetime.now(UTC), **bounds
            )

    return asyncio.run(look())


def extent(database: Database, user: str) -> tuple[int, int, int]:
    """Where a stream begins, its first place, and how many there are."""
    query = (
        "SELECT begins_after, min(place), count(*) FROM streams JOIN deliveries USING (user_id) WHERE user_id = '%s'"
    )
    ((begin, first, count),) = database.rows(query % user + " GROUP BY begins_after")
    return begin, first, count


def test_a_stream_goes_back_so_far_and_a_client_is_told_where_it_begins(one: Service, database: Database) -> None:
    ben = filled(database, one, 300)
    assert trimmed(database, 100) >= 200
    assert extent(database, ben) == (200, 201, 100)
    assert trimmed(database, 100) == 0
    with chat(one, ben, 5) as his:
        assert hear(his) == {"type": "ready", "after": 200}
        assert hear(his)["text"] == "number 201"
    with chat(one, ben, 250) as his:
        assert hear(his) == {"type": "ready", "after": 250}
        assert hear(his)["text"] == "number 251"
    assert database.value("SELECT count(*) FROM messages WHERE text = 'number 1'") >= 1  # what was said stays


def test_who_is_behind_while_the_stream_is_shortened_is_told_so(one: Service, database: Database) -> None:
    ben = filled(database, one, 0)
    with ready(one, ben) as his:
        conversation = one.call("/conversations", x_nova_subject=ben).body["conversations"][0]["conversationId"]
        database.sql(f"""
            INSERT INTO messages (conversation_id, position, sender_id, client_id, text)
            SELECT '{conversation}', n, '{ben}', gen_random_uuid(), 'number ' || n FROM generate_series(1, 10) AS n;
            INSERT INTO deliveries (user_id, place, conversation_id, position)
            SELECT '{ben}', n, '{conversation}', n FROM generate_series(8, 10) AS n;
            UPDATE streams SET last_place = 10, begins_after = 7 WHERE user_id = '{ben}';
        """)
        assert hear(his) == {"type": "ready", "after": 7}
        assert [hear(his)["after"] for _ in range(3)] == [8, 9, 10]


def test_streams_are_shortened_some_places_at_a_time(one: Service, database: Database) -> None:
    trimmed(database, 50)
    ben = filled(database, one, 100)
    assert trimmed(database, 50, batch=200, most=1) == 20  # a tenth of a batch of each stream
    assert extent(database, ben)[0] == 20
    assert trimmed(database, 50, batch=200) == 30


def test_a_stream_that_somebody_delivers_to_is_left_for_later(one: Service, database: Database) -> None:
    trimmed(database, 50)
    ben = filled(database, one, 60)

    async def meanwhile(connection: Any) -> int:
        async with connection.transaction():
            await connection.execute("SELECT FROM streams WHERE user_id = $1 FOR NO KEY UPDATE", ben)
            return await asyncio.to_thread(trimmed, database, 50)

    assert database.do(meanwhile) == 0
    assert trimmed(database, 50) == 10
