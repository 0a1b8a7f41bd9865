"""recommendations as it runs in a pod: a process, fed by content's outbox over Kafka, with a real Redis; and what is
left of it when each of these is away."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.data.database import Database
from tests.loopback.data.outboxes import relaying
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.ports import free_ports
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.redisservers import Server as RedisServer
from tests.loopback.support.waiting import eventually

from .process import Answer, running
from .social import Content, Person, metric, prepared, serving, tell
from .userspeer import UsersPeer

embedded = pytest.mark.skipif(
    find_spec("chdb") is None, reason="the extra `analytics` is not installed: pip install -e '.[analytics]'"
)
WITHIN = 40.0
OFTEN = ("--every", "1", "--share", "1")


@pytest.fixture(scope="module")
def prefix(kafka: Kafka) -> str:
    made = f"recommended-{uuid.uuid4().hex[:8]}."
    for topic in ("post", "follow", "comment", "user"):
        kafka.make_topic(made + topic)
    return made


@pytest.fixture(scope="module")
def content(postgres: Postgres, kafka: Kafka, prefix: str) -> Iterator[Content]:
    """With a relay that sends what happens there."""
    database, users = prepared(Database(postgres)), UsersPeer()
    with (
        serving(database, kafka, prefix, users.address) as service,
        relaying(database.url, kafka.url, "--topic-prefix", prefix),
    ):
        yield service
    users.close()
    database.drop()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


class Recommendations:
    """The running service."""

    def __init__(self, service: Any, metrics_port: int) -> None:
        self.service = service
        self._metrics_port = metrics_port

    def of(self, person: Person) -> Answer:
        answer: Answer = self.service.call("/recommendations", x_nova_subject=person.id)
        return answer

    def posts(self, person: Person, source: str) -> list[str]:
        """Ids, once the answer comes from there."""
        answer = self.of(person)
        assert (answer.status, answer.body["source"]) == (200, source)
        return [one["postId"] for one in answer.body["posts"]]

    def metric(self, series: str) -> float:
        return metric(self._metrics_port, f"nova_recommendations_{series}")


@contextmanager
def recommending(
    kafka: Kafka, prefix: str, redis_server: RedisServer, content: str, analytics: object, *words: str
) -> Iterator[Recommendations]:
    (metrics_port,) = free_ports(1)
    given = ("--metrics-port", str(metrics_port), "--content-address", content, "--analytics", str(analytics))
    topics = ("--brokers", kafka.url, "--topic-prefix", prefix, "--redis", f"redis://127.0.0.1:{redis_server.port}/0")
    with running("recommendations", *given, *topics, "--peak", "", *words) as service:
        yield Recommendations(service, metrics_port)


@pytest.fixture(scope="module")
def service(
    kafka: Kafka,
    prefix: str,
    redis_server: RedisServer,
    content: Content,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Recommendations]:
    folder = tmp_path_factory.mktemp("analytics") / "store"
    with recommending(kafka, prefix, redis_server, content.grpc, folder, *OFTEN) as made:
        yield made


class Circle:
    """Somebody, a friend whom they follow, and an author whom the friend follows."""

    def __init__(self, content: Content) -> None:
        self.me, self.friend, self.author = (content.person() for _ in range(3))
        self.me.follow(self.friend)
        self.friend.follow(self.author)


@pytest.fixture
def circle(content: Content) -> Circle:
    return Circle(content)


@embedded
def test_what_friends_read_is_recommended_once_it_is_computed(service: Recommendations, circle: Circle) -> None:
    known, wanted = circle.friend.post("known"), circle.author.post("wanted")
    assert service.posts(circle.me, "BY_TIME") == [known["postId"]]

    def ready() -> bool:
        return service.posts(circle.me, "PRECOMPUTED")[0] == wanted["postId"]

    eventually(ready, within=WITHIN, every=0.1)
    (one,) = [each for each in service.of(circle.me).body["posts"] if each["postId"] == wanted["postId"]]
    assert one["authorId"] == circle.author.id
    assert one["createdAt"].startswith(wanted["createdAt"][:19])
    assert known["postId"] not in service.posts(circle.me, "PRECOMPUTED")


@embedded
def test_rounds_bring_what_is_new_and_a_deletion_needs_no_round(service: Recommendations, circle: Circle) -> None:
    first = circle.author.post("first")
    eventually(lambda: first["postId"] in service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)
    second = circle.author.post("second")
    eventually(lambda: second["postId"] in service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)
    for post in (first, second):
        assert circle.author.call("DELETE", f"/posts/{post['postId']}").status == 204

    def gone() -> bool:
        on_list = {one["postId"] for one in service.of(circle.me).body["posts"]}
        return not on_list & {first["postId"], second["postId"]}

    eventually(gone, within=WITHIN, every=0.1)


@embedded
def test_what_is_ready_needs_nobody_and_what_it_cost_is_counted(service: Recommendations, circle: Circle) -> None:
    wanted = circle.author.post()
    eventually(lambda: wanted["postId"] in service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)
    hits, posts = service.metric("hits_total"), service.metric("posts_total")
    assert service.posts(circle.me, "PRECOMPUTED")
    assert service.metric("hits_total") == hits + 1
    assert service.metric("posts_total") > posts
    assert service.metric("compute_seconds_count") > 0
    assert 0 < service.metric("compute_seconds_sum") < 60


@embedded
def test_who_is_erased_has_no_list_and_is_computed_for_no_more(
    service: Recommendations, circle: Circle, kafka: Kafka, prefix: str, redis_server: RedisServer
) -> None:
    circle.author.post()
    eventually(lambda: service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)

    def kept() -> bool:
        asked = redis_server.command("ZSCORE", "nova:recommendations:asked", circle.me.id)
        return asked is not None or bool(redis_server.command("EXISTS", f"nova:recommendations:for:{circle.me.id}"))

    assert kept()
    tell(kafka, f"{prefix}user", "user-erased", {"userId": circle.me.id}, key=circle.me.id)
    eventually(lambda: not kept(), within=WITHIN, every=0.1)


@embedded
def test_without_redis_the_feed_stands_in_and_afterwards_all_goes_on(
    service: Recommendations, circle: Circle, redis_server: RedisServer
) -> None:
    known, wanted = circle.friend.post(), circle.author.post()
    eventually(lambda: wanted["postId"] in service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)
    before = service.metric('fallbacks_total{reason="redis"}')
    redis_server.stop()
    try:
        for _ in range(3):
            assert service.posts(circle.me, "BY_TIME") == [known["postId"]]
        assert service.metric('fallbacks_total{reason="redis"}') == before + 3
    finally:
        redis_server.start()
    eventually(lambda: wanted["postId"] in service.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)


@embedded
def test_a_store_that_is_new_is_filled_from_the_beginning(
    kafka: Kafka, prefix: str, content: Content, circle: Circle, tmp_path: Path
) -> None:
    wanted = circle.author.post()
    shelf = RedisServer(tmp_path / "redis")
    try:
        with recommending(kafka, prefix, shelf, content.grpc, tmp_path / "store", *OFTEN) as other:
            eventually(lambda: wanted["postId"] in other.posts(circle.me, "PRECOMPUTED"), within=WITHIN, every=0.1)
    finally:
        shelf.stop()


def test_without_analytics_the_feed_stands_in(
    kafka: Kafka, prefix: str, content: Content, circle: Circle, redis_server: RedisServer
) -> None:
    known = circle.friend.post()
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    with recommending(kafka, prefix, redis_server, content.grpc, nowhere) as service:

        def found_away() -> bool:  # until its first try has failed, nothing is merely not computed yet
            assert service.posts(circle.me, "BY_TIME") == [known["postId"]]
            return service.metric('fallbacks_total{reason="analytics"}') >= 1

        eventually(found_away, within=20)
        assert service.metric("hits_total") == 0


def test_what_was_computed_is_served_without_content_and_without_both_it_says_so(
    kafka: Kafka, prefix: str, content: Content, redis_server: RedisServer
) -> None:
    ready, stranger = content.person(), content.person()
    post = {"post_id": str(uuid.uuid4()), "author_id": str(uuid.uuid4()), "created_at": "2026-11-29T12:00:00Z"}
    listed = json.dumps([{"postId": post["post_id"], "authorId": post["author_id"], "createdAt": post["created_at"]}])
    redis_server.command("SET", f"nova:recommendations:for:{ready.id}", listed, "PX", 60_000)
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    with recommending(kafka, prefix, redis_server, f"127.0.0.1:{free_ports(1)[0]}", nowhere) as service:
        assert service.posts(ready, "PRECOMPUTED") == [post["post_id"]]
        answer = service.of(stranger)
        assert (answer.status, answer.body) == (503, {"error": "content is not available"})
        assert int(answer.headers["retry-after"]) >= 1
        assert service.metric("unanswered_total") == 1
        assert service.service.call("/recommendations").status == 401
