"""graphql before the services that it asks, each a process with its own database: one question, one answer."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .backend import Backend
from .process import Answer, Service

pytestmark = pytest.mark.timeout(240)  # six processes start before the first test
BATCH = "/nova.users.v1.UsersService/BatchGetProfiles"


@pytest.fixture(scope="module")
def backend(postgres: Postgres, kafka: Kafka) -> Iterator[Backend]:
    with Backend(postgres, kafka) as made:
        for name in ("users", "content", "messaging", "notification", "search"):
            made.start(name)
        made.start_graphql()
        yield made


class Person:
    """Somebody who is logged in and has a profile."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self.id = str(uuid.uuid4())
        self.name = name
        made = self.call("users", "/profiles/me", "PATCH", {"displayName": name})
        assert made.status == 200, made.body

    def call(self, service: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """A request to a service, as its sidecar hands it on."""
        return self._backend.services[service].call(path, method, body, x_nova_subject=self.id, **headers)

    def ask(self, query: str, **more: Any) -> Any:
        """What the gateway answers, errors and all."""
        correlation = more.pop("correlation", f"ask-{uuid.uuid4()}")
        body = {"query": query, "variables": more}
        answer = self.call(
            "graphql", "/graphql", "POST", body, content_type="application/json", x_correlation_id=correlation
        )
        assert answer.status == 200, answer.body
        return answer.body

    def get(self, query: str, **variables: Any) -> Any:
        """What the gateway answers where nothing is amiss."""
        body = self.ask(query, **variables)
        assert "errors" not in body, body
        return body["data"]

    def post(self, text: str, visibility: str = "PUBLIC") -> str:
        """A post's id."""
        query = "mutation($text: String!, $to: Visibility!) { createPost(text: $text, visibility: $to) { id } }"
        return str(self.get(query, text=text, to=visibility)["createPost"]["id"])

    def follow(self, other: "Person") -> None:
        query = "mutation($other: UUID!) { follow(person: $other) { displayName } }"
        assert self.get(query, other=other.id) == {"follow": {"displayName": other.name}}

    def block(self, other: "Person") -> None:
        assert self.call("users", f"/blocks/{other.id}", "PUT").status == 204


@pytest.fixture
def anna(backend: Backend) -> Person:
    return Person(backend, "Anna")


@pytest.fixture
def bert(backend: Backend) -> Person:
    return Person(backend, "Bert")


@pytest.fixture
def carl(backend: Backend) -> Person:
    return Person(backend, "Carl")


def asked(users: Service, correlation: str) -> int:
    """How often users was asked for profiles on behalf of a request that was answered: its log has a line for each."""
    mark = f"mark-{uuid.uuid4()}"
    users.call("/preferences", x_nova_subject=str(uuid.uuid4()), x_correlation_id=mark)
    return sum(
        line["event"] == "call" and line.get("path") == BATCH and line.get("correlation_id") == correlation
        for line in users.lines_until("request", correlation_id=mark)
    )


def test_a_feed_has_its_authors_names_by_one_call(backend: Backend, anna: Person, bert: Person, carl: Person) -> None:
    anna.follow(bert)
    anna.follow(carl)
    posts = [writer.post(f"post {n}") for n in range(6) for writer in (bert, carl)]
    correlation = f"feed-{uuid.uuid4()}"
    query = "{ feed(first: 50) { items { id text author { displayName } } next } me { displayName } }"
    found = anna.get(query, correlation=correlation)
    assert [post["id"] for post in found["feed"]["items"]] == posts[::-1]
    assert {post["author"]["displayName"] for post in found["feed"]["items"]} == {"Bert", "Carl"}
    assert found["me"]["displayName"] == "Anna"
    assert 1 <= asked(backend.services["users"], correlation) <= 2  # the viewer's own may come first


def test_everything_on_a_page_is_one_question(backend: Backend, anna: Person, bert: Person) -> None:
    anna.follow(bert)
    post = bert.post("hello")
    query = 'mutation($post: UUID!) { comment(post: $post, text: "good") { id author { displayName } } }'
    assert anna.get(query, post=post)["comment"]["author"]["displayName"] == "Anna"
    found = anna.get(
        """query($post: UUID!, $bert: UUID!) {
            post(id: $post) { text visibility author { id displayName } }
            comments(post: $post) { items { text author { displayName } } next }
            posts(author: $bert) { items { id } }
            person(id: $bert) { displayName biography }
        }""",
        post=post,
        bert=bert.id,
    )
    assert found == {
        "post": {"text": "hello", "visibility": "PUBLIC", "author": {"id": bert.id, "displayName": "Bert"}},
        "comments": {"items": [{"text": "good", "author": {"displayName": "Anna"}}], "next": None},
        "posts": {"items": [{"id": post}]},
        "person": {"displayName": "Bert", "biography": ""},
    }


def test_a_page_goes_on_where_the_one_before_ended(anna: Person, bert: Person) -> None:
    anna.follow(bert)
    posts = [bert.post(f"post {n}") for n in range(5)]
    seen, after = [], ""
    while after is not None:
        page = anna.get("query($after: String!) { feed(first: 2, after: $after) { items { id } next } }", after=after)
        seen += [post["id"] for post in page["feed"]["items"]]
        after = page["feed"]["next"]
    assert seen == posts[::-1]


def test_who_is_blocked_sees_neither_name_nor_post(anna: Person, bert: Person) -> None:
    post = bert.post("not for anna")
    bert.block(anna)
    found = anna.get(
        "query($post: UUID!, $bert: UUID!) { post(id: $post) { id } person(id: $bert) { id } }", post=post, bert=bert.id
    )
    assert found == {"post": None, "person": None}
    refused = anna.ask("mutation($bert: UUID!) { follow(person: $bert) { id } }", bert=bert.id)
    assert refused["data"] == {"follow": None}
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    ("mutation", "code"),
    [
        ('createPost(text: "") { id }', "BAD_USER_INPUT"),
        ('comment(post: "00000000-0000-4000-8000-000000000000", text: "x") { id }', "NOT_FOUND"),
        ('deletePost(id: "00000000-0000-4000-8000-000000000000")', "NOT_FOUND"),
    ],
)
def test_what_a_service_says_no_to_is_said_with_its_words(anna: Person, mutation: str, code: str) -> None:
    (error,) = anna.ask(f"mutation {{ {mutation} }}")["errors"]
    assert error["extensions"]["code"] == code
    assert error["message"] not in {"", "internal error"}


