"""Many scrapers at once: what they cost together, and that each gets figures from after its question."""

import asyncio
from collections.abc import Iterable

from nova_sidecar.admin.exposition import Exposition
from nova_sidecar.admin.families import Collector, Family, GaugeFamily

TEXT = "text/plain"
OPEN = "application/openmetrics-text"


class _Counting(Collector):
    """Two families, the first of which says how often it was asked for."""

    def __init__(self) -> None:
        self.renderings = 0
        self.under_way = 0
        self.most_under_way = 0
        self.begun = asyncio.Event()

    def collect(self) -> Iterable[Family]:
        self.begun.set()
        self.renderings += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        yield _gauge("nova_first", self.renderings)
        yield _gauge("nova_second", 0)
        self.under_way -= 1


def _gauge(name: str, value: float) -> Family:
    family = GaugeFamily(name, "text")
    family.add_metric((), value)
    return family


def test_scrapers_that_come_together_share_one_rendering() -> None:
    async def scrape() -> list[tuple[bytes, str]]:
        return await asyncio.gather(*(exposition.render(TEXT) for _ in range(200)))

    counting = _Counting()
    exposition = Exposition((counting,))
    answers = asyncio.run(scrape())

    assert counting.renderings == 1
    assert all(b"nova_first 1.0" in text and b"nova_second 0.0" in text for text, _ in answers)


def test_one_that_comes_later_gets_newer_figures() -> None:
    async def scrape() -> list[bytes]:
        first = asyncio.create_task(exposition.render(TEXT))
        await counting.begun.wait()
        late = await asyncio.gather(*(exposition.render(accept) for accept in (TEXT, OPEN, TEXT, OPEN)))
        return [(await first)[0], *(text for text, _ in late)]

    counting = _Counting()
    exposition = Exposition((counting,))
    first, *late = asyncio.run(scrape())

    assert b"nova_first 1.0" in first
    assert [b"nova_first 2.0" in text or b"nova_first 3.0" in text for text in late] == [True] * 4
    assert [text.endswith(b"# EOF\n") for text in late] == [False, True, False, True]
    assert (counting.renderings, counting.most_under_way) == (3, 1)


def test_a_scraper_that_leaves_takes_nothing_from_the_others() -> None:
    async def scrape() -> bytes:
        leaving, staying = (asyncio.create_task(exposition.render(TEXT)) for _ in range(2))
        await counting.begun.wait()
        leaving.cancel()
        return (await staying)[0]

    counting = _Counting()
    exposition = Exposition((counting,))
    assert b"nova_second 0.0" in asyncio.run(scrape())
    assert counting.renderings == 1
