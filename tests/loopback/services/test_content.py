"""content as it runs in a pod: a process, a real PostgreSQL that the data tools prepared, a peer that knows blocks."""

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from nova.posts.v1 import posts_pb2, posts_pb2_grpc

from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .process import silent
from .social import Content, Person, prepared, serving
from .userspeer import UsersPeer

FOLLOWERS = "VISIBILITY_FOLLOWERS"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    made = prepared(Database(postgres))
    yield made
    made.drop()


@pytest.fixture(scope="module")
def users() -> Iterator[UsersPeer]:
    peer = UsersPeer()
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def content(database: Database, kafka: Kafka, users: UsersPeer) -> Iterator[Content]:
    prefix = f"content-{uuid.uuid4().hex[:8]}."
    kafka.make_topic(f"{prefix}user")
    with serving(database, kafka, prefix, users.address) as service:
        yield service


@pytest.fixture
def anna(content: Content) -> Person:
    return content.person()


@pytest.fixture
def ben(content: Content) -> Person:
    return content.person()


def events(database: Database, kind: str, aggregate: str) -> list[dict[str, Any]]:
    """Payloads of this type, in their order."""
    query = (
        f"SELECT payload::text FROM outbox_events WHERE event_type = '{kind}' AND aggregate_id = '{aggregate}'"
        " ORDER BY position"
    )
    return [json.loads(payload) for (payload,) in database.rows(query)]


# --- posts


def test_a_post_and_its_event_are_one(anna: Person, database: Database) -> None:
    made = anna.call("POST", "/posts", {"text": "hello"}, x_correlation_id="writing-1")
    assert made.status == 201
    post = made.body
    assert (post["authorId"], post["visibility"]) == (anna.id, "VISIBILITY_PUBLIC")
    assert anna.call("GET", f"/posts/{post['postId']}").body == post
    ((payload, correlation),) = database.rows(
        "SELECT payload::text, headers->>'correlation-id' FROM outbox_events"
        f" WHERE aggregate_type = 'post' AND aggregate_id = '{post['postId']}'"
    )
    assert correlation == "writing-1"
    told = json.loads(payload)
    assert (told["postId"], told["authorId"], told["text"]) == (post["postId"], anna.id, "hello")
    assert told["visibility"] == "VISIBILITY_PUBLIC"


def test_an_event_that_cannot_be_written_leaves_no_post(anna: Person, database: Database) -> None:
    database.sql("ALTER TABLE outbox_events ADD CONSTRAINT closed CHECK (event_type <> 'post-created') NOT VALID")
    try:
        assert anna.call("POST", "/posts", {"text": "lost"}).status == 500
    finally:
        database.sql("ALTER TABLE outbox_events DROP CONSTRAINT closed")
    assert database.value(f"SELECT count(*) FROM posts WHERE user_id = '{anna.id}'") == 0


def test_what_only_followers_see_is_in_no_event(anna: Person, database: Database) -> None:
    post = anna.post("a secret", visibility=FOLLOWERS)
    (told,) = events(database, "post-created", post["postId"])
    assert (told["text"], told["visibility"]) == ("", FOLLOWERS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"text": ""}, "$.text"),
        ({"text": "x" * 5001}, "$.text"),
        ({"text": "a\0b"}, "$.text"),
        ({"text": "x", "visibility": "VISIBILITY_UNSPECIFIED"}, "$.visibility"),
        ({"text": "x", "author": "somebody"}, "author"),
        ({}, "text"),
    ],
)
def test_what_is_wrong_in_a_post_is_named(anna: Person, body: Any, said: str) -> None:
    answer = anna.call("POST", "/posts", body)
    assert answer.status == 400
    assert said in answer.body["error"]


def test_who_is_nobody_is_let_in_nowhere(content: Content) -> None:
    for method, path in (("POST", "/posts"), ("GET", "/feed"), ("PUT", f"/follows/{uuid.uuid4()}")):
        assert content.service.call(path, method, {"text": "x"}).status == 401


def test_a_deleted_post_is_nowhere_and_says_who_did_it(anna: Person, ben: Person, database: Database) -> None:
    post = anna.post()
    ben.follow(anna)
    path = f"/posts/{post['postId']}"
    assert ben.call("DELETE", path).status == 404
    assert anna.call("DELETE", path).status == 204
    assert anna.call("DELETE", path).status == 404
    assert not anna.sees(post)
    assert ben.feed() == []
    assert ben.call("GET", f"/users/{anna.id}/posts").body["posts"] == []
    assert ben.call("GET", f"{path}/comments").status == 404
    assert ben.call("POST", f"{path}/comments", {"text": "late"}).status == 404
    ((deleted, by),) = database.rows(f"SELECT deleted_at, deleted_by FROM posts WHERE id = '{post['postId']}'")
    assert deleted is not None
    assert str(by) == anna.id
    assert events(database, "post-deleted", post["postId"]) == [{"postId": post["postId"], "authorId": anna.id}]


