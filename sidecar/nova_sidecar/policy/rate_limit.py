"""Rate limits: which of them a request counts for, and whether all let it pass.

A request is charged with one permit by each limit that it matches. All of one scope are asked before any of them is
charged, so a refusal by one costs nothing of the others; local ones come before global ones. What a limit counts by is
a key that somebody else has found: the client's address, a header's value, a verified claim (`pipeline.rate_limit`).
Where a global limit refuses what the local ones have let pass, they get their permits back.

Of a header's value or a claim only a hash is kept, 16 bytes, and so of everything that goes to Redis. Header values are
compared without case and repeated white space, as some apps do, and a header that comes more than once counts for each
value: whichever the app takes, it has paid.

A global limit lives in Redis, where one script charges all global limits of a request in one step (`SCRIPT`), by Redis'
own clock. Two things spare the round trip or replace it:

* A key that Redis has refused is refused here until the instant it named. A TAT only grows, so until then Redis could
  not answer otherwise: the flood of a client beyond its limit costs Redis nothing.
* Without an answer a limit counts locally, with this pod's share of rate and burst.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import ceil
from typing import Any, Final, NamedTuple

from nova_api.request_policies.rate_limit import RateLimit
from nova_sidecar.policy.gcra import SECOND, Buckets, Quota
from nova_sidecar.policy.keyspace import key_prefix
from nova_sidecar.policy.readings import PathMatcher
from nova_sidecar.policy.reasons import Reason, Reject

MOST_VALUES: Final = 8
"""Values of one header that are told apart; a request with more counts for the first ones and for one that stands for
all such requests."""
_MANY: Final = b"\0many"
_DENIED: Final = 4096
_KEY_BYTES: Final = 16
_MICROSECOND: Final = 1000
_POLICY_LINE: Final = b"ratelimit-policy: %b\r\n"

SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tats, waits, refused = {}, {}, false
for i = 1, #KEYS do
  local interval, tolerance = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local held = tonumber(redis.call('GET', KEYS[i]) or 0)
  local tat = math.min(math.max(held, now), now + tolerance)
  if held > tat then
    redis.call('SET', KEYS[i], string.format('%.0f', tat), 'PX', math.ceil(tolerance / 1000) + 1)
  end
  local wait = tat + interval - tolerance - now
  if wait > 0 then refused = true else wait = 0 end
  tats[i], waits[i] = tat, wait
end
local answer = {}
for i = 1, #KEYS do
  local tat = tats[i]
  if not refused then
    tat = tat + tonumber(ARGV[2 * i - 1])
    redis.call('SET', KEYS[i], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
  end
  answer[2 * i - 1], answer[2 * i] = tat - now, waits[i]
end
return answer
"""
"""Charges each key, unless one of them refuses. KEYS: the buckets, in one hash slot. ARGV: for each its interval and
its tolerance, microseconds. Answers for each how far TAT is ahead of now, and how long it refuses, microseconds.

A TAT that is further ahead than the bucket allows was written for another quota, or before the clock went back, by a
master that another one has replaced: it becomes that of an empty bucket, and not one that is empty for hours."""


class Standing(NamedTuple):
    """How a request stands with one limit."""

    limit: "Limit"
    left: int
    full_in: int
    """Nanoseconds until the bucket is full."""
    wait: int
    """Nanoseconds until it would let a request pass; 0: it does."""


class Charge(NamedTuple):
    """One permit of a limit, for this key."""

    limit: "Limit"
    key: bytes


