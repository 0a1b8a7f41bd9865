"""`spec.cache`: responses of the app that are given to others."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api.model import Model, Rule
from nova_api.policies import HeaderName, Mode
from nova_api.request_policies.graphql import GraphqlPolicy, PathPattern
from nova_api.units import Duration


class CachePolicy(Model, frozen=True, kw_only=True):
    """Keeps responses of the app that allow it, and answers from them: a shared cache after RFC 9111. HTTP/1.1 ports
    only. What says nothing about caching is not kept."""

    mode: Mode = "Off"
    """Off, Shadow (stores and counts what it would answer, answers nothing) or Enforce."""

    tier: Literal["Local", "Redis"] = "Local"
    """Local: each sidecar keeps its own. Redis: what one has, others find in spec.redis; without an answer from there
    each goes on by itself."""

    max_bytes: Annotated[int, Meta(ge=65_536, le=1_073_741_824)] = 16_777_216
    """Memory for responses in each sidecar; add it to the sidecar's memory limit."""

    max_body_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 1_048_576
    """Largest body that is kept; never more than a quarter of maxBytes."""

    max_variants: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Most responses to one target that differ by Vary; the oldest leaves."""

    paths: Annotated[tuple[PathPattern, ...], Meta(max_length=64)] = ("/*",)
    """Paths whose responses are kept; one that ends in * stands for all that begin so."""

    key_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=16)] = ()
    """Request headers, in lower case, that every response depends on, though its Vary does not say so."""

    stale_while_revalidate: Duration = Duration(0)
    """How long a response is used after its lifetime while the app is asked anew, where it does not say so itself."""

    stale_if_error: Duration = Duration(0)
    """How long a response is used after its lifetime when the app fails, where it does not say so itself."""

    set_cookie: bool = False
    """Whether responses with Set-Cookie may be kept, without that field. It is a promise that nothing else in them is
    one client's."""

    graphql: GraphqlPolicy = GraphqlPolicy()
    """Answers to GraphQL queries."""

    rules = (
        Rule(
            cel="duration(self.staleWhileRevalidate) <= duration('24h')"
            " && duration(self.staleIfError) <= duration('168h')",
            message="staleWhileRevalidate must be at most 24h and staleIfError at most 168h",
            holds=lambda s: s.stale_while_revalidate <= 86_400 and s.stale_if_error <= 604_800,
        ),
    )
