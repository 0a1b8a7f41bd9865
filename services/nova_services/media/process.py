"""media as one process: HTTP, the sweep, and the consumer that hears of people who are erased.

It starts while its database or Kafka are away.
"""

import argparse
import os
from random import Random

from nova_services import options as flags
from nova_services.backing import standing
from nova_services.media.leaving import PLACES, TABLES, Leaving
from nova_services.media.metrics import MediaMetrics
from nova_services.media.records import Records
from nova_services.media.service import Media
from nova_services.media.shelf import opened
from nova_services.media.sweeping import EVERY
from nova_services.removal import Removal
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of media."""
    flags.metrics_port(parser)
    flags.database(parser)
    flags.brokers(parser)
    store = os.environ.get("MEDIA_STORE")
    parser.add_argument(
        "--store",
        metavar="FOLDER|URL",
        default=store,
        required=store is None,
        help="where contents lie: a folder, or s3://bucket/folder (default: $MEDIA_STORE)",
    )
    parser.add_argument(
        "--sweep-every",
        metavar="SECONDS",
        type=flags.positive,
        default=round(EVERY),
        help="how often contents without a row are looked for (default %(default)s)",
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM. Raises ValueError or OSError where the store cannot be opened."""
    shelf = opened(options.store)
    async with standing(options, "media") as stand:
        records = Records(stand.database)
        media = Media(
            records,
            shelf,
            MediaMetrics(stand.registry),
            sweep_every=options.sweep_every,
            random=Random(),  # noqa: S311 - spreads sweeps, guards nothing
        )
        removal = Removal(stand.database, PLACES, tables=TABLES, before=Leaving(shelf))
        async with removal.consumed(stand, options):
            await serve(media.application(), host=options.host, port=options.port)
