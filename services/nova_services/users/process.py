"""users as a process."""

import argparse

from nova_data.cache.metrics import CacheMetrics
from nova_services import options, rpc
from nova_services.backing import redis, standing
from nova_services.consuming import consuming
from nova_services.users.blocks import Blocks
from nova_services.users.hearing import TOPICS, Hearing
from nova_services.users.metrics import UsersMetrics
from nova_services.users.preferences import PreferenceStore
from nova_services.users.profiles import Profiles
from nova_services.users.rpc import UsersService
from nova_services.users.service import Users
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    options.database(parser)
    options.brokers(parser)
    options.redis(parser)
    options.grpc_port(parser)
    options.metrics_port(parser)


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with (
        standing(given, "users") as stand,
        redis(given.redis) as shared,
        PreferenceStore(stand.database, redis=shared, metrics=CacheMetrics(stand.registry)) as preferences,
    ):
        metrics = UsersMetrics(stand.registry)
        profiles, blocks = Profiles(stand.database), Blocks(stand.database)
        users = Users(profiles, preferences, blocks, metrics)
        hearing = Hearing(preferences, metrics)
        told = UsersService(profiles, blocks)
        async with (
            consuming(stand, given, TOPICS, hearing.effects),
            rpc.served([told.register], host=given.host, port=given.grpc_port),
        ):
            await serve(users.application(), host=given.host, port=given.port)
