"""messaging as it runs in a pod: two processes, a real PostgreSQL with its migrations, and a real Redis."""

import asyncio
import json
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from nova.messages.v1 import messages_pb2, messages_pb2_grpc
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from nova_data.pool.database import Database as Pool
from nova_services.messaging.conversations import Conversations
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.redisservers import Server as Redis
from tests.loopback.support.waiting import eventually

from .chatting import Frame, begin, chat, hear, messaging, person, prepared, ready, say, send
from .process import Answer, Service
from .telling import Topics

NOBODY = "00000000-0000-4000-8000-000000000000"
"""The same in each process that collects the tests."""

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    with prepared(postgres) as made:
        yield made


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def one(database: Database, redis: Redis) -> Iterator[Service]:
    with messaging(database, redis=redis.port) as service:
        yield service


@pytest.fixture(scope="module")
def other(database: Database, redis: Redis) -> Iterator[Service]:
    """Another process of the same."""
    with messaging(database, redis=redis.port) as service:
        yield service


@pytest.fixture
def pair(one: Service) -> tuple[str, str, str]:
    """Two people, and their conversation."""
    anna, ben = person(), person()
    return anna, ben, begin(one, anna, ben)


Pair = tuple[str, str, str]


def test_a_message_comes_to_who_is_connected_to_another_process(one: Service, other: Service, pair: Pair) -> None:
    anna, ben, conversation = pair
    with ready(one, anna) as hers, ready(other, ben) as his:
        client = send(hers, conversation, "Hello Ben, ünïcödé 🎉")
        frames = {frame["type"]: frame for frame in (hear(hers), hear(hers))}
        assert frames["sent"]["clientId"] == frames["message"]["clientId"] == client
        told = hear(his, within=1.5)  # sooner than the next look into PostgreSQL may be: Redis has told of it
        assert told == frames["message"]
        assert (told["text"], told["senderId"], told["position"]) == ("Hello Ben, ünïcödé 🎉", anna, 1)


def test_who_comes_back_reads_on_from_where_it_was(one: Service, other: Service, pair: Pair) -> None:
    anna, ben, conversation = pair
    with ready(one, ben) as his:
        say(one, anna, conversation, "first")
        after = hear(his)["after"]
    for text in ("second", "third"):
        say(other, anna, conversation, text)
    with chat(other, ben, after) as his:
        assert hear(his) == {"type": "ready", "after": after}
        assert [hear(his)["text"] for _ in range(2)] == ["second", "third"]
    with chat(one, ben, 0) as his:
        assert [hear(his).get("text") for _ in range(4)] == [None, "first", "second", "third"]


def test_who_has_read_nothing_begins_at_the_present(one: Service, pair: Pair) -> None:
    anna, ben, conversation = pair
    say(one, anna, conversation, "before")
    with chat(one, ben) as his:
        assert hear(his) == {"type": "ready", "after": 1}
        say(one, anna, conversation, "after")
        assert hear(his)["text"] == "after"


def test_a_stream_goes_over_all_conversations_in_one_order(one: Service, other: Service) -> None:
    anna, ben, carl = person(), person(), person()
    conversations = [begin(one, anna, ben), begin(one, anna, carl), begin(one, ben, carl, anna)]

    def write(number: int) -> int:
        sender = (anna, anna, carl)[number % 3]
        return say((one, other)[number % 2], sender, conversations[number % 3], str(number)).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(60))) == {201}
    with ready(one, anna, 0) as hers:
        heard = [hear(hers) for _ in range(60)]
    assert [frame["after"] for frame in heard] == list(range(1, 61))
    for conversation in conversations:
        positions = [frame["position"] for frame in heard if frame["conversationId"] == conversation]
        assert positions == list(range(1, 21))


