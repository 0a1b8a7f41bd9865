"""Settings of Kafka's client that stand in a file, so that neither a command line nor an environment shows a secret.

    a file     lines `name=value`, as Kafka's own tools have them; one that begins with # is a comment
    a folder   a file for each setting, as Kubernetes mounts a Secret; of it ca.crt, tls.crt and tls.key are not read:
               they are what ssl.ca.location, ssl.certificate.location and ssl.key.location name

https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from nova_data.errors import KafkaSettingsError

VARIABLE: Final = "KAFKA_CONFIG_FILE"
LARGEST: Final = 64 * 1024
"""Bytes of a file."""
_TLS: Final = {
    "ca.crt": "ssl.ca.location",
    "tls.crt": "ssl.certificate.location",
    "tls.key": "ssl.key.location",
}
_NAME: Final = re.compile(r"[a-z0-9]+([._][a-z0-9]+)*")


def from_environment() -> dict[str, str]:
    """Those of the file or folder that `KAFKA_CONFIG_FILE` names; none where it names none. Raises
    KafkaSettingsError."""
    named = os.environ.get(VARIABLE)
    return read(Path(named)) if named else {}


def read(path: Path) -> dict[str, str]:
    """Those of a file or a folder. Raises KafkaSettingsError, which names file and line and no value."""
    try:
        return dict(_of_folder(path) if path.is_dir() else _of_lines(path))
    except UnicodeDecodeError as error:
        raise KafkaSettingsError(f"{path}: expected text in UTF-8") from error
    except OSError as error:
        raise KafkaSettingsError(f"{path}: cannot be read: {error.strerror}") from error


def without(text: str, settings: Mapping[str, str]) -> str:
    """What somebody said of them, without their values."""
    for value in sorted(filter(None, settings.values()), key=len, reverse=True):
        text = text.replace(value, "…")
    return text


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    """What begins with a dot is how Kubernetes exchanges all files at once."""
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.name in _TLS:
            yield _TLS[file.name], str(file)
        else:
            yield _named(file.name, f"{file}"), _text(file).removesuffix("\n").removesuffix("\r")


def _of_lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise KafkaSettingsError(f"{file}, line {number}: expected name=value")
        yield _named(name.strip(), f"{file}, line {number}"), value.strip()


def _named(name: str, where: str) -> str:
    """What is no name may be a secret in the wrong place, so it is not said."""
    if not _NAME.fullmatch(name):
        known = ", ".join(_TLS)
        raise KafkaSettingsError(f"{where}: expected the name of a setting such as sasl.password, or {known}")
    return name


def _text(file: Path) -> str:
    if file.stat().st_size > LARGEST:
        raise KafkaSettingsError(f"{file}: expected at most {LARGEST} bytes")
    return file.read_text(encoding="utf-8")
