"""The cache on the wire: what is answered without the app, what never is, and what attackers would like to be."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.cache import CachePolicy
from nova_api.units import Duration
from nova_sidecar.pipeline import request_policies
from nova_sidecar.pipeline.cache_desk import CacheDesk
from nova_sidecar.pipeline.facts import Facts
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.policy.limiter import QUEUED, Queued

from .support.inprocess import Answer, App, Asked, Bench, Client, bench, run
from .support.message import request
from .support.sidecar import inbound

FRESH = "cache-control: max-age=60"
CHUNKED = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n"


def policy(**fields: Any) -> dict[str, Any]:
    return {"cache": CachePolicy(**{"mode": "Enforce", **fields})}


def says(*fields: str, status: str = "200 OK", body: bytes = b"") -> Callable[[Asked], Any]:
    """An app that answers each request with its number, or with `body`."""
    count = 0

    async def handle(asked: Asked) -> None:
        nonlocal count
        count += 1
        asked.answer(status, *fields, body=body or b"%d" % count)

    return handle


async def silent(asked: Asked) -> None:
    """The test answers."""


def desk(at: Bench) -> CacheDesk:
    found = at.proxy._shared.desks.get("cache") if at.proxy._shared.desks is not None else None
    assert isinstance(found, CacheDesk)
    return found


def later(at: Bench, seconds: float) -> None:
    """Everything stored becomes so much older."""
    for stored in dict(desk(at).responses._entries.items()).values():
        stored.at -= seconds


async def twice(fields: tuple[str, ...], *asked: str, status: str = "200 OK", **of: Any) -> tuple[Answer, Answer]:
    """The same request two times."""
    async with bench(says(*fields, status=status), **policy(**of)) as at:
        return await at.get("/item", *asked), await at.get("/item", *asked)


def counts(at: Bench, kind: str = "http") -> dict[str, int]:
    (port,) = at.proxy.stats.ports.values()
    return {str(name): count for name, count in port.policies["cache"][kind].items() if count}


def test_a_fresh_response_is_answered_without_the_app() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, 'etag: "a"', "x-own: 1"), **policy()) as at:
            first = await at.get()
            assert first["cache-status"] == "nova; fwd=uri-miss"
            assert first["age"] is None
            second = await at.get()
            assert (second.status, second.body, second["x-own"]) == (200, b"1", "1")
            assert second["age"] == "0"
            assert second["cache-status"] == "nova; hit; ttl=60" or second["cache-status"] == "nova; hit; ttl=59"
            assert second["content-length"] == "1"
            assert second["x-correlation-id"] not in (None, first["x-correlation-id"])
            later(at, 20)
            assert (await at.get())["age"] == "20"
            head = await at.get(method="HEAD")
            assert (head.status, head.body, head["content-length"]) == (200, b"", "1")
            assert len(at.app.asked) == 1
            assert counts(at) == {"miss": 1, "hit": 3}

    run(scene())


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("last-modified: Mon, 01 Jan 2024 00:00:00 GMT",),
        ("cache-control: no-store, max-age=60",),
        ("cache-control: private, max-age=60",),
        ('cache-control: private="x-a", max-age=60',),
        ("cache-control: max-age=60", "cache-control: No-Store"),
        ("cache-control: max-age=0",),
        ("cache-control: max-age=x",),
        ("cache-control: max-age=-5",),
        ("cache-control: max-age=60, max-age=0",),
        ("cache-control: max-age=60, s-maxage=0",),
        ("cache-control: no-cache",),
        ("expires: 0",),
        ("expires: Mon, 01 Jan 2024 00:00:00 GMT", "date: Mon, 01 Jan 2024 00:00:00 GMT"),
        ("pragma: no-cache",),
        (FRESH, "set-cookie: session=1"),
        (FRESH, "Set-Cookie2: session=1"),
        (FRESH, "vary: *"),
        (FRESH, "vary: accept", "vary: *"),
        (FRESH, "vary: x-forwarded-for"),
        (FRESH, "content-range: bytes 0-0/5"),
        (FRESH, "age: 60"),
        (FRESH, "x-nova-fallback: stale"),
    ],
)
def test_responses_that_are_not_kept(fields: tuple[str, ...]) -> None:
    async def scene() -> None:
        assert [one.body for one in await twice(fields)] == [b"1", b"2"]

    run(scene())


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "429 Slow", "206 Partial", "400 Bad", "401 Who", "403 No"])
def test_statuses_that_are_not_kept(status: str) -> None:
    async def scene() -> None:
        assert [one.body for one in await twice((FRESH,), status=status)] == [b"1", b"2"]

    run(scene())


@pytest.mark.parametrize(
    "fields",
    [
        ("cache-control: s-maxage=60, max-age=0",),
        ("Cache-Control: PUBLIC, Max-Age=60",),
        ('cache-control: max-age="60"',),
        (f"expires: {formatdate(4102444800, usegmt=True)}", f"date: {formatdate(usegmt=True)}"),
        (FRESH, "set-cookies: no"),
        (FRESH, "pragma: no-cache"),
    ],
)
def test_responses_that_are_kept(fields: tuple[str, ...]) -> None:
    async def scene() -> None:
        assert [one.body for one in await twice(fields)] == [b"1", b"1"]

    run(scene())


@pytest.mark.parametrize("status", ["404 None", "301 There", "410 Gone", "204 Nothing"])
def test_other_statuses_are_kept_where_they_say_so(status: str) -> None:
    async def scene() -> None:
        async with bench(says(FRESH, status=status), **policy()) as at:
            first, second = await at.get(), await at.get()
            assert first.status == second.status == int(status[:3])
            assert len(at.app.asked) == 1

    run(scene())


@pytest.mark.parametrize(
    ("asked", "control", "kept"),
    [
        ("authorization: Bearer x", "max-age=60", False),
        ("authorization: Bearer x", "public, max-age=60", True),
        ("authorization: Bearer x", "s-maxage=60", True),
        ("authorization: Bearer x", "max-age=60, must-revalidate", True),
        ("cookie: session=1", "max-age=60", False),
        ("cookie: session=1", "max-age=60, must-revalidate", False),
        ("cookie: session=1", "public, max-age=60", True),
        ("x-api-key: 1", "max-age=60", False),
        ("x-auth-token: 1", "max-age=60", False),
        ("x-forwarded-user: ann", "max-age=60", False),
    ],
)
def test_what_is_somebodys_is_kept_only_where_the_app_says_it_is_everybodys(
    asked: str, control: str, kept: bool
) -> None:
    async def scene() -> None:
        first, second = await twice((f"cache-control: {control}",), asked)
        assert (first.body == second.body) is kept

    run(scene())


def test_vary_keeps_responses_apart() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, "vary: Accept-Language, X-B"), **policy()) as at:
            for line in ("accept-language: de", "accept-language: en", "x-b: 1", "x-b: 2"):
                one, again = await at.get("/item", line), await at.get("/item", line)
                assert one.body == again.body
            assert len(at.app.asked) == 4
            assert (await at.get("/item", "ACCEPT-LANGUAGE:   de  ")).body == b"1"
            assert (await at.get("/item", "accept-language: de", "accept-language: en")).body == b"5"

    run(scene())


def test_variants_of_one_target_are_bounded() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, "vary: x-any"), **policy(max_variants=4)) as at:
            await at.get("/other")
            for number in range(20):
                await at.get("/item", f"x-any: {number}")
            assert len(desk(at).responses) == 5
            assert (await at.get("/other")).body == b"1", "another target loses nothing"

    run(scene())


@pytest.mark.parametrize(
    "poison",
    [
        "x-forwarded-host: evil",
        "X-Forwarded-Host: evil",
        "x-forwarded-proto: http",
        "x-forwarded-scheme: nothttps",
        "x-forwarded-prefix: /evil",
        "forwarded: host=evil",
        "x-host: evil",
        "x-original-url: /admin",
        "x-rewrite-url: /admin",
        "x-http-method-override: POST",
        "x-http-host-override: evil",
        "x-backend-host: evil",
        "front-end-https: off",
    ],
)
def test_a_header_that_steers_the_app_poisons_nobody_elses_entry(poison: str) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            assert (await at.get("/item", poison)).body == b"1"
            assert (await at.get("/item")).body == b"2"
            assert (await at.get("/item", poison)).body == b"1"
            assert (await at.get("/item", poison + "x")).body == b"3"

    run(scene())


@pytest.mark.parametrize(
    "target", ["/item?", "/item?a=1", "/item/", "//item", "/%69tem", "/item;x", "/ITEM", "/./item"]
)
def test_targets_are_taken_as_they_are_written(target: str) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            assert (await at.get("/item")).body == b"1"
            assert (await at.get(target)).body == b"2"

    run(scene())


def test_hosts_have_entries_of_their_own_whatever_the_case() -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            client = await at.ask("http://other/item")
            assert (await client.answer()).body == b"1"
            assert (await at.get()).body == b"2"
            assert (await (await at.ask("http://OTHER/item")).answer()).body == b"1"

    run(scene())


@pytest.mark.parametrize(
    "line", ["range: bytes=0-0", "if-range: x", 'if-match: "a"', "if-unmodified-since: x", "cache-control: no-store"]
)
def test_requests_that_no_stored_response_answers(line: str) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            await at.get()
            got = await at.get("/item", line)
            assert (got.body, got["cache-status"]) == (b"2", "nova; fwd=request")
            assert (await at.get()).body == b"1", "nor take its place"
            assert at.app.asked[1].field(line.partition(":")[0]) is not None

    run(scene())


def test_a_get_with_content_is_nobodys_business() -> None:
    """What an app answers to it depends on the content, which is no part of a key."""

    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            assert (await at.get(body=b"fat")).body == b"1"
            assert (await at.get()).body == b"2"

    run(scene())


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("cache-control: no-cache", b"2"),
        ("pragma: no-cache", b"2"),
        ("cache-control: max-age=10", b"2"),
        ("cache-control: max-age=30", b"1"),
        ("cache-control: min-fresh=50", b"2"),
        ("cache-control: min-fresh=30", b"1"),
        ("cache-control: only-if-cached", b"1"),
    ],
)
def test_what_a_request_says_about_its_answer(line: str, body: bytes) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            await at.get()
            later(at, 20)
            assert (await at.get("/item", line)).body == body

    run(scene())


def test_only_if_cached_is_answered_504_where_nothing_is() -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            assert (await at.get("/item", "cache-control: only-if-cached")).status == 504
            assert not at.app.asked

    run(scene())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('if-none-match: "a"', 304),
        ('if-none-match: W/"a"', 304),
        ('if-none-match: "b", "a"', 304),
        ("if-none-match: *", 304),
        ('if-none-match: "b"', 200),
        ("if-none-match: a", 200),
        ("if-modified-since: Mon, 01 Jan 2024 00:00:00 GMT", 304),
        ("if-modified-since: Tue, 02 Jan 2024 00:00:00 GMT", 304),
        ("if-modified-since: Sun, 31 Dec 2023 00:00:00 GMT", 200),
        ("if-modified-since: nonsense", 200),
    ],
)
def test_a_client_that_has_it_gets_304(line: str, status: int) -> None:
    async def scene() -> None:
        fields = (FRESH, 'etag: "a"', "last-modified: Mon, 01 Jan 2024 00:00:00 GMT", "vary: accept", "x-own: 1")
        async with bench(says(*fields), **policy()) as at:
            await at.get()
            got = await at.get("/item", line)
            assert (got.status, len(at.app.asked)) == (status, 1)
            if status == 304:
                assert (got["etag"], got["vary"], got["x-own"], got["content-length"]) == ('"a"', "accept", None, None)
                assert got.body == b""

    run(scene())


def test_conditions_of_clients_reach_the_app_where_the_cache_has_nothing() -> None:
    async def scene() -> None:
        async with bench(says(status="304 Not Modified"), **policy(paths=("/item", "/covered/*"))) as at:
            for target in ("/item", "/uncovered"):
                got = await at.get(target, 'if-none-match: "x"', "if-modified-since: y")
                assert got.status == 304
                assert at.app.asked[-1].field("if-none-match") == '"x"'
                assert at.app.asked[-1].field("if-modified-since") == "y"

    run(scene())


def revalidating(status: str, *fields: str, body: bytes = b"") -> Callable[[Asked], Any]:
    """An app that answers a question about what is stored with this, and everything else whole."""

    async def handle(asked: Asked) -> None:
        if asked.field("if-none-match") is None:
            asked.answer("200 OK", "cache-control: max-age=1, stale-if-error=300", 'etag: "a"', "x-v: 1", body=b"old")
        else:
            asked.answer(status, *fields, body=body)

    return handle


def test_a_stale_response_is_revalidated() -> None:
    async def scene() -> None:
        app = revalidating("304 Not Modified", "cache-control: max-age=60", 'etag: "a"', "x-v: 2", "content-length: 9")
        async with bench(app, **policy()) as at:
            await at.get()
            later(at, 5)
            got = await at.get()
            assert (got.status, got.body, got["x-v"]) == (200, b"old", "2")
            assert (got["content-length"], got["cache-status"]) == ("3", "nova; fwd=stale; fwd-status=304")
            assert at.app.asked[1].field("if-none-match") == '"a"'
            later(at, 5)
            assert (await at.get())["cache-status"] in ("nova; hit; ttl=54", "nova; hit; ttl=55")
            later(at, 60)
            assert (await at.get("/item", 'if-none-match: "a"')).status == 304, "the client's own question"
            later(at, 60)
            assert (await at.get("/item", 'if-none-match: "z"')).status == 200
            assert counts(at) == {"miss": 1, "revalidated": 3, "hit": 1}

    run(scene())


def test_a_304_about_something_else_is_not_believed() -> None:
    async def scene() -> None:
        async with bench(revalidating("304 Not Modified", 'etag: "other"'), **policy()) as at:
            await at.get()
            later(at, 5)
            got = await at.get()
            assert (got.status, got.body) == (200, b"old")
            assert at.app.asked[2].field("if-none-match") is None, "it was asked for anew"

    run(scene())


def test_a_304_that_forbids_keeping_is_obeyed() -> None:
    async def scene() -> None:
        async with bench(revalidating("304 Not Modified", "cache-control: no-store"), **policy()) as at:
            await at.get()
            later(at, 5)
            assert (await at.get()).body == b"old"
            assert len(desk(at).responses) == 0

    run(scene())


def test_a_new_response_takes_the_place_of_the_stale_one() -> None:
    async def scene() -> None:
        async with bench(revalidating("200 OK", FRESH, 'etag: "b"', body=b"new"), **policy()) as at:
            await at.get()
            later(at, 5)
            assert (await at.get()).body == b"new"
            assert (await at.get()).body == b"new"
            assert len(at.app.asked) == 2

    run(scene())


@pytest.mark.parametrize("how", ["500 Oops", "503 Busy", "reset"])
def test_stale_if_error(how: str) -> None:
    async def scene() -> None:
        failing = False

        async def handle(asked: Asked) -> None:
            if not failing:
                asked.answer("200 OK", "cache-control: max-age=1, stale-if-error=100", body=b"old")
            elif how == "reset":
                asked.reset()
            else:
                asked.answer(how, body=b"x" * 100_000)

        async with bench(handle, **policy()) as at:
            await at.get()
            failing = True
            later(at, 5)
            got = await at.get()
            assert (got.status, got.body, got["age"]) == (200, b"old", "5")
            assert got["cache-status"] == "nova; hit; ttl=-4; fwd=stale"
            before = len(at.app.asked)
            assert (await at.get()).body == b"old"
            assert len(at.app.asked) == before, "who has just failed is spared"
            later(at, 200)
            assert (await at.get()).status >= 500
            assert counts(at)["stale_error"] == 2

    run(scene())


@pytest.mark.parametrize("control", ["must-revalidate", "proxy-revalidate", "s-maxage=1"])
def test_what_must_be_revalidated_never_goes_out_stale(control: str) -> None:
    async def scene() -> None:
        failing = False

        async def handle(asked: Asked) -> None:
            asked.answer("500 Oops" if failing else "200 OK", f"cache-control: max-age=1, {control}", 'etag: "a"')

        allowed = policy(stale_if_error=Duration(100), stale_while_revalidate=Duration(100))
        async with bench(handle, **allowed) as at:
            await at.get()
            failing = True
            later(at, 5)
            assert (await at.get()).status == 500
            assert (await at.get("/item", "cache-control: max-stale=1000")).status == 500

    run(scene())


def test_stale_while_revalidate_asks_behind_the_clients_back_once() -> None:
    async def scene() -> None:
        async def handle(asked: Asked) -> None:
            if len(at.app.asked) == 1:
                asked.answer("200 OK", "cache-control: max-age=1, stale-while-revalidate=100", 'etag: "a"', body=b"old")

        async with bench(handle, **policy()) as at:
            await at.get()
            later(at, 5)
            stale = [await at.get() for _ in range(5)]
            assert {one.body for one in stale} == {b"old"}
            asked = await at.app.until(2)
            assert asked.field("if-none-match") == '"a"'
            asked.answer("200 OK", FRESH, body=b"new")
            await at.until(lambda: at.proxy.in_flight == 0)
            assert (await at.get()).body == b"new"
            assert len(at.app.asked) == 2
            assert desk(at).refreshing == 0
            assert counts(at) == {"miss": 1, "stale": 5, "hit": 1}

    run(scene())


def test_a_refresh_that_fails_leaves_the_stale_one_and_may_come_again() -> None:
    async def scene() -> None:
        async def handle(asked: Asked) -> None:
            if len(at.app.asked) == 1:
                asked.answer("200 OK", "cache-control: max-age=1, stale-while-revalidate=100", body=b"old")
            else:
                asked.reset()

        async with bench(handle, **policy()) as at:
            await at.get()
            later(at, 5)
            for count in (2, 3):
                assert (await at.get()).body == b"old"
                await at.app.until(count)
                await at.until(lambda: at.proxy.in_flight == 0)
                assert desk(at).refreshing == 0

    run(scene())


def test_many_who_ask_for_what_is_not_there_ask_the_app_once() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask() for _ in range(20)]
            await at.until(lambda: at.proxy.in_flight == 20)
            (await at.app.until(1)).answer("200 OK", FRESH, body=b"one")
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert {one.body for one in answers} == {b"one"}
            assert len(at.app.asked) == 1
            assert sum("collapsed" in (one["cache-status"] or "") for one in answers) == 19

    run(scene())


def test_what_turns_out_private_is_given_to_nobody_who_waited() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask() for _ in range(4)]
            await at.until(lambda: at.proxy.in_flight == 4)
            (await at.app.until(1)).answer("200 OK", "cache-control: private", body=b"0")
            await at.app.until(4)
            for number, asked in enumerate(at.app.asked[1:], 1):
                asked.answer("200 OK", "cache-control: private", body=b"%d" % number)
            answers = await asyncio.gather(*(one.answer() for one in clients))
            assert sorted(one.body for one in answers) == [b"0", b"1", b"2", b"3"]

    run(scene())


def test_a_leader_that_fails_or_leaves_is_followed_by_the_next() -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask()]
            await at.app.until(1)
            clients += [await at.ask() for _ in range(2)]
            await at.until(lambda: at.proxy.in_flight == 3)
            clients[0].leave()
            (await at.app.until(2)).reset()
            (await at.app.until(3)).answer("200 OK", FRESH, body=b"good")
            answers = await asyncio.gather(*(one.answer() for one in clients[1:]))
            assert sorted(one.status for one in answers) == [200, 502]

    run(scene())


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n0\r\nx: 1\r\n\r\n",
        CHUNKED + b"4\r\nhalf\r\nXX\r\n",
    ],
)
def test_a_body_whose_end_is_not_sure_is_never_kept(response: bytes) -> None:
    async def scene() -> None:
        async def handle(asked: Asked) -> None:
            asked.send(response)
            asked.writer.close()

        async with bench(handle, **policy()) as at:
            await at.get()
            assert len(desk(at).responses) == 0
            assert desk(at).responses.held == 0

    run(scene())


def test_a_chunked_response_is_kept_with_its_length() -> None:
    async def scene() -> None:
        async def handle(asked: Asked) -> None:
            asked.send(b"HTTP/1.1 200 OK\r\n" + FRESH.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n")
            asked.send(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

        async with bench(handle, **policy()) as at:
            await at.get()
            got = await at.get()
            assert (got.body, got["content-length"], got["transfer-encoding"]) == (b"abcdef", "6", None)

    run(scene())


def test_bodies_beyond_the_limit_pass_and_are_not_kept() -> None:
    async def scene() -> None:
        large = b"x" * 5000
        async with bench(says(FRESH, body=large), **policy(max_body_bytes=4096)) as at:
            assert (await at.get()).body == (await at.get()).body == large
            assert len(desk(at).responses) == 0

    run(scene())


def test_memory_is_bounded_whatever_is_asked_for() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, body=b"x" * 4000), **policy(max_bytes=65_536)) as at:
            for number in range(60):
                await at.get(f"/{number}")
            assert desk(at).responses.size <= 65_536
            assert desk(at).responses.evictions > 40

    run(scene())


@pytest.mark.parametrize(
    ("status", "fields", "gone"),
    [
        ("200 OK", (), {"/item"}),
        ("201 Made", ("location: /made",), {"/item", "/made"}),
        ("201 Made", ("content-location: http://APP/made",), {"/item", "/made"}),
        ("201 Made", ("location: http://elsewhere/made",), {"/item"}),
        ("201 Made", ("location: //elsewhere/made",), {"/item"}),
        ("302 There", (), {"/item"}),
        ("404 None", (), set()),
        ("500 Oops", (), set()),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "WHATEVER"])
def test_unsafe_requests_make_what_they_change_be_forgotten(
    method: str, status: str, fields: tuple[str, ...], gone: set[str]
) -> None:
    async def scene() -> None:
        async def handle(asked: Asked) -> None:
            safe = asked.head.startswith(b"GET")
            asked.answer(*(("200 OK", FRESH) if safe else (status, *fields)), body=b"x")

        async with bench(handle, **policy()) as at:
            targets = ("/item", "/made", "/other")
            for target in targets:
                await at.get(target)
            await at.get("/item", method=method)
            left = [target for target in targets if (await at.get(target))["age"] is not None]
            assert set(targets) - set(left) == gone

    run(scene())


def test_set_cookie_goes_where_the_policy_promises() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, "set-cookie: a=1", "x-own: 1"), **policy(set_cookie=True)) as at:
            assert (await at.get())["set-cookie"] == "a=1"
            got = await at.get()
            assert (got["set-cookie"], got["x-own"], got.body) == (None, "1", b"1")

    run(scene())


def test_shadow_counts_and_changes_nothing() -> None:
    async def scene() -> None:
        async with bench(says(FRESH, 'etag: "a"'), **policy(mode="Shadow")) as at:
            answers = [await at.get("/item", 'if-none-match: "x"') for _ in range(3)]
            assert [one.body for one in answers] == [b"1", b"2", b"3"]
            assert all(one["cache-status"] is None and one["age"] is None for one in answers)
            assert {asked.field("if-none-match") for asked in at.app.asked} == {'"x"'}
            assert counts(at) == {"miss": 1, "would_hit": 2}

    run(scene())


def test_switched_on_changed_and_off_by_reloads() -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy(mode="Off")) as at:
            assert [(await at.get()).body for _ in range(2)] == [b"1", b"2"]
            await at.reload(**policy())
            assert [(await at.get()).body for _ in range(2)] == [b"3", b"3"]
            await at.reload(**policy(max_body_bytes=2048))
            assert (await at.get()).body == b"3", "what is kept outlives a reload"
            await at.reload(**policy(mode="Off"))
            assert (await at.get()).body == b"4"
            await at.reload(**policy())
            assert (await at.get()).body == b"5", "and nothing outlives being switched off"

    run(scene())


def test_purged_by_target_and_pattern() -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            for target in ("/users/1", "/users/2", "/posts/1"):
                await at.get(target)
            assert desk(at).purge(b"/users/*") == 2
            assert (await at.get("/posts/1"))["age"] == "0"
            assert (await at.get("/users/1"))["age"] is None

    run(scene())


class Told(RequestFilter):
    """Stands in for `jwt`: the token is a subject, `-` one without a subject, and the app is told whose it is."""

    shows = frozenset((b"access-token",))

    def guards(self) -> frozenset[bytes]:
        return frozenset((b"x-nova-subject",))

    def on_request(self, exchange: Handled, now: float) -> None:
        assert isinstance(exchange, ManagedExchange)
        token = exchange.head.captured.get(b"access-token", b"?")
        if token != b"?":
            subject = token.removeprefix(b"-")
            exchange.facts = Facts(subject, b"", {"iss": "us"})
            exchange.trace += b"x-nova-subject: %b\r\n" % token


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(request_policies.MAKERS, "jwt", lambda *_: Told())


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("name", ["X-Nova-Subject", "x_nova_subject"])
def test_what_differs_by_a_claim_is_nobody_elses(name: str) -> None:
    async def scene() -> None:
        async with bench(says("cache-control: public, max-age=60", f"vary: {name}"), **policy()) as at:
            for number, who in enumerate(("ann", "bob", "ann"), 1):
                assert (await at.get("/me", f"access-token: {who}")).body == b"%d" % number
            assert len(desk(at).responses) == 0

    run(scene())


def test_what_was_stored_before_a_field_became_the_sidecars_own_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with bench(says("cache-control: public, max-age=60", "vary: x-nova-subject"), **policy()) as at:
            assert [(await at.get("/me")).body for _ in range(2)] == [b"1", b"1"]
            monkeypatch.setitem(request_policies.MAKERS, "jwt", lambda *_: Told())
            await at.reload()
            assert (await at.get("/me", "access-token: ann")).body == b"2"

    run(scene())


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("control", ["public, max-age=60", "max-age=60"])
def test_a_token_without_a_subject_is_somebodys_all_the_same(control: str) -> None:
    async def scene() -> None:
        async with bench(says(f"cache-control: {control}"), **policy()) as at:
            bodies = [(await at.get("/me", "access-token: -")).body for _ in range(2)]
            assert bodies == ([b"1", b"1"] if "public" in control else [b"1", b"2"])

    run(scene())


@pytest.mark.usefixtures("told")
def test_a_token_that_nobody_has_looked_at_is_somebodys_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Shadow mode, or on a path that is open, it goes on to an app that may answer by it."""
    make = request_policies.MAKERS["cache"]
    source = SimpleNamespace(source=SimpleNamespace(header="access-token"))

    def with_token(settings: Any, config: ProxyConfig, shared: Any, stats: Any) -> RequestFilter | None:
        return make(settings, cast(ProxyConfig, SimpleNamespace(cache=config.cache, jwt=source)), shared, stats)

    monkeypatch.setitem(request_policies.MAKERS, "cache", with_token)

    async def scene() -> None:
        async with bench(says(FRESH), **policy()) as at:
            assert [(await at.get("/me", "access-token: ?")).body for _ in range(2)] == [b"1", b"2"]
            assert [(await at.get("/me")).body for _ in range(2)] == [b"3", b"3"]

    run(scene())