def test_a_message_that_comes_twice_is_one(one: Service, other: Service, pair: Pair) -> None:
    anna, ben, conversation = pair
    client = str(uuid.uuid4())
    first, second = (say(service, anna, conversation, "once", client) for service in (one, other))
    assert (first.status, second.status) == (201, 200)
    assert first.body == second.body
    with ready(one, anna) as hers:
        send(hers, conversation, "once", client)
        assert hear(hers)["position"] == first.body["position"]
    with ThreadPoolExecutor(6) as pool:
        again = str(uuid.uuid4())
        answers = list(pool.map(lambda _: say(one, anna, conversation, "at once", again), range(6)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    assert say(one, ben, conversation, "another one's", client).status == 201  # a client id is its sender's


def test_a_conversation_is_its_members_own(one: Service, pair: Pair) -> None:
    anna, _, conversation = pair
    stranger = person()
    assert say(one, stranger, conversation, "hello").status == 404
    path = f"/conversations/{conversation}/messages"
    assert one.call(path, x_nova_subject=stranger).status == 404
    assert one.call(path).status == 401
    with ready(one, stranger) as socket:
        client = send(socket, conversation, "hello")
        assert hear(socket) == {
            "type": "error",
            "error": "there is no such conversation of yours",
            "clientId": client,
        }
    assert one.call(path, x_nova_subject=anna).body == {"messages": [], "nextPageToken": ""}


def test_lists_come_in_pages(one: Service, pair: Pair) -> None:
    anna, ben, conversation = pair
    for number in range(5):
        say(one, anna, conversation, str(number))
    path = f"/conversations/{conversation}/messages"
    first = one.call(f"{path}?pageSize=3&after=1", x_nova_subject=ben).body
    assert [message["text"] for message in first["messages"]] == ["1", "2", "3"]
    second = one.call(f"{path}?pageSize=3&pageToken={first['nextPageToken']}", x_nova_subject=ben).body
    assert ([message["text"] for message in second["messages"]], second["nextPageToken"]) == (["4"], "")
    further = begin(one, ben, anna, person())
    page = one.call("/conversations?pageSize=1", x_nova_subject=anna).body
    assert page["conversations"][0]["conversationId"] == further
    page = one.call(f"/conversations?pageToken={page['nextPageToken']}", x_nova_subject=anna).body
    (found,) = page["conversations"]
    assert (found["conversationId"], found["lastPosition"]) == (conversation, 5)
    assert sorted(found["members"]) == sorted([anna, ben])


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("no json", "JSON is malformed"),
        ({"type": "shout"}, "Invalid value 'shout' - at `$.type`"),
        ({"type": "send", "conversationId": "x"}, "$.conversationId"),
        ({"type": "send", "conversationId": str(uuid.uuid4()), "clientId": str(uuid.uuid4()), "text": ""}, "$.text"),
        (b"binary", "expected text"),
    ],
)
def test_a_wrong_frame_is_answered_and_the_websocket_goes_on(one: Service, pair: Pair, frame: Any, says: str) -> None:
    anna, _, conversation = pair
    with ready(one, anna) as hers:
        hers.send(json.dumps(frame) if isinstance(frame, dict) else frame)
        answer = hear(hers)
        assert (answer["type"], says in answer["error"]) == ("error", True), answer
        send(hers, conversation, "and on")
        assert {hear(hers)["type"], hear(hers)["type"]} == {"sent", "message"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/conversations", {"members": []}, "$.members"),
        ("/conversations", {"members": ["x"]}, "$.members[0]"),
        ("/conversations/x/messages", {"clientId": str(uuid.uuid4()), "text": "y"}, "id: expected a UUID"),
        (f"/conversations/{NOBODY}/messages", {"clientId": str(uuid.uuid4()), "text": "\0"}, "$.text"),
    ],
)
def test_what_is_wrong_is_answered_with_its_field(one: Service, path: str, body: Any, says: str) -> None:
    answer = one.call(path, "POST", body, x_nova_subject=person())
    assert (answer.status, says in answer.body["error"]) == (400, True), answer


def test_a_conversation_with_oneself_alone_is_none(one: Service) -> None:
    anna = person()
    answer = one.call("/conversations", "POST", {"members": [anna]}, x_nova_subject=anna)
    assert (answer.status, answer.body["error"][:8]) == (400, "members:")