def test_a_post_that_is_deleted_is_gone(anna: Person) -> None:
    post = anna.post("soon gone")
    assert anna.get("mutation($post: UUID!) { deletePost(id: $post) }", post=post) == {"deletePost": post}
    assert anna.get("query($post: UUID!) { post(id: $post) { id } }", post=post) == {"post": None}


def test_messages_are_sent_once_and_read_with_their_senders(backend: Backend, anna: Person, bert: Person) -> None:
    made = anna.call("messaging", "/conversations", "POST", {"members": [bert.id]})
    assert made.status in {200, 201}, made.body
    conversation, client = made.body["conversationId"], str(uuid.uuid4())
    query = """mutation($conversation: UUID!, $client: UUID!) {
        sendMessage(conversation: $conversation, text: "hello", clientId: $client) { position }
    }"""
    first, again = (anna.get(query, conversation=conversation, client=client) for _ in range(2))
    assert first == again
    query = "query($id: UUID!) { messages(conversation: $id) { position text sender { displayName } } }"
    found = bert.get(query, id=conversation)
    position = first["sendMessage"]["position"]
    assert found == {"messages": [{"position": position, "text": "hello", "sender": {"displayName": "Anna"}}]}


def test_who_is_blocked_sends_no_message(anna: Person, bert: Person) -> None:
    conversation = anna.call("messaging", "/conversations", "POST", {"members": [bert.id]}).body["conversationId"]
    bert.block(anna)
    query = """mutation($conversation: UUID!, $client: UUID!) {
        sendMessage(conversation: $conversation, text: "hello", clientId: $client) { position }
    }"""
    refused = anna.ask(query, conversation=conversation, client=str(uuid.uuid4()))
    assert refused["data"] == {"sendMessage": None}
    assert refused["errors"][0]["message"] == "there is a block between you"
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


