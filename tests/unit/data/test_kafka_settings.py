"""Settings of Kafka's client from a file or a folder: what is taken, and what is said of what is not."""

import argparse
from pathlib import Path

import pytest

from nova_data import kafka_settings
from nova_data.commands import dead_letters, options
from nova_data.consumer.dead_letter_list import DeadLetterList
from nova_data.errors import ConsumerError, KafkaSettingsError, OutboxError
from nova_data.outbox.publisher import Publisher


def test_lines_as_kafkas_own_tools_have_them(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# of the shop\n\nsecurity.protocol = SASL_SSL\r\nsasl.password=a=b c\n")
    assert kafka_settings.read(file) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b c"}


def test_a_folder_as_a_secret_is_mounted(tmp_path: Path) -> None:
    data = tmp_path / "..2026_11_29"
    data.mkdir()
    for name, text in {"sasl.username": "shop", "sasl.password": "secret\n", "ca.crt": "-----BEGIN"}.items():
        (data / name).write_text(text)
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "..data").symlink_to(data)
    assert kafka_settings.read(tmp_path) == {
        "sasl.username": "shop",
        "sasl.password": "secret",
        "ssl.ca.location": str(tmp_path / "ca.crt"),
    }


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("kafka.properties", b"sasl.password\nhunter2", "kafka.properties, line 1: expected name=value"),
        ("kafka.properties", b"hunter2 x=1", "line 1: expected the name of a setting such as sasl.password"),
        ("kafka.properties", b"sasl.password=\xffhunter2", "expected text in UTF-8"),
        ("kafka.properties", b"a=" + b"hunter2" * 10_000, "expected at most 65536 bytes"),
        ("missing.properties", None, "cannot be read: No such file or directory"),
        ("secret/User Password", b"hunter2", "expected the name of a setting such as sasl.password, or ca.crt"),
    ],
)
def test_what_is_none_is_refused_without_its_value(tmp_path: Path, name: str, content: bytes | None, rule: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KafkaSettingsError) as refusal:
        kafka_settings.read(file.parent if file.parent != tmp_path else file)
    assert rule in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kafka_settings.VARIABLE, raising=False)
    assert kafka_settings.from_environment() == {}
    file = tmp_path / "kafka"
    file.write_text("client.id=x")
    monkeypatch.setenv(kafka_settings.VARIABLE, str(file))
    assert kafka_settings.from_environment() == {"client.id": "x"}
    parser = argparse.ArgumentParser()
    options.add_brokers(parser)
    assert options.in_file(parser.parse_args(["--brokers", "k:1"])) == {"client.id": "x"}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"sasl.mechanism": "hunter2", "security.protocol": "hunter2"}, "security.protocol"),
        ({"acks": "hunter2"}, "kafka: acks: set by the relay itself"),
    ],
)
def test_what_kafkas_client_says_of_a_setting_is_said_without_its_value(settings: dict[str, str], rule: str) -> None:
    publisher = Publisher("127.0.0.1:9", {}, name="test", file=lambda: settings)
    with pytest.raises(OutboxError) as refusal:
        publisher.open()
    assert rule in str(refusal.value)
    assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__}"


def test_so_it_is_of_dead_letters() -> None:
    letters = DeadLetterList("127.0.0.1:9", "orders", {"security.protocol": "hunter2"})
    with pytest.raises(ConsumerError, match=r"security\.protocol") as refusal:
        letters.read()
    assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__}"


@pytest.mark.parametrize(
    "words",
    [
        ["orders", "orders/3/1", "orders/3/2", "--brokers", "k:1", "--to", "again"],
        ["--brokers", "k:1", "orders", "--to", "again", "orders/3/1", "orders/3/2"],
        ["orders", "--to", "again", "orders/3/1", "--brokers", "k:1", "orders/3/2"],
    ],
)
def test_ids_of_dead_letters_may_stand_anywhere(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    dead_letters.add(parser.add_subparsers())
    given = parser.parse_args(["dead-letters", "replay", *words])
    assert (given.topic, given.ids, given.to) == ("orders", ["orders/3/1", "orders/3/2"], "again")


def test_an_option_that_is_none_is_still_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    dead_letters.add(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["dead-letters", "list", "orders", "--brokers", "k:1", "--nothing"])
    assert "unrecognized arguments: --nothing" in capsys.readouterr().err