def test_where_to_begin_must_be_a_number(one: Service) -> None:
    with pytest.raises(InvalidStatus) as refused, chat(one, person(), "soon"):  # type: ignore[arg-type]  # the wrong type is what is tried
        pass
    assert refused.value.response.status_code == 400


def test_an_event_tells_who_was_away_and_nothing_of_what_was_said(one: Service, database: Database, pair: Pair) -> None:
    anna, ben, _ = pair
    carl = person()
    conversation = begin(one, anna, ben, carl)
    with ready(one, ben):
        say(one, anna, conversation, "a secret", x_correlation_id="said-1")
    columns = "event_type, topic, payload::text, headers->>'correlation-id'"
    query = f"SELECT {columns} FROM outbox_events WHERE aggregate_id = '{conversation}'"
    ((kind, topic, payload, correlation),) = database.rows(query)
    assert (kind, topic, correlation) == ("message-sent", "message", "said-1")
    told = json.loads(payload)
    assert (told["senderId"], told["awayIds"], told["position"]) == (anna, [carl], 1)
    assert "secret" not in payload


def test_without_redis_messages_come_later_and_come(database: Database) -> None:
    with messaging(database) as here, messaging(database) as there:
        anna, ben = person(), person()
        conversation = begin(here, anna, ben)
        with ready(there, ben) as his:
            for number in range(3):
                say(here, anna, conversation, str(number))
            assert [hear(his)["text"] for _ in range(3)] == ["0", "1", "2"]


def test_a_redis_that_comes_back_is_used_again(database: Database, tmp_path: Any) -> None:
    server = Redis(tmp_path)
    try:
        with messaging(database, redis=server.port) as here, messaging(database, redis=server.port) as there:
            anna, ben = person(), person()
            conversation = begin(here, anna, ben)
            with ready(there, ben) as his:
                server.stop()
                there.line("wake-ups lost")
                say(here, anna, conversation, "while it is away")
                assert hear(his)["text"] == "while it is away"
                server.start()
                eventually(lambda: server.command("PUBSUB", "NUMSUB", "nova:messaging:wakeups")[1] == 2, within=10)
                say(here, anna, conversation, "again")
                assert hear(his, within=1.5)["text"] == "again"
    finally:
        server.stop()


def test_a_full_room_in_which_all_talk_at_once_leaves_the_pool_room(database: Database) -> None:
    with messaging(database) as service, ExitStack() as stack:
        people = [person() for _ in range(40)]
        conversation = begin(service, people[0], *people[1:])
        sockets = [stack.enter_context(ready(service, user)) for user in people]
        for socket in sockets:
            send(socket, conversation, "all at once")
        for socket in sockets:
            frames = [hear(socket) for _ in range(41)]
            assert [frame["after"] for frame in frames if frame["type"] == "message"] == list(range(1, 41))
            assert [frame["type"] for frame in frames].count("sent") == 1


def test_a_client_that_does_not_read_is_closed_and_reads_on_when_it_is_back(database: Database) -> None:
    with messaging(database, "--patience", "1") as service:
        anna, ben = person(), person()
        conversation = begin(service, anna, ben)
        count = 1500
        database.sql(f"""
            INSERT INTO messages (conversation_id, position, sender_id, client_id, text)
            SELECT '{conversation}', n, '{anna}', gen_random_uuid(), repeat('x', 4000) || n
            FROM generate_series(1, {count}) AS n;
            INSERT INTO deliveries (user_id, place, conversation_id, position)
            SELECT '{ben}', n, '{conversation}', n FROM generate_series(1, {count}) AS n;
            UPDATE streams SET last_place = {count} WHERE user_id = '{ben}';
            UPDATE conversations SET last_position = {count} WHERE id = '{conversation}';
        """)
        with chat(service, ben, 0, max_queue=1) as his:  # reads two frames ahead, and then leaves the rest in TCP
            line = service.line("request", path="/chat")
        assert 1 <= line["duration_ms"] / 1000 < 20
        assert service.metric('nova_messaging_sockets_closed_total{reason="slow"}') == 1
        heard: list[int] = []
        with ready(service, ben, 0) as his:
            while len(heard) < count:
                heard.append(hear(his)["after"])
        assert heard == list(range(1, count + 1))


