"""A block that is set at users is in force wherever two would meet: content, messaging and search ask by gRPC, each a
process of its own with the stores that it has in a pod."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from nova.messages.v1.messages_pb2 import SendMessageRequest
from nova.messages.v1.messages_pb2_grpc import MessagesServiceStub
from nova.users.v1.users_pb2_grpc import UsersServiceStub

from nova_services import rpc
from nova_services.blocks import Blocks
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres

from .backend import Backend
from .chatting import begin, hear, ready, say, send
from .process import Answer, Service, silent

pytestmark = pytest.mark.timeout(180)  # four processes start before the first test
CHECKS = "/nova.users.v1.UsersService/CheckBlocks"
BLOCKED = "there is a block between you"


@pytest.fixture(scope="module")
def backend(postgres: Postgres, kafka: Kafka) -> Iterator[Backend]:
    with Backend(postgres, kafka) as made:
        for name in ("users", "content", "messaging", "search"):
            made.start(name)
        yield made


@pytest.fixture
def users(backend: Backend) -> Service:
    return backend.services["users"]


@pytest.fixture
def messaging(backend: Backend) -> Service:
    return backend.services["messaging"]


class Someone:
    """Somebody whom users knows, by a first visit."""

    def __init__(self, backend: Backend) -> None:
        self._services = backend.services
        self.id = str(uuid.uuid4())
        assert self.ask("users", "/profiles/me").status == 200

    def ask(self, service: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """A request to a service, as its sidecar hands it on."""
        return self._services[service].call(path, method, body, x_nova_subject=self.id, **headers)

    def block(self, other: "Someone") -> None:
        assert self.ask("users", f"/blocks/{other.id}", "PUT").status == 204

    def lift(self, other: "Someone") -> None:
        assert self.ask("users", f"/blocks/{other.id}", "DELETE").status == 204

    def post(self, text: str = "hello") -> str:
        """A post's id."""
        answer = self.ask("content", "/posts", "POST", {"text": text})
        assert answer.status == 201, answer
        return str(answer.body["postId"])

    def follow(self, other: "Someone") -> int:
        return self.ask("content", f"/follows/{other.id}", "PUT").status


@pytest.fixture
def anna(backend: Backend) -> Someone:
    return Someone(backend)


@pytest.fixture
def ben(backend: Backend) -> Someone:
    return Someone(backend)


@pytest.fixture
def carl(backend: Backend) -> Someone:
    return Someone(backend)


def questions(users: Service, correlation: str) -> int:
    """How often users was asked for many blocks on behalf of a request that was answered."""
    mark = f"mark-{uuid.uuid4()}"
    users.call("/preferences", x_nova_subject=str(uuid.uuid4()), x_correlation_id=mark)
    return sum(
        line["event"] == "call" and line.get("path") == CHECKS and line.get("correlation_id") == correlation
        for line in users.lines_until("request", correlation_id=mark)
    )


# --- content


def test_who_is_blocked_neither_follows_nor_comments_until_it_is_lifted(anna: Someone, ben: Someone) -> None:
    comments = f"/posts/{anna.post()}/comments"
    assert ben.ask("content", comments, "POST", {"text": "before"}).status == 201
    anna.block(ben)
    assert ben.follow(anna) == 403
    assert ben.ask("content", comments, "POST", {"text": "after"}).status in {403, 404}
    anna.lift(ben)
    assert ben.follow(anna) == 204


def test_two_with_a_block_do_not_read_each_other_under_somebody_elses_post(
    anna: Someone, ben: Someone, carl: Someone
) -> None:
    comments = f"/posts/{carl.post()}/comments"
    for one in (anna, ben):
        assert one.ask("content", comments, "POST", {"text": "hello"}).status == 201
    anna.block(ben)

    def read(one: Someone) -> set[str]:
        return {comment["authorId"] for comment in one.ask("content", comments).body["comments"]}

    assert read(anna) == {anna.id}
    assert read(ben) == {ben.id}
    assert read(carl) == {anna.id, ben.id}


