"""What runs: the app's container or whole pod template, how many pods, where, and how they leave."""

from typing import Annotated, Literal

from msgspec import Meta, field

from nova_api import names
from nova_api.forms import KubernetesObject, Labels, Name, Quantity, SecretName, VariableName
from nova_api.model import Model, Rule
from nova_api.policies import ZERO_SHARE
from nova_api.units import Duration, Share

NodeLabel = Annotated[str, Meta(min_length=1, max_length=317)]


class EnvVar(Model, frozen=True, kw_only=True):
    """An environment variable of the app container."""

    key = "name"

    name: VariableName
    """Name of the variable, unique in the container."""

    value: str | None = None
    """Literal value."""

    value_from: KubernetesObject | None = None
    """Source of the value, as in a Pod: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef."""

    rules = (
        Rule(
            cel="!has(self.value) || !has(self.valueFrom)",
            message="value and valueFrom must not both be set",
            holds=lambda s: s.value is None or s.value_from is None,
        ),
    )


class ResourceRequirements(Model, frozen=True, kw_only=True):
    """Requests and limits, as in a Pod."""

    requests: dict[str, Quantity] = field(default_factory=dict)
    """What the scheduler reserves, such as cpu: 100m."""

    limits: dict[str, Quantity] = field(default_factory=dict)
    """What the container may use at most."""


class TemplateMetadata(Model, frozen=True, kw_only=True):
    """Labels and annotations of the pods."""

    labels: Labels = field(default_factory=dict)
    """Labels beside those that Nova sets."""

    annotations: Labels = field(default_factory=dict)
    """Annotations beside those that Nova sets."""


class PodTemplate(Model, frozen=True, kw_only=True):
    """A whole pod, as in a Deployment. The operator adds the sidecar to it and leaves the rest as it is, security
    settings included."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the pods."""

    spec: KubernetesObject
    """Pod specification, as in a Deployment; the API server checks it there."""


class WorkloadRef(Model, frozen=True, kw_only=True):
    """A Deployment that somebody else made. It keeps its owner, its replicas and everything that Nova does not need;
    when the NovaService is deleted it is what it was."""

    name: Name
    """Name of the Deployment, in the service's namespace."""

    mode: Literal["Adopt", "Inject"] = "Adopt"
    """Adopt: the operator adds the sidecar to the Deployment. Inject: the Deployment stays as it is, and its pods,
    labelled nova.dev/inject with the service's name, get the sidecar when they are created."""


class Autoscaling(Model, frozen=True, kw_only=True):
    """A HorizontalPodAutoscaler; spec.replicas says nothing then. Without a goal it is 80% of the CPU requests."""

    min_replicas: Annotated[int, Meta(ge=1, le=10_000)] = 2
    """Fewest pods."""

    max_replicas: Annotated[int, Meta(ge=1, le=10_000)]
    """Most pods."""

    cpu: Share | None = None
    """Used share of the app container's CPU request at which pods are added; of all the pod's containers together where
    the server is older than 1.30, and with workloadRef without appContainer."""

    memory: Share | None = None
    """Used share of the app container's memory request at which pods are added; as with cpu."""

    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Requests to the app in flight per pod at which pods are added: the metric nova_requests_in_flight with direction
    inbound, summed over the ports, of the custom metrics API, which an adapter such as prometheus-adapter must
    serve."""

    behavior: KubernetesObject | None = None
    """How fast it scales, as in a HorizontalPodAutoscaler."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="maxReplicas must be at least minReplicas",
            holds=lambda s: s.min_replicas <= s.max_replicas,
        ),
        Rule(
            cel=f"(!has(self.cpu) || !self.cpu.matches('{ZERO_SHARE}'))"
            f" && (!has(self.memory) || !self.memory.matches('{ZERO_SHARE}'))",
            message="cpu and memory must be more than 0%",
            holds=lambda s: s.cpu != 0 and s.memory != 0,
        ),
    )


class TopologySpread(Model, frozen=True, kw_only=True):
    """Spreads the pods, so that a lost node or zone takes few of them."""

    mode: Literal["Off", "Preferred", "Required"] = "Off"
    """Off: Kubernetes' own spreading, over zones where there are some and over nodes, as even as there is room for.
    Preferred: the same over `keys`, of the pods of each revision. Required: a pod that would make it more uneven than
    maxSkew waits. With the last two, nodes that lack one of the keys have no part in it."""

    max_skew: Annotated[int, Meta(ge=1, le=100)] = 1
    """Largest difference between two nodes, or two zones, in pods."""

    keys: Annotated[tuple[NodeLabel, ...], Meta(min_length=1, max_length=4)] = (
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    )
    """Node labels to spread over."""


class PodDisruptionBudget(Model, frozen=True, kw_only=True):
    """How many pods a voluntary disruption may take at once."""

    mode: Literal["Auto", "Off"] = "Auto"
    """Auto: a budget when there are two pods or more (replicas, or autoscaling's minReplicas); one alone it would not
    protect. With workloadRef there is none, since its owner may have one already. Off: none."""

    max_unavailable: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Most pods away at once."""


class ServiceAccount(Model, frozen=True, kw_only=True):
    """The identity of the pods."""

    name: SecretName | None = None
    """An account that exists; when left out, and where the template names none, the operator makes one with the
    service's name. Pods of workloadRef keep theirs."""

    annotations: Labels = field(default_factory=dict)
    """Annotations of the account that the operator makes, such as a cloud's role."""

    automount_token: bool = False
    """Whether the pods get a token for the API server."""


class Shutdown(Model, frozen=True, kw_only=True):
    """How a pod leaves: it stays reachable while endpoints are removed, finishes what it has, then ends."""

    pre_stop: Duration = Duration(10)
    """How long app and sidecar go on serving after the pod was told to end, so that callers learn of it."""

    grace_period: Duration = Duration(45)
    """Time until the pod is killed (terminationGracePeriodSeconds)."""

    rules = (
        Rule(
            cel="duration(self.gracePeriod) >= duration('1s')"
            f" && duration(self.preStop) + duration('{names.DRAIN_RESERVE}') <= duration(self.gracePeriod)",
            message=f"gracePeriod must be at least preStop + {names.DRAIN_RESERVE}, "
            "the time in which requests in flight can finish",
            holds=lambda s: s.grace_period >= 1 and s.pre_stop + names.DRAIN_RESERVE <= s.grace_period,
        ),
    )


class Sidecar(Model, frozen=True, kw_only=True):
    """The sidecar container itself; unset fields take the operator's values."""

    image: str | None = None
    """Another sidecar image for this service."""

    resources: ResourceRequirements | None = None
    """Other requests and limits for this service."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
