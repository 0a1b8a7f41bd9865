"""A store as the configuration describes it, with its guard. Imported where one is configured."""

from collections.abc import Callable
from random import Random

from nova_api.proxy import Store as Settings
from nova_sidecar.store.guarded import MOST, GuardedStore
from nova_sidecar.store.redis_store import RedisBackend


def open_store(settings: Settings, *, rng: Random, clock: Callable[[], float]) -> GuardedStore:
    """It connects when it is first asked, after `start`."""
    return GuardedStore(
        RedisBackend(settings.url, MOST),
        timeout=float(settings.timeout),
        directory=settings.directory,
        rng=rng,
        clock=clock,
    )