def test_one_id_follows_a_request_to_the_service_that_is_asked(users: Service, anna: Someone, ben: Someone) -> None:
    followed = ben.ask("content", f"/follows/{anna.id}", "PUT", x_correlation_id="follow-17")
    assert followed.status == 204
    assert users.line("call", correlation_id="follow-17")["path"] == "/nova.users.v1.UsersService/CheckBlock"


def test_a_page_asks_once_for_all_of_its_authors(backend: Backend, users: Service, anna: Someone) -> None:
    authors = [Someone(backend) for _ in range(6)]
    posts = [author.post() for author in authors]
    assert {anna.follow(author) for author in authors} == {204}
    anna.block(authors[0])
    authors[1].block(anna)
    page = anna.ask("content", "/feed", x_correlation_id="feed-6")
    assert [post["postId"] for post in page.body["posts"]] == posts[:1:-1]
    assert questions(users, "feed-6") == 1


# --- messaging


def test_who_has_a_block_to_a_member_begins_no_conversation(
    messaging: Service, anna: Someone, ben: Someone, carl: Someone
) -> None:
    anna.block(ben)
    before = messaging.metric("nova_messaging_blocked_total")
    for asking, others in ((anna, [ben]), (ben, [anna]), (ben, [carl, anna])):
        members = {"members": [other.id for other in others]}
        answer = asking.ask("messaging", "/conversations", "POST", members)
        assert (answer.status, answer.body) == (403, {"error": f"{BLOCKED} and one of them"})
    assert messaging.metric("nova_messaging_blocked_total") == before + 3
    begin(messaging, carl.id, anna.id, ben.id)  # who has no block to either
    anna.lift(ben)
    begin(messaging, ben.id, anna.id)


def test_neither_of_two_writes_to_the_other_and_both_go_on_among_others(
    messaging: Service, anna: Someone, ben: Someone, carl: Someone
) -> None:
    alone, group = begin(messaging, anna.id, ben.id), begin(messaging, carl.id, anna.id, ben.id)
    anna.block(ben)
    for sender in (anna, ben):
        answer = say(messaging, sender.id, alone, "hello")
        assert (answer.status, answer.body) == (403, {"error": BLOCKED})
        assert say(messaging, sender.id, group, "hello").status == 201
    with ready(messaging, ben.id) as his:
        client = send(his, alone, "hello")
        assert hear(his) == {"type": "error", "error": BLOCKED, "clientId": client}
    with grpc.insecure_channel(f"127.0.0.1:{messaging.grpc_port}") as channel:
        stub = MessagesServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        asked = SendMessageRequest(conversation_id=alone, sender_id=ben.id, text="hello", client_id=str(uuid.uuid4()))
        with pytest.raises(grpc.RpcError) as refused:
            stub.SendMessage(asked, timeout=5)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, BLOCKED)
    assert anna.ask("messaging", f"/conversations/{alone}/messages").body["messages"] == []


def test_what_was_sent_before_the_block_is_answered_as_ever(
    backend: Backend, messaging: Service, anna: Someone, ben: Someone
) -> None:
    """It is stored by another process, since this one would go by what users said then."""
    conversation, client = begin(messaging, anna.id, ben.id), str(uuid.uuid4())
    backend.databases["messaging"].sql(f"""
        INSERT INTO messages (conversation_id, position, sender_id, client_id, text)
        VALUES ('{conversation}', 1, '{ben.id}', '{client}', 'sent');
        UPDATE conversations SET last_position = 1 WHERE id = '{conversation}'
    """)
    anna.block(ben)
    again = say(messaging, ben.id, conversation, "sent", client)
    assert (again.status, again.body["position"]) == (200, 1)
    assert say(messaging, ben.id, conversation, "new").status == 403


