"""What all policies have in common."""

import re
from random import Random

import pytest

from nova_api.policies import (
    BackpressurePolicy,
    BreakerPolicy,
    EndpointBreakerPolicy,
    PoolPolicy,
    RetryPolicy,
    SelfProtectionPolicy,
)
from nova_api.proxy import DrainPolicy
from nova_api.request_policies.rate_limit import RateLimit
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_sidecar.policy.adaptive import AdaptiveLimit
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.budget import RetryBudget
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.drain import Drainer
from nova_sidecar.policy.ejection import Ejector, Health
from nova_sidecar.policy.fair_queue import FairQueue
from nova_sidecar.policy.flood import FloodGuard
from nova_sidecar.policy.gcra import Buckets, Quota
from nova_sidecar.policy.limiter import Limiter
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.policy.protection import SelfProtection
from nova_sidecar.policy.rate_limit import Limit, RateLimiter
from nova_sidecar.policy.rates import Rates
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import Retrier, Suppressed
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.policy.tenancy import Tenancy
from nova_sidecar.policy.window import CountWindow, TimeWindow

RNG = Random(0)
POLICIES = [
    Breaker(BreakerPolicy(), RNG, 0.0),
    CountWindow(10),
    TimeWindow(10, 0.0),
    Rates(BreakerPolicy(), 0.0),
    Outcomes(BreakerPolicy()),
    Ejector(EndpointBreakerPolicy()),
    Health(),
    Limiter(BackpressurePolicy()),
    AdaptiveLimit(BackpressurePolicy(), 0.0),
    Tenancy(TenancyPolicy(), 1),
    RateLimiter("shop", 100),
    Limit(RateLimit(name="clients", rate=1), 1),
    Buckets(100),
    Quota(1, 1.0),
    FairQueue(),
    SelfProtection(SelfProtectionPolicy()),
    Retrier(RetryPolicy(), RNG),
    RetryBudget(0.2, 3),
    Lifespan(PoolPolicy(), RNG),
    CorrelationIds(RNG.randbytes),
    Drainer(DrainPolicy()),
    FloodGuard(),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_policies_have_slots_only(policy: object) -> None:
    assert not hasattr(policy, "__dict__")


@pytest.mark.parametrize("word", [*Reason, *Suppressed])
def test_reasons_are_words_fit_for_labels_and_headers(word: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", word)
    assert word == type(word).__members__[word.upper()]