def test_of_many_who_delete_at_once_one_does(anna: Person, database: Database) -> None:
    post = anna.post()
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: anna.call("DELETE", f"/posts/{post['postId']}").status, range(8)))
    assert statuses == [204] + [404] * 7
    assert len(events(database, "post-deleted", post["postId"])) == 1


def test_posts_for_followers_are_seen_by_followers(anna: Person, ben: Person) -> None:
    post = anna.post(visibility=FOLLOWERS)
    assert anna.sees(post)
    assert not ben.sees(post)
    assert ben.call("GET", f"/users/{anna.id}/posts").body["posts"] == []
    ben.follow(anna)
    assert ben.sees(post)
    assert ben.call("GET", f"/users/{anna.id}/posts").body["posts"] == [post]
    assert ben.call("DELETE", f"/follows/{anna.id}").status == 204
    assert not ben.sees(post)


# --- the feed


def test_a_feed_has_all_of_those_one_follows_newest_first_and_nothing_twice(content: Content, ben: Person) -> None:
    authors = [content.person() for _ in range(3)]
    stranger = content.person()
    written = [author.post(f"{number}") for number in range(7) for author in authors]
    stranger.post()
    for author in authors:
        ben.follow(author)
    for size in (1, 4, 100):
        assert ben.feed(size) == written[::-1]


def test_what_is_written_while_somebody_pages_moves_no_page(anna: Person, ben: Person) -> None:
    ben.follow(anna)
    first = [anna.post(f"{number}") for number in range(4)]
    page = ben.call("GET", "/feed?pageSize=2").body
    anna.post("later")
    following = ben.call("GET", f"/feed?pageSize=2&pageToken={page['nextPageToken']}").body
    assert page["posts"] + following["posts"] == first[::-1]
    assert following["nextPageToken"] == ""


@pytest.mark.parametrize("query", ["pageSize=0", "pageSize=101", "pageSize=x", "pageToken=made-up", "pageToken=%00"])
def test_a_page_that_is_none_is_refused(anna: Person, query: str) -> None:
    answer = anna.call("GET", f"/feed?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in answer.body["error"]


def test_feeds_and_authors_pages_go_along_the_indexes(database: Database) -> None:
    """Those of the manifest are there and used: with sequential scans off, no other plan is left for a large table."""
    done = database.command("indexes", "verify")
    assert done.returncode == 0, done.stdout
    names = {
        name for (name,) in database.rows("SELECT indexname FROM pg_indexes WHERE tablename IN ('posts', 'follows')")
    }
    assert any("user_id" in name and "created_at" in name for name in names), names


# --- comments


def test_comments_are_told_to_who_wrote_the_post(anna: Person, ben: Person, database: Database) -> None:
    post = anna.post()
    made = [ben.call("POST", f"/posts/{post['postId']}/comments", {"text": f"{number}"}) for number in range(3)]
    assert {answer.status for answer in made} == {201}
    comments = [answer.body for answer in made]
    (told,) = events(database, "comment-created", comments[0]["commentId"])
    assert (told["postAuthorId"], told["authorId"], told["postId"]) == (anna.id, ben.id, post["postId"])
    assert "text" not in told
    page = anna.call("GET", f"/posts/{post['postId']}/comments?pageSize=2").body
    rest = anna.call("GET", f"/posts/{post['postId']}/comments?pageToken={page['nextPageToken']}").body
    assert page["comments"] + rest["comments"] == comments


def test_a_comment_is_deleted_by_its_author_or_the_posts(content: Content, anna: Person, ben: Person) -> None:
    post = anna.post()
    path = f"/posts/{post['postId']}/comments"
    mine, other = (ben.call("POST", path, {"text": text}).body["commentId"] for text in ("mine", "other"))
    assert content.person().call("DELETE", f"/comments/{mine}").status == 404
    assert ben.call("DELETE", f"/comments/{mine}").status == 204
    assert anna.call("DELETE", f"/comments/{other}").status == 204
    assert anna.call("DELETE", f"/comments/{other}").status == 404
    assert anna.call("GET", path).body["comments"] == []


# --- follows


def test_following_again_is_no_news_and_following_anew_is(anna: Person, ben: Person, database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ben.call("PUT", f"/follows/{anna.id}").status, range(8))) == {204}
    told = {"followerId": ben.id, "followeeId": anna.id}
    assert events(database, "user-followed", ben.id) == [told]
    for _ in range(2):
        assert ben.call("DELETE", f"/follows/{anna.id}").status == 204
    assert events(database, "user-unfollowed", ben.id) == [told]
    ben.follow(anna)
    assert events(database, "user-followed", ben.id) == [told, told]


