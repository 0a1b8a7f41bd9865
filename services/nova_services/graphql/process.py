"""graphql as a process."""

import argparse

from prometheus_client import CollectorRegistry

from nova_services import options
from nova_services.backing import observed
from nova_services.graphql.calls import Patience
from nova_services.graphql.metrics import GraphqlMetrics
from nova_services.graphql.service import Gateway
from nova_services.graphql.upstreams import Addresses, Upstreams
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    options.metrics_port(parser)
    usual, seconds = Patience(), options.above_zero(60)
    parser.add_argument(
        "--call-seconds", type=seconds, default=usual.call, help="for one call to a service (default %(default)g)"
    )
    parser.add_argument(
        "--request-seconds",
        type=seconds,
        default=usual.request,
        help="for all that a request needs (default %(default)g)",
    )
    for service in ("users", "content", "messaging", "notification"):
        options.address(parser, service)
    for service in ("content", "search", "recommendations"):
        parser.add_argument(f"--{service}-url", metavar="URL", default=f"http://{service}", help="default: %(default)s")


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM; the services behind it need not be there."""
    registry = CollectorRegistry()
    addresses = Addresses(
        users=given.users_address,
        posts=given.content_address,
        messages=given.messaging_address,
        notifications=given.notification_address,
        content_url=given.content_url,
        search_url=given.search_url,
        recommendations_url=given.recommendations_url,
    )
    with observed(given, registry, lambda: {"status": "ok"}):
        async with Upstreams(addresses) as upstreams:
            patience = Patience(given.call_seconds, given.request_seconds)
            gateway = Gateway(upstreams, GraphqlMetrics(registry), patience)
            await serve(gateway.application(), host=given.host, port=given.port)
