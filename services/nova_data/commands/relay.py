"""`nova-data relay`: the process that brings events to Kafka."""

import argparse
import asyncio
import re
import signal
import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from nova_data.commands import options as shared
from nova_data.outbox.partitions import AHEAD, KEEP

if TYPE_CHECKING:
    from nova_data.outbox.relay import Relay
    from nova_data.outbox.settings import Settings

STUCK: Final = 45.0
"""Seconds without a turn, beyond a round's longest, after which a relay is not healthy."""
EPILOG: Final = """\
examples:
  nova-data relay --brokers kafka:9092
  nova-data relay --brokers kafka:9092 --kafka security.protocol=SSL --kafka ssl.ca.location=/etc/kafka/ca.crt
  nova-data relay --brokers kafka:9092 --kafka-file /etc/kafka    a file for each setting, such as sasl.password

Any number may run at once: they share the work, and each event's order within its aggregate stays. The connection to
the database must be direct, or through a pooler in session mode. /metrics, /healthz and /readyz are served on --port;
the last says whether both PostgreSQL and Kafka answer.

SIGTERM finishes the round under way. exit codes: 0 ended by a signal, 1 there is no outbox, 2 wrong usage
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `nova-data relay`."""
    summary = "bring events from the outbox to Kafka, in order, at least once"
    parser = subparsers.add_parser(
        "relay", help=summary, description=summary, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_database(parser)
    shared.add_brokers(parser)
    parser.add_argument(
        "--topic-prefix",
        metavar="TEXT",
        type=_prefix,
        default="",
        help="events that name no topic go to this and the aggregate's type (default: nothing and the type)",
    )
    parser.add_argument("--batch", type=_batch, default=1000, help="events in a round at most (default: %(default)s)")
    parser.add_argument("--attempts", type=_attempts, default=10, help="until quarantine (default: %(default)s)")
    parser.add_argument(
        "--publish-timeout", type=shared.seconds, default=15.0, metavar="TIME", help="for a round (default: 15s)"
    )
    parser.add_argument("--keep", type=shared.positive, default=KEEP, metavar="DAYS", help="default: %(default)s")
    parser.add_argument("--ahead", type=shared.positive, default=AHEAD, metavar="DAYS", help="default: %(default)s")
    parser.add_argument("--no-retain", action="store_true", help="leave partitions alone")
    shared.add_lock_timeout(parser)
    parser.add_argument("--host", default="0.0.0.0", help="address of its pages (default: all)")  # noqa: S104 - a pod's
    parser.add_argument("--port", type=_port, default=9464, help="port of its pages, 0: any (default: %(default)s)")
    parser.set_defaults(func=_run)


def _run(given: argparse.Namespace) -> int:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - `nova-data --help` needs none of these

    from nova_data import logs, pages  # noqa: PLC0415 - as above
    from nova_data.outbox.relay import Relay  # noqa: PLC0415 - as above
    from nova_data.outbox.relay_metrics import RelayMetrics  # noqa: PLC0415 - as above

    logs.configure("nova-relay")
    registry = CollectorRegistry()
    relay = Relay(_settings(given), RelayMetrics(registry), rng=Random())  # noqa: S311 - spreads waits
    health, ready = partial(_health, relay, STUCK + given.publish_timeout), partial(_ready, relay)
    with pages.served(given.host, given.port, registry, health, ready) as port:
        logs.get_logger().info("listening", address=f"{given.host}:{port}")
        asyncio.run(_until_signal(relay))
    logs.get_logger().info("stopped")
    return 0


async def _until_signal(relay: "Relay") -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    await relay.run()


def _settings(given: argparse.Namespace) -> "Settings":
    from nova_data.backoff import Backoff  # noqa: PLC0415 - as above
    from nova_data.outbox.settings import Settings  # noqa: PLC0415 - as above

    return Settings(
        database=given.database,
        brokers=given.brokers,
        topic_prefix=given.topic_prefix,
        batch=given.batch,
        publish_timeout=given.publish_timeout,
        backoff=Backoff(attempts=given.attempts),
        keep=0 if given.no_retain else given.keep,
        ahead=given.ahead,
        lock_timeout=given.lock_timeout,
        kafka=dict(given.kafka),
        kafka_file=partial(shared.in_file, given),
    )


def _health(relay: "Relay", longest: float) -> dict[str, Any]:
    """A relay that waits for Kafka or its database is healthy, however long it takes; one whose loop stands is not."""
    idle = time.monotonic() - relay.turned
    return {
        "status": "ok" if idle < longest else "stuck",
        "breaker": relay.breaker.state,
        "idleSeconds": round(idle, 1),
    }


def _ready(relay: "Relay") -> dict[str, Any]:
    """Whether it can work. One that cannot takes part in nothing, and a rollout waits for it."""
    return {"status": "waiting" if relay.waits_for else "ok", "waitsFor": relay.waits_for}


def _attempts(text: str) -> int:
    value = shared.positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError("expected at least 2: the first may fail for what another event is")
    return value


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,48}", text):
        raise argparse.ArgumentTypeError(
            f"expected at most 48 letters, digits, dots, hyphens, underscores, got {text!r}"
        )
    return text


def _batch(text: str) -> int:
    value = shared.positive(text)
    if not 16 <= value <= 50_000:
        raise argparse.ArgumentTypeError(f"expected 16 to 50000, got {value}")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)