class Limit:
    """One limit: what it matches, what its buckets hold, and what it has done."""

    __slots__ = (
        "_matcher", "_methods", "_told", "admitted", "by", "fallbacks", "field", "label", "missing", "name",
        "policy_item", "policy_line", "quota", "refused", "scope", "share", "spared",
    )  # fmt: skip

    def __init__(self, rule: RateLimit, pods: int) -> None:
        self.name = rule.name
        self.label = rule.name.encode()
        self.by = rule.by
        self.field: str = rule.header or rule.claim or ""
        """Name of the header or of the claim."""
        self.missing = rule.missing
        self.scope = rule.scope
        self.quota = Quota(rule.rate, rule.period, rule.burst)
        self.share = Quota(rule.rate, rule.period, rule.burst, parts=pods if rule.scope == "Global" else 1)
        """What one pod has of it while it counts alone."""
        self.policy_item = b'"%b";q=%d;w=%d' % (self.label, self.quota.burst, self.quota.window)
        self.policy_line = _POLICY_LINE % self.policy_item
        """What a caller is told that counts for it alone."""
        self._told = (-1, -1, b"")
        self._matcher = PathMatcher(rule.paths) if rule.paths else None
        methods = frozenset(rule.methods)
        self._methods = methods | {"HEAD"} if "GET" in methods else methods
        self.admitted = 0
        self.refused = 0
        self.fallbacks = 0
        """Requests that were counted here because Redis gave no answer."""
        self.spared = 0
        """Refusals that needed no round trip."""

    def matches(self, method: str, path: str) -> bool:
        """Whether a request counts for it."""
        if self._methods and method.upper() not in self._methods:
            return False
        return self._matcher is None or self._matcher.matches(path)

    def line(self, left: int, seconds: int) -> bytes:
        """What a caller is told of where it stands. Those who keep to their rate are told the same again and again."""
        told = self._told
        if told[0] == left and told[1] == seconds:
            return told[2]
        line = b'ratelimit: "%b";r=%d;t=%d\r\n' % (self.label, left, seconds)
        self._told = (left, seconds, line)
        return line

    def keep(self, former: "Limit | None") -> None:
        """Go on with the counts of the limit that had this name before."""
        if former is not None:
            self.admitted, self.refused = former.admitted, former.refused
            self.fallbacks, self.spared = former.fallbacks, former.spared

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "admitted": self.admitted,
            "refused": self.refused,
            "fallbacks": self.fallbacks,
            "spared": self.spared,
        }

    def __repr__(self) -> str:
        return f"<Limit {self.name} {self.scope} {self.quota!r}>"


