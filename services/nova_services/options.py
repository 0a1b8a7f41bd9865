"""Flags that services share, by the same names and from the same variables of the environment."""

import argparse
import os
from collections.abc import Callable


def port(text: str) -> int:
    """A port; 0 is any that is free. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def above_zero(most: float, what: str = "seconds") -> Callable[[str], float]:
    """Type of a flag: a number above 0 and up to `most`, of `what`. It raises argparse.ArgumentTypeError."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        if not 0 < found <= most:
            raise argparse.ArgumentTypeError(f"expected {what} above 0 and at most {most:g}, got {text}")
        return found

    return read


def listening(parser: argparse.ArgumentParser) -> None:
    """--host and --port, which every service has."""
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104 - a pod's
    parser.add_argument("--port", type=port, default=8081, help="port to listen on, 0 for any (default %(default)s)")


def grpc_port(parser: argparse.ArgumentParser) -> None:
    """--grpc-port."""
    parser.add_argument("--grpc-port", type=port, default=9081, help="port of gRPC, 0 for any (default %(default)s)")


def metrics_port(parser: argparse.ArgumentParser) -> None:
    """--metrics-port."""
    parser.add_argument("--metrics-port", type=port, default=9466, help="port of /metrics (default %(default)s)")


def database(parser: argparse.ArgumentParser) -> None:
    """--database, or DATABASE_URL, which keeps a password out of the list of processes; and --pool-size."""
    _from_environment(parser, "--database", "URL", "DATABASE_URL")
    parser.add_argument("--pool-size", type=positive, default=10, help="most connections (default %(default)s)")


def brokers(parser: argparse.ArgumentParser) -> None:
    """--brokers, or KAFKA_BROKERS, and --topic-prefix."""
    _from_environment(parser, "--brokers", "ADDRESSES", "KAFKA_BROKERS")
    parser.add_argument("--topic-prefix", default="", help="as the relays have it; also of consumer groups")


def redis(parser: argparse.ArgumentParser) -> None:
    """--redis, or REDIS_URL; a service works without."""
    parser.add_argument("--redis", metavar="URL", default=os.environ.get("REDIS_URL"), help="default: $REDIS_URL")


def sweep_every(parser: argparse.ArgumentParser, seconds: float) -> None:
    """--sweep-every, of what is removed since it is too old."""
    parser.add_argument(
        "--sweep-every",
        metavar="SECONDS",
        type=positive,
        default=round(seconds),
        help="how often rows that are too old are removed (default %(default)s)",
    )


def address(parser: argparse.ArgumentParser, service: str, default_port: int = 9090) -> None:
    """--SERVICE-address, of another one's gRPC."""
    where = f"{service}:{default_port}"
    parser.add_argument(f"--{service}-address", metavar="HOST:PORT", default=where, help="default: %(default)s")


def _from_environment(parser: argparse.ArgumentParser, flag: str, metavar: str, variable: str) -> None:
    found = os.environ.get(variable)
    parser.add_argument(flag, metavar=metavar, default=found, required=found is None, help=f"default: ${variable}")
