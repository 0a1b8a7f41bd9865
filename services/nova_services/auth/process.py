"""auth as a process."""

import argparse
from pathlib import Path

from nova_services import options
from nova_services.auth.accounts import Accounts
from nova_services.auth.keys import KeyFolder
from nova_services.auth.metrics import AuthMetrics
from nova_services.auth.service import Auth
from nova_services.auth.tokens import Issuer
from nova_services.backing import standing
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    options.database(parser)
    options.metrics_port(parser)
    parser.add_argument("--keys", metavar="FOLDER", type=Path, required=True, help="of files such as 2026-11-01.pem")
    parser.add_argument("--issuer", metavar="NAME", default="http://auth", help="iss of tokens (default %(default)s)")
    parser.add_argument("--audience", metavar="NAME", action="append", help="aud of tokens, repeatable (default nova)")


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM. Raises ValueError where the keys cannot be read."""
    keys = KeyFolder(given.keys)
    issuer = Issuer(name=given.issuer, audiences=tuple(given.audience or ["nova"]))
    async with standing(given, "auth") as stand:
        auth = Auth(Accounts(stand.database), keys, issuer, AuthMetrics(stand.registry))
        await serve(auth.application(), host=given.host, port=given.port)
