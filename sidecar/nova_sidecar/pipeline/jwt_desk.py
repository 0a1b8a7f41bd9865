"""What tokens are judged with, beyond a request and a reload: the issuers' keys, what is remembered, and Redis.

    token ── LRU ──▶ known
       └── taken apart, claims judged ── refused before its signature costs anything
              └── Redis ── a sibling has verified this signature ──▶ valid
                    └── verified here ──▶ valid, remembered, and told to the others

Three tiers, each of which does without the next. What is in Redis is no claim but a sentence: the signature of the
token with this SHA-256 was verified with the key of this thumbprint. It is signed (`policy.signing`) with a key that
only the service's sidecars have, since a sentence without a signature would let whoever can write to Redis in as
anybody. The claims come from the token at hand, and are judged here, by this sidecar's own configuration and clock; the
key must still be one of the issuer's, where that is known. So who can read Redis learns no token and no claim, and who
can write there can make a sidecar verify a signature itself, and no more.

Asking Redis costs 150 to 200 µs of CPU and a round trip, verifying RS256 40 µs. So with `redis: Auto` it is asked where
verifying is slow (`signatures`), or where there are no keys: a pod that starts while the issuer is down accepts what
its siblings have verified. Writes are never waited for.

Whoever brings the same token while it is being verified waits for the same answer. `MOST` bounds how many tokens are
waited for at once; further ones are refused, as when anything else here is full.

It is imported where the policy is on.
"""

import asyncio
import contextlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from nova_api import names
from nova_api.model import encode_json
from nova_api.proxy import ProxyConfig
from nova_api.request_policies.jwt import JwtIssuer
from nova_sidecar.pipeline.jwt_stats import JwtStats, Tier
from nova_sidecar.pipeline.keyring import LARGEST_SET, KeyRing
from nova_sidecar.pipeline.signatures import Verifier
from nova_sidecar.policy.jws import Fault, Token, read
from nova_sidecar.policy.jwt import TokenRules, Verdict
from nova_sidecar.policy.keyspace import key_prefix
from nova_sidecar.policy.signing import Signer, read_secrets
from nova_sidecar.policy.tokencache import TokenCache
from nova_sidecar.store.port import StoreError
from nova_sidecar.transport.fetch import Fetcher
from nova_sidecar.transport.secretfiles import SecretFiles

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared
    from nova_sidecar.store.guarded import GuardedStore

MOST: Final = 256
"""Tokens that are being verified or asked for at once."""
MOST_CANDIDATES: Final = 4
"""Keys that a token without a kid is tried with."""
_VERSION: Final = b"v1"

Then = Callable[[Verdict | Fault], None]
"""Takes the answer, once, later."""


