"""``python -m nova_services storefront|catalog|auth``: one service, one process."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from nova_services import logs
from nova_services.catalog import Catalog
from nova_services.storefront import Storefront
from nova_services.web import serve
from nova_services.worker import Worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service that the command line names, until SIGTERM."""
    options = _parser().parse_args(arguments)
    logs.configure(options.service)
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    if options.service == "auth":
        await _run_auth(options)
        return
    if options.service == "catalog":
        worker = Worker(slots=options.slots, service_time=options.service_time_ms / 1000)
        served = Catalog(worker, Random()).application()  # noqa: S311 - chooses which requests fail in the demo
    else:
        served = Storefront(options.catalog_url).application()
    await serve(served, host=options.host, port=options.port)


async def _run_auth(options: argparse.Namespace) -> None:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - the other services need none of these

    from nova_data.pages import served  # noqa: PLC0415 - as above
    from nova_data.pool.database import Database  # noqa: PLC0415 - as above
    from nova_data.pool.metrics import DatabaseMetrics  # noqa: PLC0415 - as above
    from nova_services.auth.keys import KeyFolder  # noqa: PLC0415 - as above
    from nova_services.auth.metrics import AuthMetrics  # noqa: PLC0415 - as above
    from nova_services.auth.service import Auth  # noqa: PLC0415 - as above
    from nova_services.auth.tokens import Issuer  # noqa: PLC0415 - as above

    registry = CollectorRegistry()
    database = Database(options.database, name="auth", metrics=DatabaseMetrics(registry))
    issuer = Issuer(name=options.issuer, audiences=tuple(options.audience or ["nova"]))
    auth = Auth(database, KeyFolder(options.keys), issuer, AuthMetrics(registry))
    with served(options.host, options.metrics_port, registry, lambda: {"status": "ok"}) as port:
        logs.get_logger().info("pages served", address=f"{options.host}:{port}")
        await serve(auth.application(), host=options.host, port=options.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nova_services", description="Nova's reference services.")
    services = parser.add_subparsers(dest="service", required=True)
    storefront = services.add_parser("storefront", help="a page that needs the catalog")
    storefront.add_argument("--catalog-url", metavar="URL", default="http://catalog:8080", help="default: %(default)s")
    catalog = services.add_parser("catalog", help="items behind a worker of limited capacity")
    catalog.add_argument("--slots", type=_positive, default=8, help="requests worked on at once (default %(default)s)")
    catalog.add_argument(
        "--service-time-ms", type=_positive, default=20, help="time each takes, milliseconds (default %(default)s)"
    )
    auth = services.add_parser("auth", help="accounts, logins and tokens")
    database = os.environ.get("DATABASE_URL")
    auth.add_argument(
        "--database", metavar="URL", default=database, required=database is None, help="default: $DATABASE_URL"
    )
    auth.add_argument("--keys", metavar="FOLDER", type=Path, required=True, help="of files such as 2026-11-01.pem")
    auth.add_argument("--issuer", metavar="NAME", default="http://auth", help="iss of tokens (default %(default)s)")
    auth.add_argument("--audience", metavar="NAME", action="append", help="aud of tokens, repeatable (default nova)")
    auth.add_argument("--metrics-port", type=_port, default=9466, help="port of /metrics (default %(default)s)")
    for one in (storefront, catalog, auth):
        one.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104 - a pod's
        one.add_argument("--port", type=_port, default=8081, help="port to listen on, 0 for any (default %(default)s)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
