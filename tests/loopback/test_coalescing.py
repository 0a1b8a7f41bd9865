"""Identical requests share one call, and nobody pays for what happens to another one."""

import asyncio
from typing import Any

import pytest

from nova_api.policies import BackpressurePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.units import Duration

from .support.inprocess import Asked, Bench, Client, bench, run


def policy(**fields: Any) -> dict[str, Any]:
    patience = fields.pop("patience", 10.0)
    return {"coalescing": CoalescingPolicy(**{"mode": "Enforce", "patience": Duration(patience), **fields})}


async def silent(asked: Asked) -> None:
    """The test answers."""


async def crowd(at: Bench, count: int, *fields: str, target: str = "/item") -> list[Client]:
    """One that leads and some that follow, in that order."""
    before = len(at.app.asked)
    clients = [await at.ask(target, *fields)]
    await at.app.until(before + 1)
    clients += [await at.ask(target, *fields) for _ in range(count - 1)]
    await at.until(lambda: at.proxy.in_flight >= count)
    return clients


def test_many_get_the_response_of_one_call_each_with_its_own_id() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 20)
            at.app.asked[0].answer("200 OK", "etag: 1", body=b"shared")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert {(one.status, one.body, one["etag"]) for one in answers} == {(200, b"shared", "1")}
            assert len({one["x-correlation-id"] for one in answers}) == 20
            assert len(at.app.asked) == 1
            assert at.counts("coalescing") == {"led": 1, "followed": 19}

    run(scene())


def test_a_chunked_response_streams_to_all_with_its_trailers() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            app = at.app.asked[0]
            app.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            heads = [await one.reader.readuntil(b"first\r\n") for one in clients]
            assert all(b"transfer-encoding: chunked" in head for head in heads), "content goes on before there is all"
            app.send(b"4\r\nlast\r\n0\r\nx-sum: 1\r\n\r\n")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert {one.raw for one in answers} == {b"4\r\nlast\r\n0\r\nx-sum: 1\r\n\r\n"}

    run(scene())


def test_a_head_request_that_follows_gets_no_end_of_chunks() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            leader = await at.ask(method="HEAD")
            await at.app.until(1)
            follower = await at.ask(method="HEAD")
            await at.until(lambda: at.proxy.in_flight == 2)
            at.app.asked[0].send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            answers = [await one.answer() for one in (leader, follower)]
            assert [(one.status, one.body) for one in answers] == [(200, b""), (200, b"")]
            assert at.counts("coalescing") == {"led": 1, "followed": 1}

    run(scene())


def test_a_response_that_ends_with_its_connection_reaches_http10_and_11_alike() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 2)
            app = at.app.asked[0]
            app.send(b"HTTP/1.1 200 OK\r\n\r\nall")
            app.writer.close()
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert {one.body for one in answers} == {b"3\r\nall\r\n0\r\n\r\n"}

    run(scene())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Authorization: Bearer ann", "Authorization: Bearer bob"),
        ("Cookie: session=ann", "Cookie: session=bob"),
        ("X-Forwarded-Host: shop", "X-Forwarded-Host: evil"),
        ("Accept-Encoding: gzip", "Accept-Encoding: br"),
        ("X-User: ann", "X-Other: ann"),
    ],
)
def test_requests_that_differ_in_a_field_do_not_share(one: str, other: str) -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask("/item", one), await at.ask("/item", other)]
            await at.app.until(2)
            for asked in at.app.asked:
                asked.answer(body=(asked.field(one.partition(":")[0].lower()) or "none").encode())
            answers = await asyncio.gather(*(client.answer() for client in clients))
            assert answers[0].body != answers[1].body

    run(scene())


@pytest.mark.parametrize(
    "field",
    ["set-cookie: session=1", "cache-control: private", "cache-control: no-store", "vary: *", "vary: x-forwarded-for"],
)
def test_a_response_that_is_one_clients_alone_is_not_shared_nor_waited_for_again(field: str) -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            at.app.asked[0].answer("200 OK", field, body=b"0")
            await at.app.until(3)
            for number in (1, 2):
                at.app.asked[number].answer(body=b"%d" % number)
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert sorted(one.body for one in answers) == [b"0", b"1", b"2"]
            assert at.counts("coalescing") == {"led": 1, "alone": 2}
            again = [await at.ask(), await at.ask()]
            await at.app.until(5)
            for number in (3, 4):
                at.app.asked[number].answer()
            await asyncio.gather(*(one.answer() for one in again))

    run(scene())


