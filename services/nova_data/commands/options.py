"""Arguments that several sub-commands share."""

import argparse
import math
import os
import re
from pathlib import Path
from typing import Final
from uuid import UUID

from nova_data import kafka_settings

DATABASE_VARIABLE: Final = "DATABASE_URL"
BROKERS_VARIABLE: Final = "KAFKA_BROKERS"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_database(parser: argparse.ArgumentParser) -> None:
    """Add `--database`. A URL with a password is better kept in the environment, where `ps` does not show it."""
    given = os.environ.get(DATABASE_VARIABLE)
    parser.add_argument(
        "--database",
        metavar="URL",
        default=given,
        required=given is None,
        help=f"postgresql://USER:PASSWORD@HOST:PORT/NAME (default: ${DATABASE_VARIABLE})",
    )


def add_brokers(parser: argparse.ArgumentParser) -> None:
    """Add `--brokers`, `--kafka` and `--kafka-file`. What is secret belongs into the file, where `ps` does not show
    it."""
    given = os.environ.get(BROKERS_VARIABLE)
    parser.add_argument(
        "--brokers",
        metavar="HOST:PORT,…",
        default=given,
        required=given is None,
        help=f"where Kafka is (default: ${BROKERS_VARIABLE})",
    )
    parser.add_argument(
        "--kafka",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="further setting of librdkafka; those that keep order and loss away cannot be changed",
    )
    named = os.environ.get(kafka_settings.VARIABLE)
    parser.add_argument(
        "--kafka-file",
        metavar="PATH",
        type=Path,
        default=Path(named) if named else None,
        help="such settings as lines NAME=VALUE, or a folder with a file for each, as a Secret is mounted; for what is "
        f"secret, such as sasl.password (default: ${kafka_settings.VARIABLE})",
    )


def in_file(given: argparse.Namespace) -> dict[str, str]:
    """The settings in `--kafka-file`; those of `--kafka` win. Raises KafkaSettingsError."""
    return {} if given.kafka_file is None else kafka_settings.read(given.kafka_file)


def add_lock_timeout(parser: argparse._ActionsContainer) -> None:
    """Add `--lock-timeout`, to a parser or a group of one."""
    parser.add_argument(
        "--lock-timeout",
        type=seconds,
        default=0.5,
        metavar="TIME",
        help="wait so long for a lock of a table, as writers may have to wait behind it (default: 500ms)",
    )


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add `--service`."""
    parser.add_argument(
        "--service",
        metavar="NAME",
        type=_service,
        help="whose migrations they are, where services share a database (default: of the only one that has some)",
    )


def seconds(text: str) -> float:
    """A time such as 500ms, 30s, 5m, 24h or 7d, more than 0, in seconds. Raises argparse.ArgumentTypeError."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :]
    try:
        value = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time such as 500ms, 30s, 5m, 24h or 7d, got {text!r}")
    return value


def positive(text: str) -> int:
    """A whole number from 1. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def uuid(text: str) -> UUID:
    """Raises argparse.ArgumentTypeError."""
    try:
        return UUID(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a UUID, got {text!r}") from error


def _service(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"expected the name of a service, such as shop, got {text!r}")
    return text


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text.partition('=')[0]!r}")
    return name, value