def test_without_users_nobody_begins_and_those_who_talk_go_on(
    users: Service, messaging: Service, anna: Someone, ben: Someone, carl: Someone
) -> None:
    talking, new = begin(messaging, anna.id, ben.id), begin(messaging, carl.id, anna.id)
    before = messaging.metric("nova_messaging_blocks_unknown_total")
    assert say(messaging, anna.id, talking, "before").status == 201
    with ready(messaging, carl.id) as his:
        with silent(users):
            begun = ben.ask("messaging", "/conversations", "POST", {"members": [carl.id]})
            assert (begun.status, begun.body) == (503, {"error": "users is not available"})
            assert int(begun.headers["retry-after"]) >= 1
            client = send(his, new, "first")
            assert hear(his) == {
                "type": "error",
                "error": "users is not available",
                "clientId": client,
                "retryAfter": 1,
            }
            assert say(messaging, anna.id, talking, "meanwhile").status == 201
        assert messaging.metric("nova_messaging_blocks_unknown_total") >= before + 2
        send(his, new, "first", client)
        assert {hear(his)["type"] for _ in range(2)} == {"sent", "message"}


# --- search


def test_neither_finds_the_other(backend: Backend, users: Service, anna: Someone, ben: Someone, carl: Someone) -> None:
    word = f"w{uuid.uuid4().hex}"
    for writer in (anna, ben):
        tell(backend, writer, word)

    def found(reader: Someone | None, kind: str, **headers: str) -> list[str]:
        path = f"/search?q={word}&kind={kind}"
        answer = reader.ask("search", path, **headers) if reader else backend.services["search"].call(path)
        assert answer.status == 200, answer
        return sorted(one["authorId" if kind == "posts" else "userId"] for one in answer.body[kind])

    anna.block(ben)
    both = sorted((anna.id, ben.id))
    assert (found(anna, "posts", x_correlation_id="search-1"), found(anna, "people")) == ([anna.id], [anna.id])
    assert (found(ben, "people"), found(ben, "posts")) == ([ben.id], [ben.id])
    assert questions(users, "search-1") == 1
    assert (found(None, "posts"), found(None, "people")) == (both, both)
    with silent(users):
        assert found(carl, "posts") == both  # of whom nobody knows: what is public is shown
        assert found(anna, "posts") == [anna.id]  # of whom users has said something
    assert (found(carl, "posts"), found(carl, "people")) == (both, both)


def tell(backend: Backend, writer: Someone, word: str) -> None:
    """Search hears of a post and a profile with this word."""
    now = datetime.now(UTC).isoformat()
    post = {
        "postId": str(uuid.uuid4()),
        "authorId": writer.id,
        "text": word,
        "visibility": "VISIBILITY_PUBLIC",
        "createdAt": now,
    }
    profile = {"userId": writer.id, "displayName": word}
    for topic, kind, payload in (("post", "post-created", post), ("profile", "profile-changed", profile)):
        event = backend.topics.tell(topic, kind, payload, key=writer.id)
        backend.services["search"].line("event handled", correlation_id=event)


def test_who_is_no_user_finds_nothing(backend: Backend) -> None:
    answer = backend.services["search"].call("/search?q=tea", x_nova_subject="somebody")
    assert (answer.status, answer.body) == (401, {"error": "expected an access token"})


# --- what an answer is good for


def test_an_answer_holds_for_a_while_and_stands_in_for_longer(users: Service, anna: Someone, ben: Someone) -> None:
    now, unanswered, other = 0.0, [], uuid.UUID(ben.id)

    async def known(blocks: Blocks) -> bool | None:
        return (await blocks.lately(uuid.UUID(anna.id), [other]))[other]

    async def ages() -> None:
        nonlocal now
        async with rpc.channel(f"127.0.0.1:{users.grpc_port}") as channel:
            blocks = Blocks(
                UsersServiceStub(channel),
                fresh=5.0,
                stands_in=60.0,
                unknown=lambda: unanswered.append(now),
                clock=lambda: now,
            )
            assert await known(blocks) is False
            anna.block(ben)
            now = 4.9
            assert await known(blocks) is False
            now = 5.0
            assert await known(blocks) is True
            anna.lift(ben)
            with silent(users):
                now = 64.9
                assert await known(blocks) is True
                now = 65.0
                assert await known(blocks) is None
            assert await known(blocks) is False
        assert unanswered == [64.9, 65.0]

    asyncio.run(ages())
