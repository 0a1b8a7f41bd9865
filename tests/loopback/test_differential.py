"""The same hostile bytes for Nova, nginx and HAProxy, as docs/http1.md explains them.

Each case says what each of the three makes of the bytes, and why Nova differs where it does. A difference that is not
listed fails, and so does one that is listed and not there any more.
"""

import asyncio
import contextlib
from pathlib import Path

import pytest

from .support import references
from .support.hostile.fields import FIELDS, UPGRADES
from .support.hostile.framing import CHUNKS, FRAMING
from .support.hostile.heads import LINES, STARTS
from .support.hostile.messages import CONNECTIONS, RESPONSES
from .support.probe import App, Case, Client

GROUPS = {
    "framing": FRAMING, "chunks": CHUNKS, "lines": LINES, "starts": STARTS,
    "fields": FIELDS, "upgrades": UPGRADES, "responses": RESPONSES, "connections": CONNECTIONS,
}  # fmt: skip
CASES: list[Case] = [case for group in GROUPS.values() for case in group]
PROXIES = ("nova", "nginx", "haproxy")
AT_ONCE = 48

Verdicts = dict[str, list[str]]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """What each proxy made of each case; nothing for one that cannot be had here."""
    return asyncio.run(_judge_all(tmp_path_factory.mktemp("differential")))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("proxy", PROXIES)
def test_each_proxy_does_what_is_listed(verdicts: Verdicts, proxy: str, group: str) -> None:
    if proxy != "nova" and (why := references.missing(proxy)):
        pytest.skip(why)
    listed = zip(CASES, verdicts[proxy], strict=True)
    wrong = {
        case.name: {"listed": case.expected(proxy), "seen": seen, "sent": case.send}
        for case, seen in listed
        if case in GROUPS[group] and seen != case.expected(proxy)
    }
    assert not wrong


def test_every_difference_has_a_reason_and_nothing_else_has() -> None:
    differing = {case.name for case in CASES if case.nginx is not None or case.haproxy is not None}
    assert differing == {case.name for case in CASES if case.why}
    for case in CASES:
        assert case.nova not in (case.nginx, case.haproxy), f"{case.name}: listed as a difference, and is none"


def test_the_table_is_large_and_its_names_are_unique() -> None:
    for group in GROUPS.values():
        assert len({case.name for case in group}) == len(group)
    assert len(CASES) >= 250


async def _judge_all(directory: Path) -> Verdicts:
    judged = await asyncio.gather(*(_judge(proxy, directory) for proxy in PROXIES))
    return dict(zip(PROXIES, judged, strict=True))


async def _judge(proxy: str, directory: Path) -> list[str]:
    """All cases against one proxy, `AT_ONCE` at a time."""
    if proxy != "nova" and await asyncio.to_thread(references.missing, proxy):
        return []
    apps = [App(case) for case in CASES]
    ports = [await app.open() for app in apps]
    turn = asyncio.Semaphore(AT_ONCE)

    async def judge(case: Case, app: App, port: int) -> str:
        async with turn:
            return await Client(case, port, app).judge(case.expected(proxy))

    own = directory / proxy
    own.mkdir()
    running = _running(proxy, ports, own)
    reference = await asyncio.to_thread(running.__enter__)
    try:
        cases = zip(CASES, apps, reference.ports, strict=True)
        return await asyncio.gather(*(judge(*each) for each in cases))
    finally:
        for app in apps:
            app.close()
        await asyncio.to_thread(running.__exit__, None, None, None)


def _running(proxy: str, ports: list[int], directory: Path) -> contextlib.AbstractContextManager[references.Reference]:
    if proxy == "nova":
        return references.nova(ports, [case.protocol for case in CASES], directory)
    return references.nginx(ports, directory) if proxy == "nginx" else references.haproxy(ports, directory)
