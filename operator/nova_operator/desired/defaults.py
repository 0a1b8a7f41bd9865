"""What the builders need to know besides the NovaService: the operator's own values and what the server can do."""

from __future__ import annotations

from typing import Literal

import msgspec

PullPolicy = Literal["Always", "IfNotPresent", "Never"]


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server and its kubelets can do."""

    native_sidecars: bool = True
    """Init containers with restartPolicy Always start before the app and outlive it (Kubernetes 1.29, KEP-753)."""

    sleep_action: bool = True
    """A preStop hook may be `sleep`, which needs no binary in the image (Kubernetes 1.30, KEP-3960)."""

    container_metrics: bool = True
    """An autoscaler may look at one container of a pod alone (Kubernetes 1.30, KEP-1610)."""

    match_label_keys: bool = True
    """Spreading may count the pods of one revision alone (on by default since Kubernetes 1.27, KEP-3243)."""

    http_routes: bool = False
    """The Gateway API is installed. Its definitions may come and go while the operator runs."""

    session_persistence: bool = False
    """An HTTPRoute has the field of that name (the experimental channel of the Gateway API, GEP-1619)."""

    pod_monitors: bool = False
    """The Prometheus operator's definitions are installed; they too may come and go."""

    prometheus_rules: bool = False
    """So is its definition of rules."""

    @classmethod
    def of(cls, major: str, minor: str) -> Platform:
        """From the answer of GET /version, whose minor may read like ``29+``."""
        release = (_number(major), _number(minor))
        return cls(
            native_sidecars=release >= (1, 29),
            sleep_action=release >= (1, 30),
            container_metrics=release >= (1, 30),
            match_label_keys=release >= (1, 27),
        )


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Values of the operator for services that set none."""

    sidecar_image: str
    sidecar_pull_policy: PullPolicy | None = None
    sidecar_requests: dict[str, str]
    data_image: str = ""
    """Image of the data tools, for services with a database."""

    operator_namespace: str | None = None
    """Where the operator's pods are; None when it runs outside of the cluster."""

    platform: Platform = Platform()


def _number(text: str) -> int:
    digits = "".join(character for character in text if character.isdecimal())
    return int(digits or "0")
