"""Kafka as one node that is broker and controller (KRaft), from Maven's artifacts: no download page, no container.

https://kafka.apache.org/documentation/#kraft
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from nova_cli.cluster.cache import cache_root, content_key, publish
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.errors import MissingRequirementError

POM: Final = Path(__file__).with_name("pom.xml")
PACKAGES: Final = "openjdk-17-jre-headless maven"
STARTED: Final = "Kafka Server started"
"""What the broker logs when it takes requests."""
CLUSTER: Final = "bm92YS1sb29wYmFjay0xMg"
"""16 bytes in base64url, as the format asks for; any will do."""
JAVA: Final = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""A small heap, and the compiler that is soon done: a developer's broker starts more often than it is busy."""
LOGGING: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.kafka.name = kafka
logger.kafka.level = info
"""


def version() -> str:
    """Of the Kafka that is run."""
    match = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)<", POM.read_text())
    assert match is not None  # noqa: S101 - our own file
    return match[1]


def libraries(console: Console) -> Path:
    """The folder with Kafka's libraries, fetched by Maven the first time.

    Raises MissingRequirementError without Java or Maven, CommandError where Maven cannot fetch them.
    """
    for program in ("java", "mvn"):
        if not shutil.which(program):
            raise MissingRequirementError(f"Kafka needs {program}: apt-get install {PACKAGES}")

    def fetch(folder: Path) -> None:
        with console.step(f"fetch Kafka {version()} with Maven"):
            words: list[str | Path] = [
                "mvn",
                "-q",
                "-B",
                "-f",
                POM,
                "dependency:copy-dependencies",
                f"-DoutputDirectory={folder}",
            ]
            run(words, timeout=600)

    return publish(cache_root() / f"kafka-{version()}-{content_key([POM])}", fetch)


def prepare(folder: Path, *, port: int, controller: int, console: Console) -> None:
    """Write the configuration of a node into `folder`, and format its storage unless it has some."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = properties(folder / "data", listens="127.0.0.1", port=port, controller=controller)
    (folder / "server.properties").write_text(settings)
    (folder / "log4j2.properties").write_text(LOGGING)
    if not (folder / "data" / "meta.properties").exists():
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(folder / "server.properties")]
        run([*_java(folder, console), *tool], timeout=120)


def command(folder: Path, console: Console) -> list[str]:
    """What starts the node that was prepared in `folder`."""
    return [*_java(folder, console), "kafka.Kafka", str(folder / "server.properties")]


def ready(log: Path, since: int) -> bool:
    """Whether the broker has said so, after the first `since` bytes of its log."""
    with log.open("rb") as file:
        file.seek(since)
        return STARTED.encode() in file.read()


def _java(folder: Path, console: Console) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return ["java", *JAVA, logging, "-cp", f"{libraries(console)}/*"]


def properties(
    data: Path, *, listens: str, port: int, controller: int, known: str = "127.0.0.1", session: int = 2000
) -> str:
    """The configuration of one node with its log in `data`, which listens on the address `listens` and tells clients
    the host `known`; `session` is in milliseconds. Everything that is copied elsewhere by default has one copy, and
    little is set up in advance.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://{listens}:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://{known}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "num.partitions": 4,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "broker.session.timeout.ms": session,  # a killed node is let in again when its last session is over
        "broker.heartbeat.interval.ms": 500,
        "controlled.shutdown.enable": "false",  # there is nobody to take over
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
