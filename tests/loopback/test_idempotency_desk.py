"""Requests with a key, where the order of things matters: in this process, with a real Redis where one is needed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from nova_api.proxy import Store
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.units import Duration
from nova_sidecar.pipeline.idempotency_desk import MOST_WAITING, IdempotencyDesk

from .support.inprocess import Answer, Asked, Bench, Client, bench, run
from .support.redisservers import HOST, Server

ON = IdempotencyPolicy(mode="Enforce")
KEY = "idempotency-key: k"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


class Work:
    """An app that answers once it may, with the next status; all at once when it is let go."""

    def __init__(self, *statuses: str) -> None:
        self.may = asyncio.Event()
        self.statuses = list(statuses)

    async def __call__(self, asked: Asked) -> None:
        await self.may.wait()
        asked.answer(self.statuses.pop(0) if self.statuses else "201 Created", body=b"done")


def desk(one: Bench) -> IdempotencyDesk:
    desks: Any = one.proxy._shared.desks
    return cast(IdempotencyDesk, desks.get("idempotency"))


async def post(one: Bench, *fields: str) -> Answer:
    return await one.get("/orders", KEY, *fields, method="POST", body=b"{}")


async def begun(one: Bench) -> Client:
    """A request that is under way at the app."""
    client = await one.ask("/orders", KEY, method="POST", body=b"{}")
    await one.app.until(1)
    return client


def replayed(answer: Answer) -> bool:
    return answer["idempotent-replayed"] == "true"


def test_a_lease_is_given_up_after_a_renewal_that_is_under_way(redis: Server) -> None:
    """Else the renewal could come last, and take again for ten seconds what nobody has any more."""

    async def scene() -> None:
        app = Work("503 Service Unavailable")
        store = Store(url=f"redis://{HOST}:{redis.port}/0", timeout=Duration(5))
        async with bench(app, store=store, idempotency=ON) as one:
            client = await begun(one)
            shared = one.proxy._shared.store
            assert shared is not None
            (claim,) = desk(one)._claims.values()
            redis.command("CLIENT", "PAUSE", 10_000, "WRITE")
            desk(one)._renew(claim)  # as its timer does
            await one.until(lambda: shared.snapshot()["underWay"] == 1)
            app.may.set()
            assert (await client.answer()).status == 503
            for _ in range(20):
                await asyncio.sleep(0)
            assert shared.snapshot()["underWay"] == 1, "the renewal alone"
            redis.command("CLIENT", "UNPAUSE")
            await one.until(lambda: not desk(one)._claims)
            assert redis.keys() == []
            assert (await post(one)).status == 201

    run(scene())


def test_who_waits_for_nobody_is_let_in_however_many_wait() -> None:
    async def scene() -> None:
        app = Work()
        async with bench(app, idempotency=ON) as one:
            first = await begun(one)
            desk(one)._waiting += MOST_WAITING
            follower = await post(one)
            assert (follower.status, follower["x-nova-reject"]) == (409, "idempotency_conflict")
            app.may.set()
            other = await one.get("/orders", "idempotency-key: another", method="POST", body=b"{}")
            assert other.status == 201
            assert (await first.answer()).status == 201
            desk(one)._waiting -= MOST_WAITING
            assert replayed(await post(one))

    run(scene())


def test_what_shadow_has_remembered_is_nobodys_answer_in_enforce() -> None:
    async def scene() -> None:
        app = Work()
        async with bench(app, idempotency=IdempotencyPolicy(mode="Shadow")) as one:
            under_way = await begun(one)
            await one.reload(idempotency=ON)
            app.may.set()
            assert (await under_way.answer()).status == 201
            first, second = await post(one), await post(one)
            assert (first.status, replayed(first)) == (201, False), "Shadow guarded nothing"
            assert replayed(second)
            assert len(one.app.asked) == 2
            await one.reload(idempotency=IdempotencyPolicy(mode="Shadow"))
            third = await post(one)
            assert (third.status, replayed(third)) == (201, False)

    run(scene())
