"""A Kafka that lets in only who knows a password, and a relay that has it in a file."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
import yaml

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .outboxes import Relay, connected, installed, relaying

DOCS = Path(__file__).resolve().parents[3] / "docs"
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PASSWORD = f"secret-{uuid.uuid4().hex}"
CLIENT = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "shop"}
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
GUARDED = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": f'{_LOGIN} username="broker" password="{PASSWORD}"'
    f' user_broker="{PASSWORD}" user_shop="{PASSWORD}";',
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Kafka]:
    server = Kafka(GUARDED, client={**CLIENT, "sasl.password": PASSWORD})
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    name = f"guarded-{uuid.uuid4().hex[:12]}"
    yield installed(postgres, name)
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def secret(folder: Path, password: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in {**CLIENT, "sasl.password": password}.items():
        (folder / name).write_text(value + "\n")
    return folder


def readiness(relay: Relay) -> dict[str, str]:
    try:
        return dict(json.loads(relay.page("/readyz")))
    except HTTPError as error:
        return dict(json.loads(error.read()))


def test_a_relay_that_gets_its_password_from_a_folder_reaches_kafka(guarded: Kafka, url: str, tmp_path: Path) -> None:
    """The first password is wrong, and the right one is found without a restart."""
    topic = guarded.make_topic(f"t-{uuid.uuid4().hex[:12]}")
    folder = secret(tmp_path / "secret", f"wrong-{PASSWORD}")
    append = f"SELECT nova_outbox_append('{topic}', '7', 'order-paid', '{{}}')"
    connected(url, lambda connection: connection.execute(append))
    with relaying(url, guarded.url, f"--kafka-file={folder}") as relay:
        eventually(lambda: readiness(relay) == {"status": "waiting", "waitsFor": "Kafka"}, within=10)
        relay.line("kafka lost")
        secret(folder, PASSWORD)
        with guarded.reader(topic) as reader:
            (message,) = reader.until(1, within=20)
        assert message.key() == b"7"
        eventually(lambda: readiness(relay) == {"status": "ok", "waitsFor": ""})
        command = Path(f"/proc/{relay.process.pid}/cmdline").read_bytes().decode()
        assert PASSWORD not in command + json.dumps(relay.lines) + relay.page("/metrics")


def words_of_the_page() -> list[str]:
    """What the operator makes of the NovaService that docs/outbox.md shows, without what is another place's."""
    text = next(block for block in YAML.findall((DOCS / "outbox.md").read_text()) if "kind: NovaService" in block)
    children = desired_state(
        convert(yaml.safe_load(text), NovaService), Defaults(sidecar_image="s", sidecar_requests={})
    )
    (relay,) = (one for one in children if (one["kind"], one["metadata"]["name"]) == ("Deployment", "shop-relay"))
    command, *words = relay["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "relay"
    elsewhere = ("--brokers=", "--port=", "--kafka=", "--kafka-file=")
    assert {word.partition("=")[0] + "=" for word in words} >= set(elsewhere)
    return [word for word in words if not word.startswith(elsewhere)]


def test_the_relay_that_the_operator_makes_runs(guarded: Kafka, url: str, tmp_path: Path) -> None:
    folder = secret(tmp_path / "secret", PASSWORD)
    with relaying(url, guarded.url, *words_of_the_page(), f"--kafka-file={folder}") as relay:
        eventually(lambda: readiness(relay)["status"] == "ok", within=20)