def test_nobody_follows_themselves(anna: Person) -> None:
    answer = anna.call("PUT", f"/follows/{anna.id}")
    assert (answer.status, answer.body) == (400, {"error": "id: expected somebody else than yourself"})
    assert anna.call("PUT", "/follows/nobody").status == 400


# --- blocks


def test_a_block_stands_between_two(content: Content, users: UsersPeer, anna: Person, ben: Person) -> None:
    post, close = anna.post(), anna.post(visibility=FOLLOWERS)
    ben.follow(anna)
    stranger = content.person()
    users.blocks.add(frozenset((anna.id, stranger.id)))
    before = content.metric("nova_content_blocked_total")
    assert stranger.call("PUT", f"/follows/{anna.id}").status == 403
    assert anna.call("PUT", f"/follows/{stranger.id}").status == 403
    assert not stranger.sees(post)
    assert content.metric("nova_content_blocked_total") == before + 2
    assert ben.sees(close)


def test_a_comment_is_refused_from_the_moment_of_the_block(users: UsersPeer, anna: Person, ben: Person) -> None:
    post = anna.post()
    path = f"/posts/{post['postId']}/comments"
    assert ben.call("POST", path, {"text": "before"}, x_correlation_id="asks-1").status == 201
    assert "asks-1" in users.correlations
    users.blocks.add(frozenset((anna.id, ben.id)))
    assert ben.call("POST", path, {"text": "after"}).status == 403


def test_without_an_answer_writes_are_refused_and_public_reads_are_not(
    content: Content, users: UsersPeer, anna: Person, ben: Person
) -> None:
    ben.follow(anna)
    public, close = anna.post(), anna.post(visibility=FOLLOWERS)
    with users.silent():
        began = time.monotonic()
        answer = ben.call("POST", f"/posts/{public['postId']}/comments", {"text": "now"})
        assert (answer.status, answer.body) == (503, {"error": "users is not available"})
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 4  # two questions, each of which has its deadline
        assert ben.call("PUT", f"/follows/{content.person().id}").status == 503
        assert ben.feed() == [public]
        assert ben.sees(public)
        assert not ben.sees(close)
        assert anna.sees(close)
    assert ben.feed() == [close, public]


def test_a_feed_asks_once_for_an_author_and_not_again_at_once(users: UsersPeer, anna: Person, ben: Person) -> None:
    ben.follow(anna)
    for _ in range(5):
        anna.post()
    before = users.asked
    for _ in range(3):
        assert len(ben.feed()) == 5
    assert users.asked == before + 1


# --- gRPC


@pytest.fixture
def posts(content: Content) -> Iterator[posts_pb2_grpc.PostsServiceStub]:
    with grpc.insecure_channel(content.grpc) as channel:
        yield posts_pb2_grpc.PostsServiceStub(channel)


def test_services_read_posts_and_feeds(posts: Any, anna: Person, ben: Person) -> None:
    post = anna.post(visibility=FOLLOWERS)
    ben.follow(anna)
    found = posts.GetPost(posts_pb2.GetPostRequest(post_id=post["postId"], viewer_id=ben.id), timeout=5).post
    assert (found.author_id, found.text, found.visibility) == (anna.id, "hello", posts_pb2.VISIBILITY_FOLLOWERS)
    assert found.created_at.ToJsonString().rstrip("Z") == post["createdAt"].rstrip("Z")
    second = anna.post("second")
    page = posts.ListFeed(posts_pb2.ListFeedRequest(user_id=ben.id, page_size=1), timeout=5)
    assert [each.post_id for each in page.posts] == [second["postId"]]
    rest = posts.ListFeed(posts_pb2.ListFeedRequest(user_id=ben.id, page_token=page.next_page_token), timeout=5)
    assert [each.post_id for each in rest.posts] == [post["postId"]]
    assert rest.next_page_token == ""


