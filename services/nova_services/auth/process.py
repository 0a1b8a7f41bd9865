"""auth as a process."""

import argparse
from pathlib import Path
from random import Random

from nova_services import options, rpc
from nova_services.auth.accounts import Accounts
from nova_services.auth.api import API
from nova_services.auth.keys import KeyFolder
from nova_services.auth.metrics import AuthMetrics
from nova_services.auth.rpc import AuthService
from nova_services.auth.service import Auth
from nova_services.auth.sweeping import sweeping
from nova_services.auth.tokens import Issuer
from nova_services.background import background
from nova_services.backing import standing
from nova_services.openapi import publish
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    options.database(parser)
    options.grpc_port(parser)
    options.metrics_port(parser)
    parser.add_argument("--keys", metavar="FOLDER", type=Path, required=True, help="of files such as 2026-11-01.pem")
    parser.add_argument("--issuer", metavar="NAME", default="http://auth", help="iss of tokens (default %(default)s)")
    parser.add_argument("--audience", metavar="NAME", action="append", help="aud of tokens, repeatable (default nova)")


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM. Raises ValueError where the keys cannot be read."""
    keys = KeyFolder(given.keys)
    issuer = Issuer(name=given.issuer, audiences=tuple(given.audience or ["nova"]))
    async with standing(given, "auth") as stand:
        accounts, metrics = Accounts(stand.database), AuthMetrics(stand.registry)
        told = AuthService(accounts, keys, issuer, metrics)
        served = Auth(accounts, keys, issuer, metrics).application()
        publish(served, API)
        random = Random()  # noqa: S311 - spreads work
        async with (
            rpc.served([told.register], host=given.host, port=given.grpc_port),
            background(sweeping(accounts, metrics, random=random), "sweeping"),
        ):
            await serve(served, host=given.host, port=given.port)