@pytest.mark.parametrize("fat_first", [True, False])
def test_a_get_with_content_in_chunks_is_nobodys_business_either(fat_first: bool) -> None:
    """What goes on of its head is the same as of a plain one, by which plans are remembered."""

    async def handle(asked: Asked) -> None:
        if asked.head.startswith(b"GET"):  # what else comes is the content
            asked.answer("200 OK", FRESH, body=b"fat" if b"transfer-encoding" in asked.head else b"plain")

    async def fat(at: Bench) -> bytes:
        client = await at.ask("/item", "transfer-encoding: chunked")
        client.writer.write(b"5\r\nwhat?\r\n0\r\n\r\n")
        return (await client.answer()).body

    async def plain(at: Bench) -> bytes:
        return (await at.get()).body

    async def scene() -> None:
        async with bench(handle, **policy()) as at:
            for ask, body in [(fat, b"fat"), (plain, b"plain")][:: 1 if fat_first else -1] * 2:
                assert await ask(at) == body

    run(scene())


def test_ports_have_responses_of_their_own() -> None:
    async def scene() -> None:
        other = App(says(FRESH, body=b"admin"))
        server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        async with bench(says(FRESH, body=b"web"), **policy()) as at:
            second = inbound(server.sockets[0].getsockname()[:2], name="admin")
            await at.reload(inbound=(at._port, second))
            for _ in range(2):
                assert (await at.get()).body == b"web"
                reader, writer = await asyncio.open_connection(*at.proxy.inbound_addresses["admin"])
                writer.write(request("GET", "/item", "connection: close"))
                assert (await Client(reader, writer).answer()).body == b"admin"
            assert (len(at.app.asked), len(other.asked)) == (1, 1)
            assert desk(at).purge(b"/item") == 2
        server.close()

    run(scene())


