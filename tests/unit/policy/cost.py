"""What each policy costs per call, in nanoseconds. Prints, asserts nothing: ``python tests/unit/policy/cost.py``."""

import os
import timeit
from random import Random
from typing import Any

from nova_api.policies import (
    AdaptivePolicy,
    BackpressurePolicy,
    BreakerPolicy,
    EndpointBreakerPolicy,
    PoolPolicy,
    RetryPolicy,
    WindowPolicy,
)
from nova_api.request_policies.rate_limit import RateLimit
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_api.units import Share
from nova_sidecar.policy import deadline
from nova_sidecar.policy.adaptive import AdaptiveLimit
from nova_sidecar.policy.affinity import Affinity, CookieForm
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.ejection import Ejector, Health
from nova_sidecar.policy.limiter import Limiter
from nova_sidecar.policy.outcome import FAILURE, SUCCESS
from nova_sidecar.policy.rate_limit import Charge, Limit, RateLimiter
from nova_sidecar.policy.retry import Retrier
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.policy.signing import Signer
from nova_sidecar.policy.tenancy import Tenancy

CALLS = 100_000
ROUNDS = 7


def busy_breaker(policy: BreakerPolicy) -> Breaker:
    """One that has seen more than the minimum of calls, as all but the quietest have."""
    breaker = Breaker(policy, Random(1), 1.0)
    for _ in range(policy.window.minimum_calls):
        breaker.record(SUCCESS, 1.0, breaker.ticket)
    return breaker


def open_breaker() -> Breaker:
    breaker = Breaker(BreakerPolicy(failure_threshold=1), Random(1), 0.0)
    breaker.record(FAILURE, 0.0, breaker.ticket)
    return breaker


def full_limiter() -> Limiter[str]:
    limiter: Limiter[str] = Limiter(BackpressurePolicy(max_concurrency=1))
    limiter.admit(0.0)
    return limiter


def known_affinity() -> Affinity:
    """A pod with a hundred siblings; `COOKIE` is that of one of its clients."""
    affinity = Affinity(CookieForm("nova-session", 3600.0), "market/shop")
    affinity.rekey((bytes(32),))
    affinity.here("10.0.0.1")
    affinity.replace(tuple(f"10.0.0.{number}" for number in range(1, 101)))
    return affinity


COOKIE = known_affinity().issue(b"", 1000.0).removeprefix(b"set-cookie: ").partition(b";")[0]
EJECTOR: Ejector[Health] = Ejector(EndpointBreakerPolicy())
EJECTOR.replace([Health(), Health()])
NAMES: dict[str, Any] = {
    "breaker": busy_breaker(BreakerPolicy()),
    "failing": busy_breaker(BreakerPolicy(failure_threshold=0, window=WindowPolicy(failure_rate=Share(1.0)))),
    "ejector": EJECTOR,
    "health": EJECTOR.members[0],
    "FAILURE": FAILURE,
    "opened": open_breaker(),
    "limiter": Limiter(BackpressurePolicy()),
    "full": full_limiter(),
    "adaptive": AdaptiveLimit(BackpressurePolicy(adaptive=AdaptivePolicy(mode="Enforce")), 0.0),
    "tenancy": Tenancy(TenancyPolicy(mode="Enforce"), 1),
    "rates": RateLimiter("shop", 10_000),
    "limit": Limit(RateLimit(name="clients", rate=1_000_000, burst=1_000_000), 1),
    "Charge": Charge,
    "retrier": Retrier(RetryPolicy(), Random(1)),
    "lifespan": Lifespan(PoolPolicy(), Random(1)),
    "ids": CorrelationIds(os.urandom),
    "deadline": deadline,
    "affinity": known_affinity(),
    "cookie": COOKIE,
    "signer": Signer((bytes(32),), "test"),
    "signed": Signer((bytes(32),), "test").sign(b"v1.0123456789abcdef..6b49d200"),
    "SUCCESS": SUCCESS,
}
LINES = {
    "breaker: admit, ticket, record a success": "breaker.admit(1.0); breaker.record(SUCCESS, 1.0, breaker.ticket)",
    "breaker: with the time it took": "breaker.admit(1.0); breaker.record(SUCCESS, 1.0, breaker.ticket, 0.1)",
    "breaker: record a failure": "failing.record(FAILURE, 1.0, failing.ticket)",
    "breaker: refuse": "opened.admit(1.0)",
    "ejection: nothing to tell": "if health.failures: pass",
    "ejection: record a failure": "ejector.record(health, FAILURE, 1.0); health.failures = 0",
    "limiter: admit, release": "limiter.admit(1.0); limiter.release(1.0)",
    "limiter: admit by class, release": "limiter.admit_as(1, 1.0); limiter.release(1.0)",
    "limiter: refuse": "full.admit(1.0)",
    "adaptive: observe": "adaptive.observe(0.02, 8, 0.0)",
    "tenancy: find, enter, leave": "tenancy.leave(tenancy.enter(tenancy.find([b'acme']), 512))",
    "rate limit: check one": "rates.check([Charge(limit, b'key')], 1)",
    "rate limit: key of a header's value": "rates.key(limit, b'a value of a header')",
    "retry: count a request": "retrier.deposit(1.0)",
    "retry: decide against": "retrier.next(1, 500, method=b'GET', replayable=True, remaining=3.0, now=1.0)",
    "rotation: draw an age": "lifespan.retire_at(1.0)",
    "correlation: make": "ids.adopt(None)",
    "correlation: take over": "ids.adopt(b'3f2b8c1e-1111-4222-8333-444455556666')",
    "deadline: begin": "deadline.begin(1.0, 15.0)",
    "deadline: begin with the caller's": "deadline.begin(1.0, 15.0, b'1500')",
    "deadline: bound an attempt": "deadline.attempt_ends(1.0, 5.0, 16.0)",
    "affinity: a local hit": "affinity.decide(cookie, False, 1000.0)",
    "affinity: no cookie": "affinity.decide(None, False, 1000.0)",
    "affinity: others' cookies": "affinity.decide(b'theme=dark; lang=en', False, 1000.0)",
    "affinity: issue": "affinity.issue(b'', 1000.0)",
    "signing: verify": "signer.verify(signed)",
    "deadline: pass on": "deadline.encode(1.0, 6.0)",
}


def main() -> None:
    loop = min(timeit.repeat("pass", number=CALLS, repeat=ROUNDS))
    for title, code in LINES.items():
        best = min(timeit.repeat(code, globals=NAMES, number=CALLS, repeat=ROUNDS))
        print(f"{title:45}{(best - loop) / CALLS * 1e9:7.0f} ns")


if __name__ == "__main__":
    main()
