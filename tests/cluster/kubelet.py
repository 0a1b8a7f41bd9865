"""Stands in for the kubelets of a cluster that has none: gives pods an address, makes them ready, and answers for
their sidecars over real HTTP. Like a kubelet it looks at a mounted ConfigMap when its pod changes and not before.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nova_api import names
from nova_api.proxy import digest
from nova_operator.kinds import CONFIG_MAP, POD
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.load import Load, image

PERIOD = 0.05


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for the answers under way, so that no socket is left open
    report: Object


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 2.0  # an operator that was killed in the middle of asking must not hold the server up

    def do_GET(self) -> None:
        body = json.dumps(self.server.report).encode()
        self.send_response(200 if self.path == "/status" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Kubelet:
    """Runs the pods of one service. `network` is the third byte of their addresses, 127.88.network.N."""

    def __init__(self, api: Api, namespace: str, service: str, network: int) -> None:
        self.breakers: dict[str, str] = {}
        self.refuse: str | None = None
        """What sidecars say of a document that none of their image has run before, if they do not like it."""
        self.refused_by: str | None = None
        """Image of the sidecars that do not; None: all."""
        self.waiting: Object | None = None
        """Waiting state of the app containers of new pods, instead of running."""
        self.waiting_image: str | None = None
        """Image of those that wait; None: all do."""
        self.load: Load | None = None
        """Requests that the sidecars count."""
        self.syncs = 0
        self._api = api
        self._namespace = namespace
        self._service = service
        self._network = network
        self._servers: dict[str, _Server] = {}
        self._seen: dict[str, str] = {}
        self._ran: set[tuple[str, str]] = set()
        self._last = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop running pods; their sidecars no longer answer. Harmless when done before."""
        self._stop.set()
        self._thread.join()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def complaints(self) -> int:
        """Sidecars that refuse what is in their file."""
        return sum(server.report.get("lastError") is not None for server in self._servers.values())

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            with contextlib.suppress(ApiError, OSError):  # an object went away meanwhile, or the server restarts
                pods = self._api.list(POD, self._namespace, f"{names.LABEL_SERVICE}={self._service}")
                for pod in pods:
                    self._sync(pod)
                if self.load is not None:
                    reports = {uid: server.report for uid, server in self._servers.items()}
                    self.load.pour(self._api, self._namespace, self._service, pods, reports)

    def _sync(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            self._api.delete(POD, self._namespace, pod["metadata"]["name"], gracePeriodSeconds=0)
        elif self.waiting is not None and self.waiting_image in {None, image(pod)}:
            self._report_waiting(pod, self.waiting)
        elif uid not in self._servers:
            self._start(pod)
        elif self._seen[uid] != self._annotation(pod):
            self._seen[uid] = self._annotation(pod)
            self._mount(pod)
        if uid in self._servers:
            self._servers[uid].report["breakers"] = self.breakers

    def _start(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._last += 1
        address = f"127.88.{self._network}.{self._last}"
        self._servers[uid] = server = _Server((address, names.STATUS_PORT), _Handler)
        server.report = {"service": self._service, "lastError": None}
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()  # first: `stop` waits for it
        self._seen[uid] = self._annotation(pod)
        self._mount(pod)
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
        self._api.patch(POD, self._namespace, pod["metadata"]["name"], {"status": status}, subresource="status")

    def _mount(self, pod: Object) -> None:
        self.syncs += 1
        mounted = self._api.get(CONFIG_MAP, self._namespace, names.config_map(self._service))
        report = self._servers[pod["metadata"]["uid"]].report
        document, spare = (mounted["data"].get(key) for key in (names.CONFIG_KEY, names.LAST_GOOD_KEY))
        config_hash = digest(document.encode())
        sidecar = image(pod, names.SIDECAR_CONTAINER)
        refuses = self.refuse is not None and self.refused_by in {None, sidecar}
        if not refuses or (sidecar, config_hash) in self._ran:
            report |= {"configHash": config_hash, "lastError": None}
            self._ran.add((sidecar, config_hash))
            return
        report["lastError"] = {"field": "$.x", "rule": self.refuse, "hash": config_hash}
        if spare is not None:  # a sidecar that starts has a second choice
            report.setdefault("configHash", digest(spare.encode()))

    def _report_waiting(self, pod: Object, waiting: Object) -> None:
        container = {"name": names.APP_CONTAINER, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Pending", "containerStatuses": [container | {"state": {"waiting": waiting}}]}
        if (pod.get("status") or {}).get("containerStatuses") is None:
            self._api.patch(POD, self._namespace, pod["metadata"]["name"], {"status": status}, subresource="status")

    def _annotation(self, pod: Object) -> str:
        return str((pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_CONFIG_HASH, ""))
