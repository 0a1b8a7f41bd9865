"""`spec.coalescing`: identical safe requests share one call."""

from typing import Annotated

from msgspec import Meta

from nova_api.model import Model, Rule
from nova_api.policies import HeaderName, Mode
from nova_api.units import Duration


class CoalescingPolicy(Model, frozen=True, kw_only=True):
    """Identical GET and HEAD requests that are under way at once share one call to the app. HTTP/1.1 ports only."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would share) or Enforce."""

    patience: Duration = Duration(1)
    """How long requests wait for the response head of the one whose call they share; then one more of them goes to the
    app as well, and after as long again the next."""

    max_followers: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Most requests that wait for one call; further ones go by themselves."""

    max_lag_bytes: Annotated[int, Meta(ge=65_536, le=67_108_864)] = 1_048_576
    """Bytes of a shared response that are kept for a client that reads more slowly than the others. Beyond it the app's
    response is held up."""

    max_hold_up: Duration = Duration(5)
    """How long, in all, a client may make the others of a shared response wait; then its connection is broken off."""

    ignored_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=32)] = ()
    """Request headers, in lower case, in which identical requests may differ, such as user-agent; all others count, ids
    of traces and requests apart. One that the response's Vary names counts after all. Never authorization or cookie."""

    rules = (
        Rule(
            cel="duration(self.patience) >= duration('10ms') && duration(self.patience) <= duration('60s')",
            message="patience must be from 10ms to 60s",
            holds=lambda s: 0.01 <= s.patience <= 60,
        ),
        Rule(
            cel="duration(self.maxHoldUp) <= duration('10m')",
            message="maxHoldUp must be at most 10m",
            holds=lambda s: s.max_hold_up <= 600,
        ),
        Rule(
            cel="!has(self.ignoredHeaders) || !self.ignoredHeaders.exists(h, h in ['authorization', 'cookie', 'host'])",
            message="ignoredHeaders must not name authorization, cookie or host",
            holds=lambda s: not {"authorization", "cookie", "host"}.intersection(s.ignored_headers),
        ),
    )
