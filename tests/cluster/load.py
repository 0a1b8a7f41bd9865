"""Requests to a service whose pods only exist on paper.

Who gets them is decided as kube-proxy would, by the labels that the Service selects, and each sidecar counts them as a
real one would.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from nova_operator.kinds import SERVICE
from tests.cluster.api import Api, Object

BOUNDS = (0.01, 0.1, 1.0)


class Load:
    """So many requests a second to the Service, spread evenly over its pods that are ready."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.failing: dict[str, float] = {}
        """Share of the requests that fail, by image of the app."""
        self.slow: dict[str, float] = {}
        """Share of the requests that take longer than a second, by image."""
        self.served: Counter[str] = Counter()
        """Requests so far, by image."""
        self._last = time.monotonic()
        self._exact: dict[tuple[str, str], float] = {}

    def pour(self, api: Api, namespace: str, service: str, pods: list[Object], reports: dict[str, Object]) -> None:
        """Give the pods the requests since the last time; `reports` are what their sidecars answer, by pod uid."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        found = api.find(SERVICE, namespace, service)
        selector: dict[str, str] = found["spec"]["selector"] if found else {"nobody": ""}
        serving = [pod for pod in pods if pod["metadata"]["uid"] in reports and _is_selected(pod, selector)]
        for uid, report in reports.items():
            self._count(uid, report, 0.0, "")
        for pod in serving:
            uid = pod["metadata"]["uid"]
            self._count(uid, reports[uid], self.rate * seconds / len(serving), image(pod))

    def _count(self, uid: str, report: Object, requests: float, app: str) -> None:
        slow, failed = requests * self.slow.get(app, 0.0), requests * self.failing.get(app, 0.0)
        total = self._sum(uid, "requests", requests)
        late = self._sum(uid, "slow", slow)
        before = (report.get("traffic") or {}).get("requests", 0)
        self.served[app] += total - before
        report["traffic"] = {
            "requests": total,
            "failed": self._sum(uid, "failed", failed),
            "bounds": BOUNDS,
            "durations": [total - late, 0, 0, late],
        }

    def _sum(self, uid: str, what: str, more: float) -> int:
        self._exact[uid, what] = self._exact.get((uid, what), 0.0) + more
        return int(self._exact[uid, what])


def image(pod: Object, name: str = "app") -> str:
    """Image of a container, the app if not said otherwise, of a pod or of a pod template."""
    containers: list[Any] = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    return str(next(container["image"] for container in containers if container["name"] == name))


def _is_selected(pod: Object, selector: dict[str, str]) -> bool:
    labels = pod["metadata"]["labels"]
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and all(labels.get(name) == value for name, value in selector.items())