def test_a_process_that_ends_answers_what_it_has_and_closes_in_good_order(database: Database) -> None:
    with messaging(database) as service:
        anna, ben = person(), person()
        conversation = begin(service, anna, ben)
        with ready(service, anna) as hers, ready(service, ben) as his:
            sent = [send(hers, conversation, str(number)) for number in range(20)]
            service.terminate()
            answered = [frame["clientId"] for frame in left_of(hers) if frame["type"] == "sent"]
            left_of(his)
            assert (hers.close_code, his.close_code) == (1012, 1012)
        assert service.process.wait(timeout=20) == 0
    kept = [str(row[0]) for row in database.rows(f"SELECT client_id FROM messages WHERE sender_id = '{anna}'")]
    assert sorted(kept) == sorted(answered)  # nothing was stored without being answered, nor answered without it
    assert set(answered) <= set(sent)


def test_without_its_database_it_says_so_and_lives() -> None:
    with messaging("postgresql://messaging@127.0.0.1:1/messaging") as service:
        answer = service.call("/conversations", x_nova_subject=person())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        with pytest.raises(InvalidStatus) as refused, chat(service, person(), 0):
            pass
        assert refused.value.response.status_code == 503
        assert service.call("/healthz").status == 200


def test_it_counts_who_talks_and_who_comes_back(database: Database) -> None:
    with messaging(database) as service:
        anna, ben = person(), person()
        conversation = begin(service, anna, ben)
        for result in ("stored", "repeated", "refused"):
            assert service.metric(f'nova_messaging_messages_total{{result="{result}"}}') == 0
        client = str(uuid.uuid4())
        with ready(service, ben), ready(service, ben, 0):
            assert service.metric("nova_messaging_sockets") == 2
            assert service.metric("nova_messaging_reconnects_total") == 1
            for sender in (anna, anna, person()):
                say(service, sender, conversation, "hello", client)
            eventually(lambda: service.metric("nova_messaging_deliveries_total") == 2)
        for result in ("stored", "repeated", "refused"):
            assert service.metric(f'nova_messaging_messages_total{{result="{result}"}}') == 1
        eventually(lambda: service.metric('nova_messaging_sockets_closed_total{reason="left"}') == 2)
        assert service.metric("nova_messaging_sockets") == 0
        assert service.metric("nova_messaging_delivery_seconds_count") == 2


