"""Names to addresses against a real DNS server, that of this machine's own hosts file left aside."""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nova_sidecar.runtime import loop_factory
from nova_sidecar.transport.endpoints import Resolution, ResolveError
from nova_sidecar.transport.resolver import MAX_TTL, MIN_TTL, DnsResolver, ResolvConf, SystemResolver
from tests.crowd import CROWD

from .support.nameserver import SERVFAIL, Answer, NameServer, Question, Record, from_table, reply

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local")
AUTH = Record("auth.shop.svc.cluster.local", "A", "10.1.0.1")


@contextmanager
def serving(answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[NameServer]:
    server = NameServer(answer, host=host, port=port)
    try:
        yield server
    finally:
        server.close()


def ask(
    server: NameServer,
    host: str,
    *,
    servers: tuple[str, ...] = ("127.0.0.1",),
    families: tuple[str, ...] = ("A", "AAAA"),
    deadline: float = 2.0,
) -> Resolution:
    """Resolve as a sidecar does."""

    async def resolve() -> Resolution:
        conf = ResolvConf(servers, SEARCH, 5)
        resolver = DnsResolver(conf, deadline=deadline, port=server.port, families=lambda: families)
        try:
            return await resolver.resolve(host, 8080)
        finally:
            await resolver.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(resolve())


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(10 * CROWD):
        while not condition():  # noqa: ASYNC110 - it comes from another thread, or from the kernel
            await asyncio.sleep(0.01)


def test_an_address_with_its_time_to_live() -> None:
    with serving(from_table(AUTH._replace(ttl=17))) as server:
        assert ask(server, "auth") == Resolution((("10.1.0.1", 8080),), 17.0)


def test_both_families_ipv4_first() -> None:
    records = (AUTH._replace(type="AAAA", data="fd00::1"), AUTH, AUTH._replace(data="10.1.0.2"))
    with serving(from_table(*records)) as server:
        found = ask(server, "auth")
    assert found.addresses == (("10.1.0.1", 8080), ("10.1.0.2", 8080), ("fd00::1", 8080))


def test_an_alias_counts_for_the_time_to_live() -> None:
    def answer(question: Question) -> bytes:
        alias = Record(question.name, "CNAME", "real.example", 7)
        return reply(question, alias, Record("real.example", "A", "10.2.0.1", 600))

    with serving(answer) as server:
        assert ask(server, "auth", families=("A",)) == Resolution((("10.2.0.1", 8080),), 7.0)


@pytest.mark.parametrize(("ttl", "expected"), [(0, MIN_TTL), (86_400, MAX_TTL)])
def test_extreme_times_to_live_are_bounded(ttl: int, expected: float) -> None:
    with serving(from_table(AUTH._replace(ttl=ttl))) as server:
        assert ask(server, "auth").ttl == expected


def test_the_search_list_in_order() -> None:
    with serving(from_table(Record("auth.identity.svc.cluster.local", "A", "10.3.0.1"))) as server:
        assert ask(server, "auth.identity", families=("A",)).addresses == (("10.3.0.1", 8080),)
        assert server.asked == ["A auth.identity.shop.svc.cluster.local", "A auth.identity.svc.cluster.local"]


def test_a_name_without_addresses_does_not_end_the_search() -> None:
    records = (AUTH._replace(type="CNAME", data="nowhere.example"), Record("auth.svc.cluster.local", "A", "10.3.0.2"))
    with serving(from_table(*records)) as server:
        assert ask(server, "auth").addresses == (("10.3.0.2", 8080),)


def test_a_family_that_is_missing_is_not_looked_for_under_another_name() -> None:
    records = (AUTH, Record("auth.svc.cluster.local", "AAAA", "fd00::bad"))
    with serving(from_table(*records)) as server:
        assert ask(server, "auth").addresses == (("10.1.0.1", 8080),)


def test_the_hosts_file_is_not_asked() -> None:
    """In a pod it points every upstream at the sidecar itself."""
    name = "localhost"
    assert name in Path("/etc/hosts").read_text()
    with serving(from_table(Record(name, "A", "10.9.9.9"))) as server:
        assert ask(server, f"{name}.", families=("A",)).addresses == (("10.9.9.9", 8080),)


def test_a_name_nobody_knows() -> None:
    with serving(from_table()) as server, pytest.raises(ResolveError, match=r"auth: is not known to 127\.0\.0\.1"):
        ask(server, "auth")


def test_a_name_without_an_address() -> None:
    empty = from_table(AUTH._replace(type="AAAA", data="fd00::1"))
    with serving(empty) as server, pytest.raises(ResolveError, match="auth: has no address"):
        ask(server, "auth", families=("A",))


def test_a_failing_server_does_not_send_the_search_on() -> None:
    """The next candidate could be another service of the same name."""

    def answer(question: Question) -> bytes:
        if question.name == AUTH.name:
            return reply(question, code=SERVFAIL)
        return reply(question, Record(question.name, "A", "10.6.6.6"))

    with serving(answer) as server, pytest.raises(ResolveError, match=r"auth\.shop\.svc\.cluster\.local: "):
        ask(server, "auth")


def test_silence_ends_at_the_deadline() -> None:
    began = time.monotonic()
    with (
        serving(lambda _: None) as server,
        pytest.raises(ResolveError, match=r"no answer from 127\.0\.0\.1 within 0\.3 s"),
    ):
        ask(server, "auth", deadline=0.3)
    assert time.monotonic() - began < 2


def test_the_next_server_when_one_is_silent() -> None:
    with serving(lambda _: None) as silent, serving(from_table(AUTH), host="127.0.0.2", port=silent.port):
        assert ask(silent, "auth", servers=("127.0.0.1", "127.0.0.2")).addresses == (("10.1.0.1", 8080),)
        assert silent.questions


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    many = tuple(AUTH._replace(data=f"10.1.0.{n}") for n in range(1, 200))

    def answer(question: Question) -> bytes:
        if question.transport == "udp":
            return reply(question, *many[:5], truncated=True)
        return reply(question, *many)

    with serving(answer) as server:
        assert len(ask(server, "auth", families=("A",)).addresses) == 199


def _wrong_id(question: Question) -> bytes:
    other = bytes([question.message[0] ^ 0xFF, question.message[1]]) + question.message[2:]
    return reply(question, Record(question.name, "A", "6.6.6.6"), message=other)


def _wrong_question(question: Question) -> bytes:
    name = question.message[12:].replace(b"\x04auth", b"\x04evil")
    return reply(question, Record(question.name, "A", "6.6.6.6"), message=question.message[:12] + name)


@pytest.mark.parametrize("forgery", [lambda _: b"", _wrong_id, _wrong_question], ids=["empty", "id", "question"])
def test_what_does_not_answer_the_question_is_ignored(forgery: Answer) -> None:
    def answer(question: Question) -> list[bytes]:
        forged = forgery(question)
        assert isinstance(forged, bytes)
        return [forged, reply(question, Record(question.name, "A", "10.1.0.1"))]

    with serving(answer) as server:
        assert ask(server, "auth", families=("A",)).addresses == (("10.1.0.1", 8080),)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"\xff" * 40,
        lambda q: q.message,
        lambda q: reply(q, Record(q.name, "A", "10.1.0.1"))[:-2],
        lambda q: reply(q, Record(q.name, "A", "10.1.0.1"))[:-6] + b"\xff\xff\x0a\x01\x00\x01",
        lambda q: reply(q, Record(q.name, "AAAA", "fd00::1")),
    ],
    ids=["garbage", "echo", "cut short", "wrong length", "another type"],
)
def test_nonsense_is_an_error_and_never_an_address(answer: Answer) -> None:
    with serving(answer) as server, pytest.raises(ResolveError, match="auth"):
        ask(server, "auth", families=("A",), deadline=1)


