"""content as a process with a database of its own, and people who use it."""

import json
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.ports import free_ports

from .process import Answer, Service, running
from .telling import producer, send

ROOT = Path(__file__).resolve().parents[3]
MIGRATIONS = ROOT / "services/nova_services/content/migrations"
MANIFEST = ROOT / "examples/backend/content.yaml"


def prepared(database: Database) -> Database:
    """What the operator's Job does before a rollout of the example."""
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]["database"]
    done = database.command("apply", "--spec", json.dumps(spec), "--folder", MIGRATIONS)
    assert done.returncode == 0, done.stderr
    return database


def metric(port: int, series: str) -> float:
    """The value of one series of a service, 0 where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), 0.0)


class Content:
    """The running service, at its three ports."""

    def __init__(self, service: Service, grpc_port: int, metrics_port: int) -> None:
        self.service = service
        self.grpc = f"127.0.0.1:{grpc_port}"
        self._metrics_port = metrics_port

    def metric(self, series: str) -> float:
        """The value of one series."""
        return metric(self._metrics_port, series)

    def person(self) -> "Person":
        """Somebody new."""
        return Person(self.service)


@contextmanager
def serving(
    database: Database, kafka: Kafka, prefix: str, users: str, *words: str, **environment: str
) -> Iterator[Content]:
    """content, whose consumer reads the topics of this prefix."""
    grpc_port, metrics_port = free_ports(2)
    given = ("--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port), "--users-address", users)
    topics = ("--brokers", kafka.url, "--topic-prefix", prefix)
    with running("content", *given, *topics, *words, DATABASE_URL=database.url, **environment) as service:
        yield Content(service, grpc_port, metrics_port)


class Person:
    """Somebody who is logged in, as far as content can tell."""

    def __init__(self, service: Service) -> None:
        self.id = str(uuid.uuid4())
        self._service = service

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request of theirs."""
        return self._service.call(path, method, body, x_nova_subject=self.id, **headers)

    def post(self, text: str = "hello", **more: str) -> Any:
        """A post of theirs."""
        answer = self.call("POST", "/posts", {"text": text, **more})
        assert answer.status == 201, answer
        return answer.body

    def follow(self, other: "Person") -> None:
        """Follow somebody."""
        assert self.call("PUT", f"/follows/{other.id}").status == 204

    def feed(self, size: int = 100) -> list[Any]:
        """All of their feed, page by page."""
        found: list[Any] = []
        token = ""
        while True:
            answer = self.call("GET", f"/feed?pageSize={size}&pageToken={token}")
            assert answer.status == 200, answer
            found += answer.body["posts"]
            token = answer.body["nextPageToken"]
            if not token:
                return found

    def sees(self, post: Any) -> bool:
        """Whether they can read a post."""
        status = self.call("GET", f"/posts/{post['postId']}").status
        assert status in {200, 404}
        return status == 200


def tell(kafka: Kafka, topic: str, kind: str, payload: dict[str, Any], *, key: str, identity: str = "") -> str:
    """Send an event as a relay does; its idempotency key."""
    identity = identity or str(uuid.uuid4())
    send(producer(kafka), topic, kind, payload, key=key, event=identity, correlation=f"told-{identity}")
    return identity
