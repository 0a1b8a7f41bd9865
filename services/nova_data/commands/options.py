"""Arguments that several sub-commands share."""

import argparse
import math
import os
from typing import Final
from uuid import UUID

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
    """Add `--brokers` and `--kafka`."""
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


def add_lock_timeout(parser: argparse._ActionsContainer) -> None:
    """Add `--lock-timeout`, to a parser or a group of one."""
    parser.add_argument(
        "--lock-timeout",
        type=seconds,
        default=0.5,
        metavar="TIME",
        help="wait so long for a lock of a table, as writers may have to wait behind it (default: 500ms)",
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


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text.partition('=')[0]!r}")
    return name, value
