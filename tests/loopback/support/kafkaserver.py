"""A real Kafka: one node on loopback, with what `nova services` runs."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from nova_cli.console import Console
from nova_cli.errors import CommandError
from nova_cli.services import kafka
from tests.bench.tools import Unavailable, program

from .ports import free_ports
from .waiting import eventually

HOST = "127.0.0.1"


class Server:
    """One node with no topics; `stop` kills it, `start` starts it again at the same port with what it had. `settings`
    are the node's, beside those of `nova services`, and `client` what a client needs to be let in.

    Raises tests.bench.tools.Unavailable where there is no Java, or its libraries cannot be had.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, client: Mapping[str, str] | None = None) -> None:
        self._client = dict(client or {})
        for name in ("javac", "mvn"):
            program(name)
        self.port, controller = free_ports(2)
        self._folder = Path(tempfile.mkdtemp(prefix="nova-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            kafka.prepare(self._folder, port=self.port, controller=controller, console=Console(quiet=True))
            with (self._folder / "server.properties").open("a") as file:
                file.writelines(f"{name}={value}\n" for name, value in (settings or {}).items())
            self._command = kafka.command(self._folder, Console(quiet=True))
            self.start()
        except CommandError as error:
            self.close()
            raise Unavailable(str(error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Its bootstrap address."""
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it takes requests. Raises RuntimeError where it ends instead."""
        log = self._folder / "log"
        log.touch()
        since = log.stat().st_size
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder
            )
        try:
            eventually(lambda: self._ready(log, since), within=50, every=0.05)
        except BaseException:
            self.stop()
            raise

    def _ready(self, log: Path, since: int) -> bool:
        if kafka.ready(log, since):
            return True
        said = "\n".join(log.read_bytes()[since:].decode(errors="replace").splitlines()[-12:])
        if self._process is not None and (code := self._process.poll()) is not None:
            raise RuntimeError(f"Kafka ended with {code} while it started; it said last\n{said}")
        raise AssertionError(f"Kafka has not started; it said last\n{said}")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def make_topic(self, name: str, *, partitions: int = 4, exist_ok: bool = False, **settings: str) -> str:
        """Make a topic with such settings (underscores stand for dots), and return its name; `exist_ok`: or have it as
        another test has left it."""
        wanted = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in settings.items()})
        admin = AdminClient({"bootstrap.servers": self.url, **self._client})
        try:
            admin.create_topics([wanted])[name].result(timeout=20)
        except KafkaException as error:
            if not exist_ok or error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        return name

    def make_topics(self, *names: str, partitions: int = 4) -> None:
        """Make several at once, which takes as long as one."""
        admin = AdminClient({"bootstrap.servers": self.url})
        for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
            made.result(timeout=20)

    def reader(self, *topics: str, **settings: Any) -> "Reader":
        """Reads topics from their beginning."""
        return Reader(self.url, topics, {**self._client, **settings})


class Reader:
    """All messages of some topics, in the order in which they came; of one partition that is the order they lie in."""

    def __init__(self, url: str, topics: tuple[str, ...], settings: dict[str, Any]) -> None:
        options = {"group.id": "tests", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        self._consumer = Consumer({"bootstrap.servers": url, **options, **settings})
        parts = self._consumer.list_topics(timeout=20).topics
        self._consumer.assign([TopicPartition(topic, part, 0) for topic in topics for part in parts[topic].partitions])
        self.messages: list[Any] = []

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def take(self, seconds: float = 0.05) -> None:
        """Add what has come, waiting so long for the first of it."""
        self.messages += [one for one in self._consumer.consume(5000, timeout=seconds) if one.error() is None]

    def until(self, count: int, within: float = 20.0) -> list[Any]:
        """All messages, once there are so many."""

        def enough() -> bool:
            self.take()
            assert len(self.messages) >= count, f"{len(self.messages)} of {count} messages"
            return True

        eventually(enough, within=within)
        return self.messages
