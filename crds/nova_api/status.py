"""What the operator reports of a service: what it saw last, never what it wishes."""

from typing import Literal

from nova_api.model import Model


class Condition(Model, frozen=True, kw_only=True):
    """A condition as in metav1.Condition."""

    key = "type"

    type: str
    """Ready, Progressing, Converged, Degraded, CircuitOpen, Canary, DatabaseReady, OutboxRelayReady, Reconciling,
    Stalled or FieldsIgnored."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    reason: str
    """One word for programs."""

    message: str
    """A sentence for people that says what to do."""

    observed_generation: int
    """Generation of the spec it speaks of."""

    last_transition_time: str
    """When status last changed (RFC 3339)."""


class SidecarCount(Model, frozen=True, kw_only=True):
    """How many sidecars run the current configuration."""

    configured: int = 0
    """Sidecars that run it."""

    total: int = 0
    """Sidecars there are."""

    summary: str = "0/0"
    """Both, for printing."""


class OpenBreaker(Model, frozen=True, kw_only=True):
    """An upstream whose breaker is not closed in every sidecar."""

    key = "upstream"

    upstream: str
    """Name of the upstream."""

    pods: int
    """Sidecars whose breaker of it is open or half open."""


class DrainBudget(Model, frozen=True, kw_only=True):
    """The time a pod needs to leave, and the time it has; in seconds."""

    needed_seconds: int = 0
    """Waiting for callers to learn of it, closing WebSockets, and the least time for requests in flight."""

    grace_period_seconds: int = 0
    """Time until the pod is killed."""


class TrackFigures(Model, frozen=True, kw_only=True):
    """What the sidecars of one version counted in this step, as far as it was written down."""

    requests: int = 0
    """Requests that are over."""

    failed: int = 0
    """Of those the ones that failed (5xx, gRPC codes that count as failure, no answer at all)."""

    p99: str = ""
    """99th percentile of their durations, such as 12ms; empty without requests."""


class RolloutStatus(Model, frozen=True, kw_only=True):
    """Where a canary stands."""

    phase: Literal["Idle", "Progressing", "Gated", "Inconclusive", "Promoting", "Promoted", "Aborted"] = "Idle"
    """Idle: there is none. Gated: waits for `nova rollout promote`. Inconclusive: holds, too little traffic. Aborted:
    the new version was taken back, and is not tried again until the spec changes."""

    step: int = 0
    """Number of the step, the first is 1; 0 without a canary."""

    weight: int = 0
    """Share of the requests that the canary should get, in percent."""

    stable: str = ""
    """Hash of the pod template that is in force."""

    canary: str = ""
    """Hash of the pod template that is tried, or was last."""

    started: str = ""
    """When the canary began (RFC 3339)."""

    since: str = ""
    """When the step began (RFC 3339)."""

    hold_since: str = ""
    """When all pods of the step were ready, from which on its hold counts (RFC 3339); empty until then."""

    stable_figures: TrackFigures = TrackFigures()
    """Requests to the stable version in this step."""

    canary_figures: TrackFigures = TrackFigures()
    """Requests to the canary in this step."""

    message: str = ""
    """What it waits for, or why it ended: a sentence for people."""


class NovaServiceStatus(Model, frozen=True, kw_only=True):
    """What the operator saw last."""

    observed_generation: int = 0
    """Generation of the spec that the status speaks of."""

    ready_generation: int = 0
    """Generation of the spec for which Ready held last."""

    conditions: tuple[Condition, ...] = ()
    """Ready, Progressing, Converged, Degraded and CircuitOpen; while they hold Reconciling, Stalled and FieldsIgnored;
    Canary while one is under way; DatabaseReady and OutboxRelayReady with spec.database and its outbox."""

    replicas: int = 0
    """Pods there are."""

    ready_replicas: int = 0
    """Pods that are ready."""

    selector: str = ""
    """Label selector of the pods, for the scale subresource."""

    config_hash: str = ""
    """Hash of the configuration the sidecars should run."""

    sidecars: SidecarCount = SidecarCount()
    """How many of them do."""

    upstreams: str = ""
    """Upstreams whose breaker is closed in every sidecar, of all, such as 2/2."""

    open_breakers: tuple[OpenBreaker, ...] = ()
    """Upstreams whose breaker is not closed somewhere."""

    refused_hash: str = ""
    """Hash of a configuration that sidecars refused, while the last good one is in force in its place."""

    drain: DrainBudget = DrainBudget()
    """Whether pods have the time to leave in good order."""

    rollout: RolloutStatus = RolloutStatus()
    """Where a canary stands."""