def test_others_write_and_read_by_grpc(database: Database) -> None:
    with messaging(database) as service, grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        stub = messages_pb2_grpc.MessagesServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        anna, ben = person(), person()
        conversation = begin(service, anna, ben)
        request = messages_pb2.SendMessageRequest(
            conversation_id=conversation, sender_id=anna, text="by gRPC", client_id=str(uuid.uuid4())
        )
        with ready(service, ben) as his:
            first, second = (stub.SendMessage(request, timeout=5).message for _ in range(2))
            assert hear(his)["text"] == "by gRPC"
        assert first == second
        asked = messages_pb2.ListMessagesRequest(conversation_id=conversation, reader_id=ben)
        (found,) = stub.ListMessages(asked, timeout=5).messages
        assert found == first
        for wrong, code in (
            (messages_pb2.ListMessagesRequest(conversation_id=conversation, reader_id=person()), "NOT_FOUND"),
            (messages_pb2.ListMessagesRequest(conversation_id="x", reader_id=ben), "INVALID_ARGUMENT"),
            (
                messages_pb2.ListMessagesRequest(conversation_id=conversation, reader_id=ben, page_size=501),
                "INVALID_ARGUMENT",
            ),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                stub.ListMessages(wrong, timeout=5)
            assert refused.value.code().name == code


def test_who_is_erased_leaves_nothing(database: Database, kafka: Kafka) -> None:
    topics = Topics(kafka, "messaging", "user")
    with messaging(database, *topics.words()) as service:
        anna, ben, carl = person(), person(), person()
        conversation, other = begin(service, anna, ben), begin(service, ben, carl)
        for sender, where in ((anna, conversation), (ben, conversation), (anna, conversation), (carl, other)):
            say(service, sender, where, f"from {sender}")
        event = topics.tell("user", "user-erased", {"userId": anna})
        service.line("user erased", reference=event)
        assert anna not in str(everything(database))
        path = f"/conversations/{conversation}/messages"
        assert [one["senderId"] for one in service.call(path, x_nova_subject=ben).body["messages"]] == [ben]
        assert say(service, anna, conversation, "still here").status == 404
        assert service.call("/conversations", "POST", {"members": [anna]}, x_nova_subject=ben).status == 400
        with ready(service, ben, 0) as his:
            assert [hear(his)["senderId"] for _ in range(2)] == [ben, carl]
        ((removed, finished),) = database.rows("SELECT removed::text, finished_at IS NOT NULL FROM nova_erasures")
        assert (json.loads(removed)["messages"], finished) == (2, True)


def everything(database: Database) -> list[Any]:
    """What the tables hold, but for who is closed."""
    tables = ("members", "messages", "deliveries", "streams", "presences", "nova_erasures")
    return [database.rows(f"SELECT one::text FROM {table} AS one") for table in tables]


def left_of(socket: ClientConnection) -> list[Frame]:
    """The frames until it is closed."""
    found = []
    with suppress(ConnectionClosed):
        while True:
            found.append(hear(socket))
    return found


def test_who_waits_to_write_while_being_removed_has_written_nothing(
    database: Database, one: Service, pair: Pair
) -> None:
    """Removal locks the conversation and takes the member out of it; a sender who came before and waits for that lock
    is no member when it gets it."""
    anna, _, conversation = pair

    async def removed(connection: Any) -> Answer:
        with ThreadPoolExecutor(1) as sender:
            async with connection.transaction():
                await connection.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", conversation)
                waiting = sender.submit(say, one, anna, conversation, "still here")
                await asyncio.to_thread(eventually, lambda: database.value(WAITING))
                await connection.execute(
                    "DELETE FROM members WHERE conversation_id = $1 AND user_id = $2", conversation, anna
                )
            return await asyncio.wrap_future(waiting)

    answer = database.do(removed)
    assert answer.status == 404, answer
    assert database.value(f"SELECT count(*) FROM messages WHERE conversation_id = '{conversation}'") == 0


def test_who_is_erased_comes_in_no_more_and_it_is_not_noted_that_they_are_here(
    database: Database, one: Service
) -> None:
    anna, ben = person(), person()
    database.sql(f"INSERT INTO closed_users VALUES ('{anna}')")
    with pytest.raises(InvalidStatus) as refused, chat(one, anna):
        pass
    assert refused.value.response.status_code == 401

    async def note() -> None:  # as a process that has not found out yet
        async with Pool(database.url) as pool:
            await Conversations(pool).here([uuid.UUID(user) for user in (anna, ben)])

    asyncio.run(note())
    assert database.rows(f"SELECT user_id::text FROM presences WHERE user_id IN ('{anna}', '{ben}')") == [(ben,)]


@pytest.mark.parametrize("token", [2**63, 10**300, -(10**30)])
def test_a_token_that_nobody_gave_out_is_refused(one: Service, pair: Pair, token: int) -> None:
    anna, _, conversation = pair
    given = urlsafe_b64encode(json.dumps(token).encode()).decode()
    answer = one.call(f"/conversations/{conversation}/messages?pageToken={given}", x_nova_subject=anna)
    assert (answer.status, answer.body) == (400, {"error": "pageToken: expected what the page before gave"})