def test_many_posts_are_those_that_the_viewer_may_see(
    content: Content, users: UsersPeer, posts: Any, anna: Person, ben: Person
) -> None:
    stranger, blocked = content.person(), content.person()
    users.blocks.add(frozenset((ben.id, blocked.id)))
    ben.follow(anna)
    seen = [anna.post(), anna.post(visibility=FOLLOWERS), ben.post(visibility=FOLLOWERS), stranger.post()]
    hidden = [stranger.post(visibility=FOLLOWERS), blocked.post()]
    asked = [post["postId"] for post in seen + hidden]
    before = users.asked

    def found(viewer: str) -> set[str]:
        request = posts_pb2.BatchGetPostsRequest(post_ids=[*asked, str(uuid.uuid4())], viewer_id=viewer)
        return {post.post_id for post in posts.BatchGetPosts(request, timeout=5).posts}

    assert found(ben.id) == {post["postId"] for post in seen}
    assert users.asked == before + 1
    assert found("") == {post["postId"] for post in (seen[0], seen[3], hidden[1])}


def test_what_a_viewer_may_not_see_is_not_found(posts: Any, anna: Person, ben: Person) -> None:
    post = anna.post(visibility=FOLLOWERS)
    asked = ((post["postId"], ben.id), (post["postId"], ""), (str(uuid.uuid4()), ben.id))
    for name, viewer in asked:
        with pytest.raises(grpc.RpcError) as refused:
            posts.GetPost(posts_pb2.GetPostRequest(post_id=name, viewer_id=viewer), timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (posts_pb2.GetPostRequest(post_id="17"), "post_id: expected a UUID"),
        (posts_pb2.GetPostRequest(post_id=str(uuid.uuid4()), viewer_id="x"), "viewer_id: expected a UUID"),
        (posts_pb2.BatchGetPostsRequest(), "post_ids: expected 1 to 100 UUIDs"),
        (posts_pb2.BatchGetPostsRequest(post_ids=["x"] * 101), "post_ids: expected 1 to 100 UUIDs"),
        (posts_pb2.BatchGetPostsRequest(post_ids=["x"]), "post_ids: expected a UUID"),
        (posts_pb2.ListFeedRequest(user_id="x"), "user_id: expected a UUID"),
        (posts_pb2.ListFeedRequest(user_id=str(uuid.uuid4()), page_size=101), "page_size: expected 1 to 100"),
    ],
)
def test_a_call_that_is_wrong_says_what(posts: Any, request_: Any, said: str) -> None:
    method = getattr(posts, type(request_).__name__.removesuffix("Request"))
    with pytest.raises(grpc.RpcError) as refused:
        method(request_, timeout=5)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, said)


def unread(address: str) -> int:
    """Bytes that came to this port and were not read yet (proc_pid_net(5)); gRPC listens by IPv6 for both."""
    end = f":{int(address.rpartition(':')[2]):04X}"
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(end) and row[3] == "01")


def test_fifty_posts_that_are_asked_for_at_once_are_a_few_queries(content: Content, posts: Any, anna: Person) -> None:
    written = [anna.post(f"{number}")["postId"] for number in range(50)]
    counted = 'db_statement_seconds_count{pool="content"}'
    asked = [posts_pb2.GetPostRequest(post_id=name, viewer_id=anna.id) for name in written]
    posts.GetPost(asked[0], timeout=5)  # so that it is connected
    before = content.metric(counted)
    with silent(content.service):
        calls = [posts.GetPost.future(one, timeout=20) for one in asked]
        eventually(lambda: unread(content.grpc) > 50 * len(asked[0].SerializeToString()), within=10)
    assert [call.result().post.post_id for call in calls] == written
    # one by one each takes a transaction of three statements, which are 150
    assert content.metric(counted) - before < 75


# --- what people do here


def test_what_people_do_is_counted(content: Content, anna: Person, ben: Person) -> None:
    names = {
        'nova_content_posts_total{visibility="public"}': 2,
        'nova_content_posts_total{visibility="followers"}': 1,
        "nova_content_posts_deleted_total": 1,
        'nova_content_comments_total{change="created"}': 1,
        'nova_content_follows_total{change="created"}': 1,
        'nova_content_follows_total{change="deleted"}': 1,
        'nova_content_feed_pages_total{page="first"}': 1,
        'nova_content_feed_pages_total{page="later"}': 1,
    }
    before = {name: content.metric(name) for name in names}
    post, second = anna.post(), anna.post()
    anna.post(visibility=FOLLOWERS)
    ben.follow(anna)
    ben.follow(anna)
    assert ben.call("POST", f"/posts/{post['postId']}/comments", {"text": "x"}).status == 201
    assert len(ben.feed(2)) == 3
    assert ben.call("DELETE", f"/follows/{anna.id}").status == 204
    assert anna.call("DELETE", f"/posts/{second['postId']}").status == 204
    assert {name: content.metric(name) - before[name] for name in names} == names
