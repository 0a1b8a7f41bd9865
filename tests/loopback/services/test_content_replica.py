"""content with a replica: a streaming one, which is made to stand still."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nova_api.request_policies.pool_guard import PoolGuardPolicy
from tests.loopback.conftest import StartApp, StartSidecar
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.sidecar import document, inbound
from tests.loopback.support.waiting import eventually

from .process import Answer, running
from .social import Content, Person, prepared, serving
from .test_graphql import addresses
from .userspeer import UsersPeer

ROUTE = 'nova_data_split_reads_total{database="content",route="%s"}'


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    primary = Postgres()
    try:
        replica = Postgres(primary)
        try:
            yield primary, replica
        finally:
            replica.close()
    finally:
        primary.close()


@pytest.fixture(scope="module")
def content(pair: tuple[Postgres, Postgres], kafka: Kafka) -> Iterator[Content]:
    primary, replica = pair
    database = prepared(Database(primary))
    prefix = f"replica-{uuid.uuid4().hex[:8]}."
    kafka.make_topic(f"{prefix}user")
    url = f"{replica.url.rpartition('/')[0]}/{database.url.rpartition('/')[2]}"
    users = UsersPeer()
    try:
        with serving(database, kafka, prefix, users.address, "--replica", url) as service:
            eventually(lambda: service.person().feed() == [] and service.metric(ROUTE % "replica") > 0, within=20)
            yield service
    finally:
        users.close()


@contextmanager
def still(replica: Postgres) -> Iterator[None]:
    """It receives, and does not replay."""
    replica.sql("SELECT pg_wal_replay_pause()")
    eventually(lambda: replica.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", within=10)
    try:
        yield
    finally:
        replica.sql("SELECT pg_wal_replay_resume()")


def texts(reader: Person, author: Person, **headers: str) -> list[str]:
    answer = reader.call("GET", f"/users/{author.id}/posts", **headers)
    assert answer.status == 200
    return [post["text"] for post in answer.body["posts"]]


def test_feeds_are_read_from_the_replica(content: Content) -> None:
    before = content.metric(ROUTE % "replica")
    anna = content.person()
    for _ in range(10):
        assert anna.feed() == []
    assert content.metric(ROUTE % "replica") == before + 10


def test_who_has_written_reads_it_and_others_read_it_later(content: Content, pair: tuple[Postgres, Postgres]) -> None:
    anna, ben = content.person(), content.person()
    with still(pair[1]):
        written = anna.call("POST", "/posts", {"text": "mine"})
        cookie = written.headers["set-cookie"]
        assert {"HttpOnly", "Max-Age=60", "SameSite=Lax"} <= set(cookie.split("; "))
        seen = cookie.partition(";")[0]
        assert texts(anna, anna, cookie=seen) == ["mine"]
        # one who has written nothing is served what the replica has
        assert texts(ben, anna) == []
        # what an event has told of is found by its id, wherever it is
        assert ben.sees(written.body)
    eventually(lambda: texts(ben, anna) == ["mine"], within=20)


def test_who_writes_through_the_gateway_reads_it_there(content: Content, pair: tuple[Postgres, Postgres]) -> None:
    anna, ben = content.person(), content.person()
    anna.post("hers")
    flags = addresses(content_address=content.grpc, content_url=f"http://127.0.0.1:{content.service.port}")
    with running("graphql", "--metrics-port", "0", *flags) as gateway:

        def ask(query: str, **headers: str) -> Answer:
            answer = gateway.call(
                "/graphql",
                "POST",
                {"query": query},
                content_type="application/json",
                x_nova_subject=ben.id,
                **headers,
            )
            assert "errors" not in answer.body, answer
            return answer

        def pages(**headers: str) -> list[list[str]]:
            query = f'{{ feed {{ items {{ text }} }} posts(author: "{ben.id}") {{ items {{ text }} }} }}'
            found = ask(query, **headers).body["data"]
            return [[post["text"] for post in found[page]["items"]] for page in ("feed", "posts")]

        eventually(lambda: texts(ben, anna) == ["hers"], within=20)
        with still(pair[1]):
            ben.follow(anna)
            written = ask('mutation { createPost(text: "his") { id } }')
            cookie = written.headers["set-cookie"]
            assert {"HttpOnly", "Max-Age=60", "SameSite=Lax"} <= set(cookie.split("; "))
            assert pages() == [[], []]
            assert pages(cookie=cookie.partition(";")[0]) == [["hers"], ["his"]]
        assert "set-cookie" not in ask("{ __typename }", cookie=cookie.partition(";")[0]).headers


def test_a_replica_that_dies_costs_nobody_an_answer(content: Content, pair: tuple[Postgres, Postgres]) -> None:
    anna, ben = content.person(), content.person()
    ben.follow(anna)
    post = anna.post()
    eventually(lambda: ben.feed() == [post], within=20)
    pair[1].stop()
    try:
        for _ in range(5):
            assert ben.feed() == [post]
    finally:
        pair[1].start()


def test_its_sidecar_hears_how_full_each_pool_is(
    pair: tuple[Postgres, Postgres], kafka: Kafka, start: StartSidecar, app: StartApp
) -> None:
    sidecar = start(document(inbound(app().address), pool_guard=PoolGuardPolicy(mode="Enforce")))
    control = f"http://127.0.0.1:{sidecar.config.admin.control.port}"
    database, replica = Database(pair[0]), ("--replica", pair[0].url)
    with serving(database, kafka, "unheard.", "127.0.0.1:1", *replica, NOVA_CONTROL_URL=control):
        eventually(lambda: sidecar.metric("nova_pool_guard_reports_total", result="accepted") > 1, within=10)
        for pool in ("content", "content-replica-1"):
            assert sidecar.metric("nova_pool_guard_utilization_ratio", pool=pool) < 1
