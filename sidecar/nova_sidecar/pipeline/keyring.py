"""The public keys of one issuer: from the configuration, or fetched from where it publishes them and kept fresh.

    fetched ── refresh ──▶ fetched again, in the background: nobody waits for it, the keys there are go on
       │                      └── fails ──▶ again after 1 s, 2 s, … 60 s; when they are `staleFor` old there are none
       ├── a token names a key that is not there, or none has signed it ──▶ fetched at once, since the issuer may have
       │       made a new one
       └── none at all ──▶ again after 1 s, 2 s, 4 s, 5 s, and when a token comes: a pod may start before its issuer

Rules:

* One fetch at a time, whoever asks; all wait for the same answer.
* Tokens with made-up names of keys or made-up signatures cause no more than one fetch in `SPACING` seconds; in
  between, unknown is unknown.
* Without any keys a token has them fetched where the last try ended a second ago or earlier, and waits for no more than
  another second: every request fails meanwhile, so the first one after the issuer has come should be let in.
* An answer without a single usable key counts as a failure: an issuer that publishes nothing has had an accident.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from nova_api.request_policies.jwt import Jwk, JwtIssuer
from nova_sidecar.pipeline.signatures import Verifier
from nova_sidecar.policy.jwk import PublicKey, read_key, read_set
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.fetch import Fetcher, FetchError

LARGEST_SET: Final = 256 * 1024
"""Bytes of a published set."""
SPACING: Final = 10.0
"""Seconds between two fetches for the sake of unknown keys."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_WITHOUT: Final = 5.0
"""Seconds between two tries at most while there are no keys."""
_PATIENCE: Final = 1.0
"""Seconds that a token waits for a fetch after one that failed, while there are no keys."""
_JITTER: Final = 0.1
"""Share by which a refresh may come sooner, so that a service's sidecars do not come all at once."""

Changed = Callable[[str, frozenset[bytes]], None]
"""Told of an issuer's keys, by their thumbprints, whenever some of them are new or gone."""