def test_vary_separates_what_the_policy_ignores() -> None:
    async def scene() -> None:
        async with bench(silent, **policy(ignored_headers=("user-agent",))) as at:
            clients = [await at.ask("/item", "User-Agent: a")]
            await at.app.until(1)
            clients += [await at.ask("/item", "User-Agent: b"), await at.ask("/item", "User-Agent: a")]
            await at.until(lambda: at.proxy.in_flight == 3)
            at.app.asked[0].answer("200 OK", "vary: User-Agent", body=b"for a")
            (await at.app.until(2)).answer("200 OK", "vary: User-Agent", body=b"for b")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert [one.body for one in answers] == [b"for a", b"for b", b"for a"]

    run(scene())


@pytest.mark.parametrize("how", ["reset", "500", "503", "malformed"])
def test_a_leader_that_fails_takes_nobody_down(how: str) -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 4)
            app = at.app.asked[0]
            if how == "reset":
                app.send(b"HTTP/1.1 ")
                app.reset()
            elif how == "malformed":
                app.send(b"HTTP/1.1 200 OK\r\nbad field: x\r\n\r\n")
            else:
                app.answer(f"{how} Oops")
            (await at.app.until(2)).answer(body=b"good")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert answers[0].status >= 500
            assert {(one.status, one.body) for one in answers[1:]} == {(200, b"good")}
            assert len(at.app.asked) == 2
            assert at.counts("coalescing") == {"led": 1, "promoted": 1, "followed": 2}

    run(scene())


def test_after_two_failures_all_go_by_themselves() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 5)
            at.app.asked[0].answer("500 Oops")
            (await at.app.until(2)).answer("500 Oops")
            await at.app.until(5)
            for asked in at.app.asked[2:]:
                asked.answer(body=b"good")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert sorted(one.status for one in answers) == [200, 200, 200, 500, 500]

    run(scene())


