"""content and users as processes of their own: a block that is set at one is in force at the other, over gRPC."""

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.ports import free_ports
from tests.loopback.support.postgresserver import Server as Postgres

from .backend import tables
from .process import Service, running
from .social import Content, Person, prepared, serving


class Both(NamedTuple):
    """The two services."""

    users: Service
    content: Content

    def person(self) -> Person:
        """Somebody whom both know: users makes a profile at the first visit."""
        made = self.content.person()
        assert self.users.call("/profiles/me", x_nova_subject=made.id).status == 200
        return made

    def block(self, person: Person, other: Person, method: str = "PUT") -> None:
        """Set a block at users, or lift it."""
        answer = self.users.call(f"/blocks/{other.id}", method, x_nova_subject=person.id)
        assert answer.status == 204, answer


@pytest.fixture(scope="module")
def both(postgres: Postgres, kafka: Kafka) -> Iterator[Both]:
    prefix = f"both-{uuid.uuid4().hex[:8]}."
    kafka.make_topic(f"{prefix}user")
    (port,) = free_ports(1)
    topics = ("--brokers", kafka.url, "--topic-prefix", prefix)
    ports = ("--grpc-port", str(port), "--metrics-port", "0")
    own = prepared(Database(postgres))
    with (
        tables(postgres, "users") as database,
        running("users", *topics, *ports, DATABASE_URL=database.url) as users,
        serving(own, kafka, prefix, f"127.0.0.1:{port}") as content,
    ):
        yield Both(users, content)
    own.drop()


def test_who_is_blocked_neither_follows_nor_comments_until_it_is_lifted(both: Both) -> None:
    anna, ben = both.person(), both.person()
    post = anna.post()
    comments = f"/posts/{post['postId']}/comments"
    assert ben.call("POST", comments, {"text": "before"}).status == 201
    both.block(anna, ben)
    assert ben.call("PUT", f"/follows/{anna.id}").status == 403
    assert ben.call("POST", comments, {"text": "after"}).status in {403, 404}
    both.block(anna, ben, "DELETE")
    assert ben.call("PUT", f"/follows/{anna.id}").status == 204


def test_one_id_follows_a_request_to_the_service_that_is_asked(both: Both) -> None:
    anna, ben = both.person(), both.person()
    assert ben.call("PUT", f"/follows/{anna.id}", x_correlation_id="follow-17").status == 204
    line = both.users.line("call", correlation_id="follow-17")
    assert line["path"] == "/nova.users.v1.UsersService/CheckBlock"