def test_notifications_say_who_and_are_read(backend: Backend, anna: Person, bert: Person) -> None:
    payload = {"followerId": bert.id, "followeeId": anna.id}
    backend.topics.tell("follow", "user-followed", payload, key=bert.id)
    query = "{ notifications { items { id kind actor { displayName } read } unread } }"
    found = eventually(lambda: (page := anna.get(query)["notifications"])["items"] and page, within=20)
    (one,) = found["items"]
    assert (one["kind"], one["actor"], one["read"], found["unread"]) == (
        "FOLLOWED",
        {"displayName": "Bert"},
        False,
        1,
    )
    assert anna.get("mutation($one: UUID!) { markRead(notification: $one) }", one=one["id"]) == {"markRead": 0}


def test_what_is_found_has_the_names_of_today_and_is_not_blocked(
    backend: Backend, anna: Person, bert: Person, carl: Person
) -> None:
    word = f"w{uuid.uuid4().hex}"
    post = {
        "postId": str(uuid.uuid4()),
        "authorId": bert.id,
        "text": f"{word} tea",
        "visibility": "VISIBILITY_PUBLIC",
        "createdAt": "2026-11-01T12:00:00Z",
    }
    backend.topics.tell("post", "post-created", post, key=post["postId"])
    backend.topics.tell("profile", "profile-changed", {"userId": bert.id, "displayName": f"Old {word}"}, key=bert.id)
    query = """query($word: String!) {
        searchPosts(words: $word) { items { text author { displayName } } }
        searchPeople(words: $word) { items { displayName } }
    }"""

    def found() -> Any:
        pages = anna.get(query, word=word)
        return all(page["items"] for page in pages.values()) and pages

    assert eventually(found, within=20) == {
        "searchPosts": {"items": [{"text": f"{word} tea", "author": {"displayName": "Bert"}}]},
        "searchPeople": {"items": [{"displayName": "Bert"}]},
    }
    bert.block(carl)
    assert carl.get(query, word=word) == {"searchPosts": {"items": []}, "searchPeople": {"items": []}}


def test_fifty_people_are_one_call(backend: Backend, anna: Person) -> None:
    gateway = backend.services["graphql"]

    def counted() -> tuple[float, float]:
        return gateway.metric("nova_graphql_loads_total"), gateway.metric("nova_graphql_batches_total")

    loads, batches = counted()
    fields = " ".join(f'p{n}: person(id: "{uuid.uuid4()}") {{ id }}' for n in range(50))
    correlation = f"page-{uuid.uuid4()}"
    assert anna.get(f"{{ {fields} }}", correlation=correlation) == {f"p{n}": None for n in range(50)}
    assert counted() == (loads + 50, batches + 1)
    assert asked(backend.services["users"], correlation) == 1


def test_posts_that_are_named_are_one_call(backend: Backend, anna: Person, bert: Person) -> None:
    gateway, series = backend.services["graphql"], 'nova_graphql_calls_total{result="ok",upstream="content"}'
    written = [bert.post(f"post {number}") for number in range(5)]
    before = gateway.metric(series)
    fields = " ".join(f'p{number}: post(id: "{post}") {{ text }}' for number, post in enumerate(written))
    assert anna.get(f"{{ {fields} }}") == {f"p{number}": {"text": f"post {number}"} for number in range(5)}
    assert gateway.metric(series) == before + 1


def test_without_users_the_posts_are_there_and_their_authors_are_not(
    backend: Backend, anna: Person, bert: Person
) -> None:
    """Last, since users is ended."""
    anna.follow(bert)
    post = bert.post("still there")
    backend.services["users"].end()
    found = anna.ask("{ feed { items { id author { displayName } } } }")
    assert found["data"] == {"feed": {"items": [{"id": post, "author": None}]}}
    (error,) = found["errors"]
    assert error["path"] == ["feed", "items", 0, "author"]
    assert (error["message"], error["extensions"]["code"]) == ("users is not available", "UNAVAILABLE")
