"""Services of the reference backend as processes, each with its own database, made as its example says."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import yaml

from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres

from .process import Service, running
from .telling import Topics

ROOT = Path(__file__).resolve().parents[3]
NOBODY = "127.0.0.1:1"
TOPICS = ("user", "profile", "post", "comment", "follow", "message", "media")


class Shape(NamedTuple):
    """What a service needs, and what of it is not as with the others."""

    peers: tuple[str, ...] = ()
    """Services that it calls by gRPC; where they are not started, they are away."""
    database: bool = True
    topics: bool = True
    grpc: bool = True
    flags: tuple[str, ...] = ()


SHAPES = {
    "auth": Shape(topics=False),
    "users": Shape(),
    "content": Shape(peers=("users",)),
    # neither computed nor kept: what there is comes from content
    "recommendations": Shape(
        peers=("content",),
        database=False,
        grpc=False,
        flags=("--analytics", f"http://{NOBODY}", "--redis", f"redis://{NOBODY}"),
    ),
    "messaging": Shape(peers=("users",)),
    "notification": Shape(),
    "media": Shape(grpc=False),
    "search": Shape(peers=("users",), grpc=False),
}


@contextmanager
def tables(postgres: Postgres, name: str) -> Iterator[Database]:
    """A database as the operator's Job leaves it before a rollout of the example."""
    made = Database(postgres)
    spec = yaml.safe_load((ROOT / f"examples/backend/{name}.yaml").read_text())["spec"]["database"]
    folder = ROOT / f"services/nova_services/{name}/migrations"
    for words in (("outbox", "install"), ("apply", "--spec", json.dumps(spec), "--folder", folder)):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


class Backend:
    """Starts services that share topics; they end with its block."""

    def __init__(self, postgres: Postgres, kafka: Kafka) -> None:
        self._postgres = postgres
        self._kafka = kafka
        self._stack = ExitStack()
        self._topics: Topics | None = None
        self.databases: dict[str, Database] = {}
        self.services: dict[str, Service] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def topics(self) -> Topics:
        """Made when somebody needs them."""
        if self._topics is None:
            self._topics = Topics(self._kafka, "backend", *TOPICS)
        return self._topics

    def start(self, name: str, *words: str) -> Service:
        """Start a service, with more on its command line."""
        shape = SHAPES[name]
        given = ["--metrics-port", "0", *words, *shape.flags]
        for peer in shape.peers:
            given += [f"--{peer}-address", self._address(peer)]
        if shape.grpc:
            given += ["--grpc-port", "0"]
        if shape.topics:
            given += self.topics.words()
        environment = {}
        if shape.database:
            self.databases[name] = self._stack.enter_context(tables(self._postgres, name))
            environment["DATABASE_URL"] = self.databases[name].url
        self.services[name] = self._stack.enter_context(running(name, *given, **environment))
        return self.services[name]

    def start_graphql(self) -> Service:
        """The gateway, before those that were started."""
        self.services["graphql"] = self._stack.enter_context(
            running("graphql", "--metrics-port", "0", *self._addresses())
        )
        return self.services["graphql"]

    def _addresses(self) -> list[str]:
        found = {f"--{name}-address": self._address(name) for name in ("users", "content", "messaging", "notification")}
        for name in ("content", "search", "recommendations"):
            one = self.services.get(name)
            found[f"--{name}-url"] = f"http://127.0.0.1:{one.port}" if one else f"http://{NOBODY}"
        return [word for pair in found.items() for word in pair]

    def _address(self, name: str) -> str:
        """Of its gRPC."""
        one = self.services.get(name)
        return f"127.0.0.1:{one.grpc_port}" if one else NOBODY
