"""The workers: a key goes to one that can take it."""

import asyncio
from random import Random

from nova_operator.mirror import ServiceKey
from nova_operator.runner import Runner

SHOP = ServiceKey("market", "shop")


async def done(key: ServiceKey) -> float | None:
    return None


def test_a_key_is_not_handed_to_a_worker_that_is_being_ended() -> None:
    """As a replica ends, a key may come due in the very turn of the loop in which its workers are cancelled."""

    async def scenario() -> int:
        runner = Runner("look", done, 2, Random(7))
        workers = asyncio.create_task(runner.run())
        for _ in range(3):  # the group starts, the workers start and wait
            await asyncio.sleep(0)
        assert "idle=2" in repr(runner)
        workers.cancel()
        await asyncio.sleep(0)  # the group has cancelled its workers, and none has heard of it yet
        runner.add(SHOP)
        await asyncio.gather(workers, return_exceptions=True)
        return runner.overdue()

    assert asyncio.run(scenario()) == 1
