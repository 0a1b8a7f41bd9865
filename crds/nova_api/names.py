"""Every name and number that more than one part of Nova must agree on."""

from typing import Final

from nova_api.units import Duration

OPERATOR_NAME: Final = "nova-operator"
SIDECAR_CONTAINER: Final = "nova-sidecar"
APP_CONTAINER: Final = "app"

LABEL_SERVICE: Final = "nova.dev/service"
LABEL_TRACK: Final = "nova.dev/track"
"""Label of a pod that tells whether it is of the stable version or of a canary."""
STABLE: Final = "stable"
CANARY: Final = "canary"
ANNOTATION_CONFIG_HASH: Final = "nova.dev/config-hash"
ANNOTATION_TEMPLATE_HASH: Final = "nova.dev/template-hash"
"""Annotation of a pod template with its hash, so that a template and all pods made of it can be told from others."""
ANNOTATION_ROLLOUT: Final = "nova.dev/rollout"
"""Annotation of a NovaService with what somebody wants of a canary; `nova rollout` writes it."""
LABEL_TOOL_OF: Final = "nova.dev/tool-of"
"""Label of a pod that works for a service and is none of it: of the database's Job, and of relays. It names the
service; no Service selects it."""
LABEL_INJECT: Final = "nova.dev/inject"
"""Label of a pod that asks for the sidecar of the service it names (workloadRef.mode Inject)."""
ANNOTATION_RETRY: Final = "nova.dev/retry"
"""Annotation of a NovaService; another value has the database's Job run once more."""
ANNOTATION_REPAIR: Final = "nova.dev/repair"
"""Annotation of a NovaService; "true" lets the operator replace pods that run without their sidecar."""

CONFIG_VOLUME: Final = "nova-config"
CONFIG_DIRECTORY: Final = "/etc/nova"
CONFIG_KEY: Final = "config.json"
LAST_GOOD_KEY: Final = "last-good.json"
"""The document before that one, which a sidecar starts with when it cannot use the other."""
DATABASE_URL_KEY: Final = "url"
"""Key of a Secret under which the database's URL is."""
MIGRATIONS_VOLUME: Final = "migrations"
"""Name of the volume with a database's migrations, and of the container that copies them out of an image."""
KAFKA_DIRECTORY: Final = "/etc/nova-kafka"
"""Folder of the Secret with settings of Kafka's client."""
METRICS_PORT: Final = 9464
"""Where relays answer: /metrics, /healthz and /readyz."""
METRICS_PORT_NAME: Final = "metrics"
SESSION_KEY: Final = "key"
"""Key of a Secret under which the bytes are that cookies are signed with."""
TLS_DIRECTORY: Final = "/etc/nova-tls"
"""Parent of one folder per Secret with which upstreams are known."""
SESSION_DIRECTORY: Final = "/etc/nova-session"
"""Folder of the Secret that cookies are signed with."""
STORE_DIRECTORY: Final = "/etc/nova-store"
"""Parent of one folder per Secret with which stores are reached."""

INBOUND_PORT_BASE: Final = 15100
STATUS_PORT: Final = 15020
STATUS_PORT_NAME: Final = "nova-status"
CONTROL_PORT: Final = 15021
CONTROL_VARIABLE: Final = "NOVA_CONTROL_URL"
"""Environment variable that names the control server where it is not at that port: under `nova dev`."""
POOL_GUARD_PATH: Final = "/pool-guard"
"""Page of the control server that takes reports about database pools."""
RESERVED_PORTS: Final = range(15000, 15200)
"""What the sidecar keeps for itself in a pod, now and for later versions."""

DRAIN_RESERVE: Final = Duration(5)
"""Least time between preStop and the end of the grace period, in which requests in flight can finish."""
CLOSE_RESERVE: Final = Duration(1)
"""Of that, what the last WebSocket to be closed has for its answer, before the app is told to end and may end it."""
EXIT_RESERVE: Final = Duration(2)
"""Of that, what the sidecar keeps to write its last log lines and end, before the pod is killed."""


def config_map(service: str) -> str:
    """Name of the ConfigMap that holds a service's proxy document."""
    return f"{service}-nova"


def endpoints(service: str) -> str:
    """Name of the headless Service, through which callers find a service's pods one by one."""
    return f"{service}-endpoints"


def database_job(service: str) -> str:
    """Name of the Job that prepares a service's database."""
    return f"{service}-migrate"


def relay(service: str) -> str:
    """Name of the Deployment of relays, and of what belongs to it."""
    return f"{service}-relay"


def canary(service: str) -> str:
    """Name of the Deployment and of the Service of a canary."""
    return f"{service}-canary"


def session_secret(service: str) -> str:
    """Name of the Secret that the operator makes to sign cookies with."""
    return f"{service}-session"


def inbound_port(index: int) -> int:
    """Port on which the sidecar takes the traffic of the service's port at this position."""
    return INBOUND_PORT_BASE + index


def upstream_address(index: int) -> str:
    """Loopback address that stands for the upstream host at this position (0 to 249)."""
    return f"127.77.0.{index + 1}"


def upstream_variable(name: str) -> str:
    """Environment variable that names an upstream's URL for apps that take it from there."""
    return f"NOVA_UPSTREAM_{name.upper().replace('-', '_')}_URL"


def upstream_target_variable(name: str) -> str:
    """Environment variable that names a gRPC upstream's target, which is what gRPC libraries take."""
    return f"NOVA_UPSTREAM_{name.upper().replace('-', '_')}_TARGET"


def upstream_target(host: str, port: int) -> str:
    """Target of a gRPC upstream as the app sees it.

    https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    return f"dns:///{host}:{port}"


def upstream_variables(name: str, protocol: str, host: str, port: int) -> dict[str, str]:
    """What an app finds in its environment of one upstream."""
    found = {upstream_variable(name): upstream_url(protocol, host, port)}
    if protocol == "grpc":
        found[upstream_target_variable(name)] = upstream_target(host, port)
    return found


def upstream_url(protocol: str, host: str, port: int) -> str:
    """URL of an upstream as the app sees it: plain even where the sidecar goes on by TLS."""
    return f"{'tcp' if protocol == 'tcp' else 'http'}://{host}:{port}"
