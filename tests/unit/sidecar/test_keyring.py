"""When an issuer's keys are fetched, by a clock of the test's own."""

import asyncio
import json
from random import Random
from typing import cast

from nova_api.model import convert
from nova_api.request_policies.jwt import JwtIssuer
from nova_sidecar.pipeline.keyring import SPACING, KeyRing
from nova_sidecar.transport.fetch import Fetcher, FetchError
from tests.loopback.support.issuer import NAME, RS256

SET = json.dumps({"keys": [RS256.public()]}).encode()


class Publisher:
    """An issuer's page, which may be away."""

    def __init__(self) -> None:
        self.there = False
        self.fetches = 0

    async def fetch(self) -> bytes:
        self.fetches += 1
        if not self.there:
            raise FetchError("away")
        return SET

    def close(self) -> None:
        """Nothing is open."""


class Scene:
    """A ring, begun."""

    def __init__(self) -> None:
        self.now = 100.0
        self.publisher = Publisher()
        issuer = convert({"issuer": NAME, "audiences": ["shop"], "jwksUrl": "http://auth/keys"}, JwtIssuer)
        fetcher = cast("Fetcher", self.publisher)
        self.ring = KeyRing(
            issuer, fetcher, clock=lambda: self.now, rng=Random(1), changed=lambda _issuer, _thumbprints: None
        )
        self.ring.start()

    async def fetched(self) -> None:
        """Let the fetch under way come to its end."""
        ended = asyncio.Event()
        self.ring.wait(ended.set)
        await ended.wait()

    async def sought(self, later: float) -> bool:
        """Whether a token that comes so many seconds later has them fetched; to the end of that."""
        self.now += later
        begun = self.ring.seek(self.now)
        if begun:
            await self.fetched()
        return begun


def test_without_keys_a_token_has_them_fetched_a_second_after_the_last_try() -> None:
    async def main() -> None:
        scene = Scene()
        assert scene.ring.patience is None, "for the first try"
        await scene.fetched()
        for _ in range(8):  # by the clock alone, tries would be 5 s apart by now
            assert not await scene.sought(0.5)
            assert await scene.sought(0.5)
        assert scene.ring.patience == 1.0
        scene.publisher.there = True
        assert await scene.sought(1.0)
        assert not scene.ring.empty
        scene.ring.close()

    asyncio.run(main())


def test_with_keys_unknown_ones_have_them_fetched_now_and_then() -> None:
    async def main() -> None:
        scene = Scene()
        scene.publisher.there = True
        await scene.fetched()
        assert await scene.sought(0.0)
        assert not await scene.sought(SPACING - 1)
        assert await scene.sought(1.0)
        assert scene.publisher.fetches == 3
        scene.ring.close()

    asyncio.run(main())