@pytest.mark.parametrize("how", ["invalidate", "purge", "clear"])
def test_what_was_under_way_while_it_changed_is_not_kept(how: str) -> None:
    async def scene() -> None:
        async with bench(silent, **policy()) as at:
            clients = [await at.ask()]
            await at.app.until(1)
            clients += [await at.ask() for _ in range(2)]
            await at.until(lambda: at.proxy.in_flight == 3)
            responses = desk(at).responses
            if how == "clear":
                responses.clear()
            else:
                getattr(responses, how)(b"/item")
            at.app.asked[0].answer("200 OK", FRESH, body=b"old")
            (await at.app.until(2)).answer("200 OK", FRESH, body=b"new")
            bodies = [(await one.answer()).body for one in clients]
            assert bodies == [b"old", b"new", b"new"], "one of those who waited asks in its place"
            assert (await at.get()).body == b"new"

    run(scene())


class Holding(RequestFilter):
    """Stands in for a stage before the cache that holds what comes."""

    def __init__(self) -> None:
        self.held: list[ManagedExchange] = []

    def on_request(self, exchange: Handled, now: float) -> Queued:
        assert isinstance(exchange, ManagedExchange)
        exchange.hold(now)
        self.held.append(exchange)
        return QUEUED


def test_who_was_held_while_the_cache_was_switched_off_may_still_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of nobody's goes through the same chain as the one that it is made of."""
    holding = Holding()
    monkeypatch.setitem(request_policies.MAKERS, "jwt", lambda *_: holding)

    async def scene() -> None:
        async with bench(says("cache-control: max-age=0, stale-while-revalidate=60"), **policy()) as at:
            clients = [await at.ask() for _ in range(2)]
            await at.until(lambda: len(holding.held) == 2)
            responses = desk(at).responses
            await at.reload(cache=CachePolicy(mode="Off"))
            await at.until(lambda: responses.changes == 1)  # it has been cleared
            for client, held in zip(clients, holding.held, strict=True):
                held.go_on("jwt", held.port.clock())
                assert (await client.answer()).body == b"1"
            await at.app.until(2)

    run(scene())