class KeyRing:
    """See the module. Without a fetcher the keys are those of the configuration. Times are of `clock`."""

    __slots__ = (
        "_again",
        "_changed",
        "_clock",
        "_failed_at",
        "_failures",
        "_fetched_at",
        "_fetcher",
        "_fetching",
        "_issuer",
        "_rng",
        "_sought_at",
        "_stopped",
        "_verifiers",
        "_waiting",
        "fetches",
        "left_out",
    )  # fmt: skip

    def __init__(
        self, issuer: JwtIssuer, fetcher: Fetcher | None, *, clock: Callable[[], float], rng: Random, changed: Changed
    ) -> None:
        self._issuer = issuer
        self._fetcher = fetcher
        self._clock = clock
        self._rng = rng
        self._changed = changed
        self._verifiers: tuple[Verifier, ...] = ()
        self._fetched_at: float | None = None
        self._sought_at = -SPACING
        self._failed_at = 0.0
        self._failures = 0
        self._again: asyncio.TimerHandle | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[], None]] = []
        self._stopped = False
        self.fetches = {"ok": 0, "failed": 0}
        self.left_out = 0
        """Keys of the last set that cannot be used."""
        for key in issuer.keys:
            self._verifiers += self._own(key)

    def _own(self, key: Jwk) -> tuple[Verifier, ...]:
        """A key of the configuration, which knows forms but no mathematics."""
        try:
            return (Verifier(read_key(_members(key))),)
        except ValueError as error:
            self.left_out += 1
            get_logger().warning("issuer's key cannot be used", issuer=self._issuer.issuer, error=str(error))
            return ()

    def start(self) -> None:
        """Begin to fetch."""
        self._fetch()

    def close(self) -> None:
        """Fetch no more; whoever waits is let go on."""
        self._stopped = True
        if self._again is not None:
            self._again.cancel()
        if self._fetching is not None:
            self._fetching.cancel()
        if self._fetcher is not None:
            self._fetcher.close()
        self._tell()

    # --- for tokens

    def fitting(self, algorithm: str, kid: str | None, now: float) -> list[Verifier]:
        """The keys that a token with this header may be signed with."""
        self._expire(now)
        return [one for one in self._verifiers if one.fits(algorithm, kid)]

    @property
    def empty(self) -> bool:
        """Whether there are no keys at all."""
        return not self._verifiers

    def knows(self, thumbprint: bytes) -> bool:
        """Whether it has this key, or no keys at all by which that could be said."""
        return not self._verifiers or any(one.key.thumbprint == thumbprint for one in self._verifiers)

    def seek(self, now: float) -> bool:
        """No key here has signed a token: fetch them, where that may help. True: a fetch is under way. False: it
        would not help, or the last one was too short a time ago (see the module)."""
        if self._fetcher is None or self._stopped:
            return False
        if self._fetching is not None:
            return True
        if self.empty and self._failures:
            due = now - self._failed_at >= _FIRST_PAUSE
        else:
            due = now - self._sought_at >= SPACING
        if due:
            self._sought_at = now
            self._fetch()
        return due

    @property
    def patience(self) -> float | None:
        """Seconds for which the fetch under way is worth waiting for; None: as long as it takes, which is bounded."""
        return _PATIENCE if self.empty and self._failures else None

    def wait(self, then: Callable[[], None]) -> None:
        """Call back when the fetch under way has ended, however."""
        self._waiting.append(then)

    # --- fetching

    def _fetch(self) -> None:
        if self._fetcher is None or self._fetching is not None or self._stopped:
            return
        if self._again is not None:
            self._again.cancel()
        self._fetching = asyncio.get_running_loop().create_task(self._run(self._fetcher))

    async def _run(self, fetcher: Fetcher) -> None:
        try:
            keys, left_out = read_set(await fetcher.fetch())
            self._take(keys, left_out)
        except (FetchError, ValueError) as error:
            self._fail(str(error))
        finally:
            self._fetching = None
        self._tell()

    def _take(self, keys: list[PublicKey], left_out: int) -> None:
        verifiers: list[Verifier] = []
        for key in keys:
            try:
                verifiers.append(Verifier(key))
            except ValueError:
                left_out += 1
        if not verifiers:
            raise ValueError(f"expected a key that can be used, {left_out} cannot")
        before = {one.key.thumbprint for one in self._verifiers}
        self._verifiers = tuple(verifiers)
        self.left_out = left_out
        self._fetched_at = self._clock()
        self.fetches["ok"] += 1
        if self._failures:
            get_logger().info("issuer's keys fetched again", issuer=self._issuer.issuer)
        self._failures = 0
        now = frozenset(one.key.thumbprint for one in verifiers)
        if now != before:
            self._changed(self._issuer.issuer, now)
        self._after(float(self._issuer.refresh) * (1 - _JITTER * self._rng.random()))

    def _fail(self, why: str) -> None:
        self.fetches["failed"] += 1
        if not self._failures:
            get_logger().warning("issuer's keys not fetched", issuer=self._issuer.issuer, error=why)
        longest = _LONGEST_WITHOUT if self.empty else _LONGEST_PAUSE
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 10), longest)
        self._failed_at = self._clock()
        self._failures += 1
        self._after(pause * (1 - _JITTER * self._rng.random()))

    def _after(self, seconds: float) -> None:
        if not self._stopped:
            self._again = asyncio.get_running_loop().call_later(seconds, self._fetch)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def _expire(self, now: float) -> None:
        if self._fetched_at is not None and now - self._fetched_at > self._issuer.stale_for:
            self._verifiers, self._fetched_at = (), None
            get_logger().warning("issuer's keys too old", issuer=self._issuer.issuer)
            self._changed(self._issuer.issuer, frozenset())

    # --- looking at it

    def age(self, now: float) -> float | None:
        """Seconds since they were fetched; None where they were not."""
        return now - self._fetched_at if self._fetched_at is not None else None

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        age = self.age(now)
        return {
            "issuer": self._issuer.issuer,
            "fetched": self._fetcher is not None,
            "keys": len(self._verifiers),
            "keysLeftOut": self.left_out,
            "ageSeconds": age,
            "fetches": dict(self.fetches),
        }

    def __repr__(self) -> str:
        return f"<KeyRing keys={len(self._verifiers)} failures={self._failures}>"


def _members(key: Jwk) -> dict[str, Any]:
    """A key of the configuration, as one of a published set."""
    names = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
    return {name: value for name in names if (value := getattr(key, name)) is not None}
