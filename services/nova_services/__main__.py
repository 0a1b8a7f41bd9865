"""``python -m nova_services SERVICE``: one service, one process."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from nova_data.errors import ListenError
from nova_services import logs, options

_SERVICES: Final = {
    "storefront": ("storefront", "a page that needs the catalog"),
    "catalog": ("catalog", "items behind a worker of limited capacity"),
    "auth": ("auth.process", "accounts, logins and tokens"),
    "users": ("users.process", "profiles, preferences and blocks"),
    "content": ("content.process", "posts, comments, follows and feeds"),
    "recommendations": ("recommendations.process", "posts of people whom one does not follow yet"),
    "messaging": ("messaging.process", "conversations over WebSockets"),
    "media": ("media.process", "pictures and films"),
    "notification": ("notification.process", "what people should hear of"),
    "search": ("search.process", "posts and people, found by their words"),
    "graphql": ("graphql.process", "one question for what several services know"),
}
"""Name → module with `add_arguments(parser)` and `run(options)`, and what it is. Only the one asked for is imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service that the command line names, until SIGTERM; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    found = _parser(given[0] if given else "").parse_args(given)
    logs.configure(found.service)
    try:
        asyncio.run(found.run(found))
    except ListenError as error:
        print(f"nova_services {found.service}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(asked: str) -> argparse.ArgumentParser:
    """With the flags of the service that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m nova_services", description="Nova's reference services.")
    services = parser.add_subparsers(dest="service", required=True)
    for name, (module, words) in _SERVICES.items():
        one = services.add_parser(name, help=words)
        if name == asked:
            service = import_module(f"nova_services.{module}")
            service.add_arguments(one)
            options.listening(one)
            one.set_defaults(run=service.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