class JwtDesk:
    """See the module. `start` puts it into force; times of tokens are by the clock `wall`."""

    __slots__ = (
        "_asking", "_files", "_fingerprint", "_pool", "_purpose", "_rings", "_rules", "_shared", "_signer", "_tasks",
        "_wall", "cache", "policy", "stats",
    )  # fmt: skip

    def __init__(self, config: ProxyConfig, shared: "Shared", wall: Callable[[], float] = time.time) -> None:
        self._shared = shared
        self._wall = wall
        self._pool: ThreadPoolExecutor | None = None
        self._asking: dict[bytes, list[Then]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._files: SecretFiles | None = None
        self._signer: Signer | None = None
        self._rings: dict[str, KeyRing] = {}
        self.stats = JwtStats()
        self._take_over(config)

    def _take_over(self, config: ProxyConfig) -> None:
        policy = config.jwt
        assert policy is not None  # noqa: S101 - there is a desk only where there is one
        self.policy = policy
        self._rules = TokenRules(policy)
        self.cache = TokenCache(
            entries=policy.cache.entries,
            refused_entries=policy.cache.refused_entries,
            lifetime=float(policy.cache.lifetime),
        )
        self._fingerprint = sha256(encode_json(policy.issuers)).digest()[:16]
        self._purpose = f"{config.namespace}/{config.service}"

    # --- coming and going

    def start(self) -> None:
        """It is in force from now on."""
        for issuer, where in self._issuers().values():
            self._add(issuer, where)
        self._watch_key()

    def configure(self, config: ProxyConfig) -> None:
        """Take over new values. Keys of issuers that are as they were stay; nothing that was remembered does, since it
        was judged by other rules."""
        before, directory = self._issuers(), self.policy.key_directory
        self._take_over(config)
        after = self._issuers()
        for name, settings in before.items():
            if after.get(name) != settings:
                self._rings.pop(name).close()
        for name, (issuer, where) in after.items():
            if name not in self._rings:
                self._add(issuer, where)
        if self.policy.key_directory != directory:
            self._watch_key()

    def _issuers(self) -> dict[str, tuple[JwtIssuer, str]]:
        pairs = zip(self.policy.issuers, self.policy.directories, strict=True)
        return {issuer.issuer: (issuer, where) for issuer, where in pairs}

    async def close(self) -> None:
        """The policy is off, or the sidecar ends."""
        for ring in self._rings.values():
            ring.close()
        if self._files is not None:
            self._files.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _add(self, issuer: JwtIssuer, directory: str) -> None:
        fetcher = None
        if issuer.jwks_url is not None:
            fetcher = Fetcher(issuer.jwks_url, directory=directory, resolver=self._shared.resolver, most=LARGEST_SET)
        ring = KeyRing(issuer, fetcher, clock=self._shared.clock, rng=self._shared.rng, changed=self._keys_changed)
        self._rings[issuer.issuer] = ring
        ring.start()

    def _watch_key(self) -> None:
        """The key that sentences in Redis are signed with; without one there is no second tier."""
        if self._files is not None:
            self._files.close()
        self._signer = None
        directory = self.policy.key_directory
        self._files = SecretFiles(directory, (names.SESSION_KEY,), self._rekey) if directory else None
        if self._files is not None:
            self._files.start()

    def _rekey(self, files: Mapping[str, bytes]) -> None:
        found = files.get(names.SESSION_KEY)
        if found is None:
            raise ValueError(f"expected the key {names.SESSION_KEY} in the Secret")
        self._signer = Signer(read_secrets(found), f"jwt/{self._purpose}")

    def _keys_changed(self, issuer: str, thumbprints: frozenset[bytes]) -> None:
        self.cache.withdraw(issuer, thumbprints)

    # --- judging

    def ask(self, text: bytes, digest: bytes, then: Then) -> Verdict | Fault | None:
        """What is to be said of a token that is not remembered; None: `then` is told later. `digest` is its SHA-256."""
        waiting = self._asking.get(digest)
        if waiting is not None:
            waiting.append(then)
            return None
        wall = self._wall()
        token = read(text)
        judged = token if isinstance(token, Fault) else self._rules.judge(token.claims, token.algorithm, wall)
        if isinstance(token, Fault) or isinstance(judged, Fault):
            fault = judged if isinstance(judged, Fault) else Fault.MALFORMED
            self._settle(digest, fault, wall)
            return fault
        return self._verify(token, judged, digest, then)

    def _verify(self, token: Token, judged: Verdict, digest: bytes, then: Then) -> Verdict | Fault | None:
        """At once where that is quick and the keys are there."""
        now, ring = self._shared.clock(), self._rings[judged.issuer]
        keys = ring.fitting(token.algorithm, token.kid, now)
        slow = any(key.slow for key in keys)
        store = self._store(now, needed=slow or ring.empty)
        if keys and store is None and not slow:
            found = self._verified(judged, digest, *check(token, keys))
            if found is not Fault.SIGNATURE or not ring.seek(now):
                self._settle(digest, found, self._wall())
                return found
        elif not keys and store is None and not ring.seek(now):
            return Fault.KEYS_UNAVAILABLE if ring.empty else Fault.KEY
        if len(self._asking) >= MOST:
            return Fault.BUSY
        self._asking[digest] = [then]
        self._begin(self._answer(token, judged, digest, store))
        return None

    async def _answer(self, token: Token, judged: Verdict, digest: bytes, store: "GuardedStore | None") -> None:
        found: Verdict | Fault = Fault.KEYS_UNAVAILABLE
        try:
            found = await self._look_up(judged, digest, store) or await self._found_out(token, judged, digest)
            wall = self._wall()
            if not isinstance(found, Fault):
                found = self._once_more(token, found, wall)
            self._settle(digest, found, wall)
        finally:  # whatever went wrong, requests get an answer
            for then in self._asking.pop(digest, []):
                then(found)

    def _once_more(self, token: Token, found: Verdict, wall: float) -> Verdict | Fault:
        """Time has passed, and perhaps a reload: by the rules and keys that there are now."""
        ring = self._rings.get(found.issuer)
        if ring is None or not ring.knows(found.thumbprint):
            return Fault.KEY
        again = self._rules.judge(token.claims, token.algorithm, wall)
        return again if isinstance(again, Fault) else again._replace(thumbprint=found.thumbprint)

    async def _look_up(self, judged: Verdict, digest: bytes, store: "GuardedStore | None") -> Verdict | None:
        """What a sibling has said in Redis."""
        signer, counts = self._signer, self.stats.redis
        if store is None or signer is None:
            return None
        try:
            said = await store.get(self._key(digest))
        except StoreError:
            counts["failed"] += 1
            return None
        text = signer.verify(said) if said is not None else None
        parts = text.split(b".") if text is not None else []
        ring = self._rings.get(judged.issuer)
        if len(parts) != 3 or parts[:2] != [_VERSION, _name(digest)] or ring is None or not ring.knows(parts[2]):
            counts["miss" if said is None else "unusable"] += 1
            return None
        counts["hit"] += 1
        self.stats.tiers[Tier.REDIS] += 1
        return judged._replace(thumbprint=parts[2])

    async def _found_out(self, token: Token, judged: Verdict, digest: bytes) -> Verdict | Fault:
        """Verify the signature, with keys that may have to be fetched first: the issuer may have a new one, without a
        name or by the same one."""
        ring = self._rings.get(judged.issuer)
        if ring is None:
            return Fault.KEYS_UNAVAILABLE
        found = await self._by_keys_of(ring, token, judged, digest)
        if isinstance(found, Fault) and ring.seek(self._shared.clock()):
            await self._fetched(ring)
            found = await self._by_keys_of(ring, token, judged, digest)
        return found

    async def _by_keys_of(self, ring: KeyRing, token: Token, judged: Verdict, digest: bytes) -> Verdict | Fault:
        keys = ring.fitting(token.algorithm, token.kid, self._shared.clock())
        if not keys:
            return Fault.KEYS_UNAVAILABLE if ring.empty else Fault.KEY
        if not any(key.slow for key in keys):
            return self._verified(judged, digest, *check(token, keys))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "jwt")
        loop = asyncio.get_running_loop()
        return self._verified(judged, digest, *await loop.run_in_executor(self._pool, check, token, keys))

    async def _fetched(self, ring: KeyRing) -> None:
        ended = asyncio.get_running_loop().create_future()
        ring.wait(lambda: None if ended.done() else ended.set_result(None))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ring.patience):
                await ended

    def _verified(self, judged: Verdict, digest: bytes, by: Verifier | None, seconds: float) -> Verdict | Fault:
        """A signature was verified here, by one of the keys or by none."""
        self.stats.verified(seconds)
        if by is None:
            return Fault.SIGNATURE
        found = judged._replace(thumbprint=by.key.thumbprint)
        self._tell(digest, found)
        return found

    def _settle(self, digest: bytes, found: Verdict | Fault, wall: float) -> None:
        """Remember it."""
        if isinstance(found, Fault):
            self.cache.refuse(digest, found, wall)
        else:
            self.cache.keep(digest, found, wall)

    # --- Redis

    def _store(self, now: float, *, needed: bool) -> "GuardedStore | None":
        """The store, where it is worth asking."""
        mode, store = self.policy.cache.redis, self._shared.store
        if store is None or self._signer is None or mode == "Off" or not (needed or mode == "Always"):
            return None
        return store if store.admits(now) else None

    def _tell(self, digest: bytes, verdict: Verdict) -> None:
        """Write down for the others that the signature of this token holds, without waiting for it."""
        store, signer, wall = self._shared.store, self._signer, self._wall()
        seconds = min(verdict.until - wall, float(self.policy.cache.lifetime))
        if store is None or signer is None or self.policy.cache.redis == "Off" or seconds < 1:
            return
        if len(self._tasks) < MOST and store.admits(self._shared.clock()):
            sentence = signer.sign(b".".join((_VERSION, _name(digest), verdict.thumbprint)))
            self._begin(self._write(store, self._key(digest), sentence, seconds))

    async def _write(self, store: "GuardedStore", key: str, sentence: bytes, seconds: float) -> None:
        with contextlib.suppress(StoreError):  # counted and logged where it happened
            await store.put(key, sentence, seconds)

    def _key(self, digest: bytes) -> str:
        """By the token's hash and by whose tokens are accepted: other issuers or keys, other sentences."""
        name = _name(sha256(self._fingerprint + digest).digest()).decode("ascii")
        return key_prefix(self._purpose, "jwt") + name

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- looking at it

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        now = self._shared.clock()
        valid, refused = self.cache.sizes
        return {
            "remembered": {"valid": valid, "refused": refused},
            "issuers": [ring.snapshot(now) for ring in self._rings.values()],
            "lookups": {tier.value: count for tier, count in self.stats.tiers.items()},
            "redis": dict(self.stats.redis),
            "verification": {
                "buckets": list(self.stats.verification.buckets),
                "seconds": self.stats.verification.sum,
            },
            "shared": self._signer is not None and self._shared.store is not None,
        }

    def __repr__(self) -> str:
        return f"<JwtDesk {self.cache!r} asking={len(self._asking)}>"


def check(token: Token, keys: list[Verifier]) -> tuple[Verifier | None, float]:
    """The key that has signed a token, None for none of these, and how many seconds that took. In a thread or not."""
    begun = time.perf_counter()
    for key in keys[:MOST_CANDIDATES]:
        if key.holds(token.algorithm, token.signature, token.signed):
            return key, time.perf_counter() - begun
    return None, time.perf_counter() - begun


def _name(digest: bytes) -> bytes:
    return urlsafe_b64encode(digest).rstrip(b"=")