class RateLimiter:
    """Decides about charges. Instants are nanoseconds; `purpose` names the service, so that services can share a Redis.

    Usage: `check` the charges; where it refuses answer that. Otherwise those of `remote` go to Redis, with `request`,
    and its answer to `settle`; where there is none `alone` decides instead. Local charges are paid by `check`, and
    returned by `give_back` where one of these two refuses.
    """

    __slots__ = ("_denied", "_prefix", "_purpose", "buckets")

    def __init__(self, purpose: str, most: int) -> None:
        self.buckets = Buckets(most)
        self._denied: OrderedDict[bytes, int] = OrderedDict()
        self._purpose = purpose.encode()
        self._prefix = key_prefix(purpose, "rate", together=True)

    def configure(self, most: int) -> None:
        """Take over another size, and other limits: what Redis refused under the former ones is asked again."""
        self.buckets.configure(most)
        self._denied.clear()

    def key(self, limit: Limit, value: bytes) -> bytes:
        """What stands for a value: its hash, which differs by limit and service."""
        whole = b"%b\0%b\0%b" % (self._purpose, limit.label, value)
        return blake2b(whole, digest_size=_KEY_BYTES).digest()

    def address_key(self, limit: Limit, packed: bytes) -> bytes:
        """What stands for a client: where only this sidecar keeps it, its address as it is."""
        return limit.label + packed if limit.scope == "Local" else self.key(limit, packed)

    # --- deciding

    def check(self, charges: Sequence[Charge], now: int) -> list[Standing]:
        """Charge what is local, unless one limit refuses; then nothing is charged, and the last standing says who.

        Of global limits only what Redis has said before is known: they are left out unless they refuse.
        """
        local: list[Charge] = []
        for charge in charges:
            limit = charge.limit
            if limit.scope == "Local":
                local.append(charge)
            elif (until := self._denied.get(charge.key, 0)) > now:
                limit.spared += 1
                return [Standing(limit, 0, until - now + limit.quota.tolerance - limit.quota.interval, until - now)]
        return self._charge(local, now)

    def _charge(self, charges: Sequence[Charge], now: int) -> list[Standing]:
        """Charge each here, with what one pod has of its limit, unless one refuses: then none."""
        if len(charges) == 1:  # as most requests
            return [self._charge_one(charges[0], now)]
        standings: list[Standing] = []
        for limit, key in charges:
            share = limit.share
            tat = self.buckets.level(key, share, now)
            wait = share.wait(tat, now)
            if wait:
                return [Standing(limit, 0, tat - now, wait)]
            ahead = tat + share.interval - now
            standings.append(Standing(limit, share.left(now + ahead, now), ahead, 0))
        for limit, key in charges:
            self.buckets.take(key, limit.share, now)
        return standings

    def _charge_one(self, charge: Charge, now: int) -> Standing:
        limit, key = charge
        share, buckets = limit.share, self.buckets
        tat = buckets.level(key, share, now)
        wait = share.wait(tat, now)
        if wait:
            return Standing(limit, 0, tat - now, wait)
        tat += share.interval
        buckets.put(key, tat, now)
        return Standing(limit, share.left(tat, now), tat - now, 0)

    def give_back(self, charges: Iterable[Charge], standings: Iterable[Standing], since: int, now: int) -> None:
        """Undo what `check` has charged at `since`: a limit that was asked after it refuses."""
        local = [charge for charge in charges if charge.limit.scope == "Local"]
        for (limit, key), standing in zip(local, standings, strict=True):
            self.buckets.give_back(key, limit.share, since + standing.full_in, since, now)

    def remote(self, charges: Iterable[Charge]) -> list[Charge]:
        """Those that Redis decides about."""
        return [charge for charge in charges if charge.limit.scope == "Global"]

    def request(self, charges: Iterable[Charge]) -> tuple[list[str], list[bytes]]:
        """Keys and arguments for the script."""
        keys, arguments = [], []
        for limit, key in charges:
            keys.append(self._prefix + key.hex())
            interval = ceil(limit.quota.interval / _MICROSECOND)
            arguments += [b"%d" % interval, b"%d" % (limit.quota.burst * interval)]
        return keys, arguments

    def settle(self, charges: Sequence[Charge], answer: Sequence[int], now: int) -> list[Standing]:
        """What Redis has decided, in the form of `check`."""
        standings = []
        for index, (limit, key) in enumerate(charges):
            ahead, wait = answer[2 * index] * _MICROSECOND, answer[2 * index + 1] * _MICROSECOND
            if wait > 0:
                self._deny(key, now + wait)
                return [Standing(limit, 0, ahead, wait)]
            standings.append(Standing(limit, limit.quota.left(now + ahead, now), ahead, 0))
        return standings

    def alone(self, charges: Sequence[Charge], now: int) -> list[Standing]:
        """The same without Redis: each limit with this pod's share."""
        for charge in charges:
            charge.limit.fallbacks += 1
        return self._charge(charges, now)

    def _deny(self, key: bytes, until: int) -> None:
        """Remember a refusal; forgetting one costs a round trip and nothing else."""
        denied = self._denied
        denied[key] = until
        if len(denied) > _DENIED:
            denied.popitem(last=False)

    # --- looking at it

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data; no key is in it."""
        return {"keys": len(self.buckets), "overflows": self.buckets.overflows}

    def __repr__(self) -> str:
        return f"<RateLimiter {self.buckets!r}>"


def refusal(standings: Sequence[Standing]) -> Reject | None:
    """The refusal in what `check`, `settle` or `alone` found; None: all let it pass."""
    if standings and standings[-1].wait:
        return Reject(Reason.RATE_LIMITED, standings[-1].wait / SECOND)
    return None


def fields(charges: Sequence[Charge], standings: Sequence[Standing]) -> bytes:
    """The lines that tell a caller where it stands (draft-ietf-httpapi-ratelimit-headers-10): every limit it counts
    for, and what is left of the one that is nearest to its end. `q` permits come back in `w` seconds; `r` are left, and
    in `t` seconds there are all of them, or after a refusal the next one."""
    if len(charges) == 1:
        policy = charges[0].limit.policy_line
    else:
        items = dict.fromkeys([charge.limit.policy_item for charge in charges])
        policy = _POLICY_LINE % b", ".join(items)
    if not standings:
        return policy
    tightest = standings[0]
    if len(standings) > 1:
        tightest = min(standings, key=lambda one: one.left / one.limit.quota.burst)
    return policy + tightest.limit.line(tightest.left, -(-(tightest.wait or tightest.full_in) // SECOND))


def values(header: bytes) -> list[bytes]:
    """The values of a header that stand for callers, each in one form: without case and repeated white space. Several
    lines, or a list in one, give several."""
    found = dict.fromkeys(b" ".join(part.lower().split()) for part in header.split(b","))
    found.pop(b"", None)
    if len(found) > MOST_VALUES:
        return [*list(found)[:MOST_VALUES], _MANY]
    return list(found)
