"""How a new version of the app comes into force: all at once, or as a canary that must prove itself."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api.model import Model, Rule
from nova_api.policies import Mode
from nova_api.units import Duration, Share


class RolloutStep(Model, frozen=True, kw_only=True):
    """A share of the traffic, and how long it must go well."""

    weight: Annotated[int, Meta(ge=1, le=100)]
    """Share of the requests that the canary gets, in percent."""

    hold: Duration = Duration(300)
    """Least time at this weight."""

    gate: bool = False
    """Whether to go on only when somebody says so: `nova rollout promote`. The checks go on meanwhile."""


class RolloutChecks(Model, frozen=True, kw_only=True):
    """What the canary is judged by: its sidecars' own figures beside those of the stable version, at the same time."""

    mode: Mode = "Enforce"
    """Off, Shadow (says what it would do) or Enforce (rolls back)."""

    max_error_increase: Share = Share(0.01)
    """Largest share of failed requests (5xx, gRPC codes that count as failure, no answer at all) above that of the
    stable version."""

    max_latency_ratio: Annotated[float, Meta(ge=1, le=100)] = 1.5
    """Largest p99 of the canary, as a multiple of the stable version's; up to the next bound of the duration histogram
    is tolerated."""

    minimum_samples: Annotated[int, Meta(ge=10, le=1_000_000)] = 100
    """Requests in a step, to the canary and to the stable version, before anything but the worst is concluded: that
    most requests to the canary fail."""

    confidence: Share = Share(0.99)
    """How sure a verdict must be, over all looks together, however often is looked (a sequential test)."""

    rules = (
        Rule(
            cel="!self.confidence.matches('^(100([.]0+)?|[0-4]?[0-9]([.][0-9]+)?)%$')",
            message="confidence must be at least 50% and below 100%",
            holds=lambda s: 0.5 <= s.confidence < 1,
        ),
    )


class Rollout(Model, frozen=True, kw_only=True):
    """How a changed pod template comes into force. Configuration alone never restarts a pod."""

    strategy: Literal["Rolling", "Canary"] = "Rolling"
    """Rolling: as a Deployment does it. Canary: in steps, beside the stable version, with automatic checks and
    rollback."""

    steps: Annotated[tuple[RolloutStep, ...], Meta(min_length=1, max_length=16)] = (
        RolloutStep(weight=10),
        RolloutStep(weight=50),
        RolloutStep(weight=100, hold=Duration(60)),
    )
    """Steps of a canary; the last is 100, and ends with the promotion."""

    weights: Literal["Replicas", "HTTPRoute", "Callers"] = "Replicas"
    """What sends the canary its share. Replicas: the number of its pods, so that few pods give a coarse share.
    HTTPRoute: the route of `gateway`. Callers: the sidecars of the services that have this one as an upstream."""

    checks: RolloutChecks = RolloutChecks()
    """What the canary is judged by."""

    on_inconclusive: Literal["Hold", "Promote", "Abort"] = "Hold"
    """What happens when a step's time is over and traffic was too little for a verdict."""

    sticky: bool = False
    """Whether a client stays with the version it got: by the signed cookie of sessionAffinity.cookie, whatever
    sessionAffinity.type says, it stays at its pod as long as that is there."""

    rules = (
        Rule(
            cel="self.steps.map(s, s.weight).isSorted() && self.steps[size(self.steps) - 1].weight == 100",
            message="steps must rise, and the last one must have the weight 100",
            holds=lambda s: (
                [step.weight for step in s.steps] == sorted(step.weight for step in s.steps)
                and s.steps[-1].weight == 100
            ),
        ),
    )