@pytest.mark.parametrize("late", [lambda _: None, lambda q: reply(q, code=SERVFAIL)], ids=["silent", "failing"])
def test_one_good_family_does_not_wait_for_the_other(late: Answer) -> None:
    good = from_table(AUTH)
    with serving(lambda q: good(q) if q.type == "A" else late(q)) as server:
        began = time.monotonic()
        assert ask(server, "auth").addresses == (("10.1.0.1", 8080),)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "é", "a b", "." * 3, "x" * 300])
def test_names_that_cannot_be(host: str) -> None:
    with serving(from_table()) as server, pytest.raises(ResolveError):
        ask(server, host, deadline=1)


def test_closing_while_a_question_is_under_way() -> None:
    async def close_early(server: NameServer) -> None:
        resolver = DnsResolver(ResolvConf(("127.0.0.1",), (), 1), port=server.port)
        question = asyncio.ensure_future(resolver.resolve("auth.example", 80))
        await until(lambda: bool(server.questions))
        await resolver.close()
        with pytest.raises(ResolveError, match="dns query cancelled"):
            await question

    with serving(lambda _: None) as server, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(close_early(server))


def test_what_is_given_up_leaves_nothing_behind() -> None:
    """Neither sockets nor errors that nobody awaits."""
    complaints: list[object] = []

    async def ask_often(server: NameServer) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        resolver = DnsResolver(ResolvConf(("127.0.0.1",), (), 1), port=server.port, deadline=0.05)
        before = len(descriptors())
        for number in range(5):
            with pytest.raises(ResolveError):
                await resolver.resolve(f"auth{number}.example", 80)
        await until(lambda: len(descriptors()) <= before)
        await resolver.close()

    with serving(lambda _: None) as server, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(ask_often(server))
    gc.collect()
    assert not complaints


def test_it_watches_no_files() -> None:
    """inotify instances are few, and all sidecars of a node are one user's."""

    async def watching() -> list[str]:
        resolver = DnsResolver()
        watching = [descriptor for descriptor in descriptors() if "inotify" in descriptor]
        await resolver.close()
        return watching

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert runner.run(watching()) == []


def test_the_machines_own_resolver_for_nova_dev() -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(SystemResolver().resolve("localhost", 8080))
        assert ("127.0.0.1", 8080) in found.addresses
        with pytest.raises(ResolveError, match="this machine's resolver; nova dev --upstream"):
            runner.run(SystemResolver().resolve("a..b", 8080))


def test_it_reads_this_machines_name_servers() -> None:
    """The form of the file, not what is in it: no question leaves this machine."""
    assert all(socket.getaddrinfo(server, 53, flags=socket.AI_NUMERICHOST) for server in ResolvConf.read().servers)