def test_a_leader_whose_client_leaves_goes_on_for_the_others() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            clients[0].leave()
            await at.until(lambda: at.proxy.stats.ports[("inbound", "web")].downstream_active == 2)
            at.app.asked[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ")
            await clients[1].reader.readuntil(b"half ")
            at.app.asked[0].send(b"whole")
            answers = await asyncio.gather(*(one.answer() for one in clients[1:]))
            assert [one.raw[-5:] for one in answers] == [b"whole", b"whole"]
            assert len(at.app.asked) == 1

    run(scene())


def test_one_that_leaves_in_the_middle_of_the_response_goes_on_for_the_others() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            at.app.asked[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ")
            for one in clients:
                await one.reader.readuntil(b"half ")
            clients[0].leave()
            await at.until(lambda: at.proxy.stats.ports[("inbound", "web")].downstream_active == 2)
            at.app.asked[0].send(b"whole")
            answers = await asyncio.gather(*(one.answer() for one in clients[1:]))
            assert [one.raw for one in answers] == [b"whole", b"whole"]

    run(scene())


@pytest.mark.parametrize("head_there", [False, True])
def test_a_call_ends_when_nobody_is_left(head_there: bool) -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            if head_there:
                at.app.asked[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ")
                for one in clients:
                    await one.reader.readuntil(b"half ")
            for one in clients:
                one.leave()
            await at.app.asked[0].gone.wait()
            await at.until(lambda: at.proxy.in_flight == 0)
            assert len(at.app.asked) == 1

    run(scene())


STREAM = b"HTTP/1.1 200 OK\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"


@pytest.mark.parametrize("sooner", [False, True])
def test_a_call_without_a_client_ends_when_the_others_get_another_ones_response(sooner: bool) -> None:
    """A stream of events has no end of its own. `sooner`: another call had its head before this one."""

    async def scene() -> None:
        async with bench(silent, **policy(patience=0.2 if sooner else 10.0)) as at:
            clients = await crowd(at, 2)
            clients[0].leave()
            await at.until(lambda: at.proxy.stats.ports[("inbound", "web")].downstream_active == 1)
            if sooner:
                (await at.app.until(2)).answer(body=b"own")
                assert (await clients[1].answer()).body == b"own"
            at.app.asked[0].send(STREAM)
            await at.app.asked[0].gone.wait()
            if not sooner:
                (await at.app.until(2)).answer(body=b"own")
                assert (await clients[1].answer()).body == b"own"
            await at.until(lambda: at.proxy.in_flight == 0)

    run(scene())


def test_a_slow_call_gets_company_one_at_a_time() -> None:
    async def scene() -> None:
        async with bench(silent, **policy(patience=0.05)) as at:
            clients = await crowd(at, 3)
            second = await at.app.until(2)
            second.answer(body=b"from the second")
            answers = await asyncio.gather(*(one.answer() for one in clients[1:]))
            assert {one.body for one in answers} == {b"from the second"}
            at.app.asked[0].answer(body=b"late")
            assert (await clients[0].answer()).body == b"late", "the first gets what it asked for"
            assert len(at.app.asked) == 2
            assert at.counts("coalescing") == {"led": 1, "promoted": 1, "followed": 1}

    run(scene())


def test_a_call_that_breaks_off_looks_whole_to_nobody() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            at.app.asked[0].send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            for one in clients:
                await one.reader.readuntil(b"half\r\n")
            at.app.asked[0].reset()
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert all(b"0\r\n\r\n" not in one.raw for one in answers)

    run(scene())


PART = b"x" * 65536


def test_a_client_that_takes_nothing_is_bounded_and_does_not_hold_the_others_up_for_long() -> None:
    """16 MiB for three clients, one of which never reads: what waits for it is bounded, and the others get all."""

    async def scene() -> None:
        limits = policy(max_hold_up=Duration(0.3), max_lag_bytes=262_144)
        async with bench(silent, **limits) as at:
            clients = await crowd(at, 3)
            clients[1].writer.transport.pause_reading()
            app, parts = at.app.asked[0], 256
            most = 0

            async def produce() -> None:
                nonlocal most
                app.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (parts * len(PART)))
                for _ in range(parts):
                    app.send(PART)
                    await app.writer.drain()
                    held = [
                        connection.transport.get_write_buffer_size()
                        for port in at.proxy._ports.values()
                        for connection in port.connections
                        if connection.transport is not None
                    ]
                    most = max([most, *held])

            got = await asyncio.gather(clients[0].answer(), clients[2].answer(), produce())
            assert [len(one.body) for one in got[:2] if one is not None] == [parts * len(PART)] * 2
            assert most <= 262_144 + 2 * 262_144, "the limit, and what one read of the app's connection brings"
            assert at.counts("coalescing")["cut"] == 1
            clients[1].leave()

    run(scene())


def test_a_leader_that_takes_nothing_is_sent_away_and_its_call_goes_on() -> None:
    async def scene() -> None:
        async with bench(silent, **policy(max_hold_up=Duration(0.5), max_lag_bytes=65_536)) as at:
            clients = await crowd(at, 2)
            clients[0].writer.transport.pause_reading()
            app, parts = at.app.asked[0], 128

            async def produce() -> None:
                app.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (parts * len(PART)))
                for _ in range(parts):
                    app.send(PART)
                    await app.writer.drain()

            got, _ = await asyncio.gather(clients[1].answer(), produce())
            assert len(got.body) == parts * len(PART)
            assert at.counts("coalescing")["cut"] == 1
            clients[0].leave()

    run(scene())


def test_who_waits_takes_no_place_and_keeps_its_deadline() -> None:
    async def scene() -> None:
        limit = BackpressurePolicy(max_concurrency=1, threshold=1.0)
        async with bench(silent, backpressure=limit, **policy()) as at:
            clients = await crowd(at, 5)
            assert at.proxy.limiter.snapshot()["inFlight"] == 1
            late = await at.ask("/item", "x-nova-deadline-ms: 50")
            assert (await late.answer()).status == 504
            at.app.asked[0].answer(body=b"shared")
            assert {(await one.answer()).body for one in clients} == {b"shared"}

    run(scene())


def test_unsafe_requests_and_those_with_content_never_share() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask(method="POST"), await at.ask(method="POST"), await at.ask(body=b"x")]
            clients.append(await at.ask(body=b"x"))
            await at.app.until(4)
            for asked in at.app.asked:
                asked.answer()
            await asyncio.gather(*(one.answer() for one in clients))
            assert at.counts("coalescing") == {}

    run(scene())


def test_shadow_counts_and_shares_nothing() -> None:
    async def scene() -> None:
        async with bench(silent, **policy(mode="Shadow")) as at:
            clients = [await at.ask(), await at.ask(), await at.ask()]
            await at.app.until(3)
            for number, asked in enumerate(at.app.asked):
                asked.answer(body=b"%d" % number)
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert sorted(one.body for one in answers) == [b"0", b"1", b"2"]
            assert at.counts("coalescing") == {"led": 1, "would_follow": 2}

    run(scene())


def test_switched_off_by_a_reload_with_a_flight_under_way() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = await crowd(at, 3)
            await at.reload(**policy(mode="Off"))
            others = [await at.ask(), await at.ask()]
            await at.app.until(3)
            at.app.asked[0].answer(body=b"shared")
            assert {(await one.answer()).body for one in clients} == {b"shared"}
            for asked in at.app.asked[1:]:
                asked.answer(body=b"own")
            assert {(await one.answer()).body for one in others} == {b"own"}

    run(scene())
