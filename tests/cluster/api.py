"""A small synchronous client, so that tests look at the cluster with other eyes than the operator's."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

import yaml

from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE, Kind
from nova_operator.kube import path_of
from tests.crowd import CROWD

REPOSITORY = Path(__file__).resolve().parents[2]
CRD = REPOSITORY / "crds" / "novaservices.nova.dev.yaml"
NAMESPACE = Kind("v1", "Namespace", "namespaces")
CRDS = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")

Object = dict[str, Any]


class ApiError(Exception):
    """The API server's refusal: its status code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Api:
    """The API server, as the administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as both:
            both.write(_decode(user["client-certificate-data"]) + b"\n" + _decode(user["client-key-data"]))
            both.flush()
            context.load_cert_chain(both.name)
        self._server = cluster["server"]
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request. Raises ApiError."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._server + path, data, {"Content-Type": content_type}, method=method)
        try:
            with self._opener.open(request, timeout=20) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            text = error.read().decode(errors="replace")
            raise ApiError(error.code, json.loads(text).get("message", text) if text[:1] == "{" else text) from error

    def lines(self, path: str) -> list[Object]:
        """The JSON lines of an answer, such as the events of a watch that ends."""
        with self._opener.open(Request(self._server + path), timeout=20) as answer:
            return [json.loads(line) for line in answer]

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        try:
            found: Object = self.call("GET", path_of(kind, namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return found

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """The object. Raises ApiError."""
        found: Object = self.call("GET", path_of(kind, namespace, name))
        return found

    def warned(self, kind: Kind, namespace: str, body: Object) -> list[str]:
        """Create an object; the warnings that came with the answer (RFC 9111 names the header, Kubernetes uses it)."""
        document = json.dumps({"apiVersion": kind.api_version, "kind": kind.kind, **body}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(self._server + path_of(kind, namespace), document, headers, method="POST")
        with self._opener.open(request, timeout=20) as answer:
            return list(answer.headers.get_all("Warning") or [])

    def list(self, kind: Kind, namespace: str | None, labels: str = "") -> list[Object]:
        """The objects that a label selector picks."""
        query = f"?labelSelector={labels}" if labels else ""
        items: list[Object] = self.call("GET", path_of(kind, namespace) + query)["items"]
        return items

    def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Create an object; apiVersion and kind are filled in."""
        document = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        created: Object = self.call("POST", path_of(kind, namespace), document)
        return created

    def patch(self, kind: Kind, namespace: str | None, name: str, change: Object, *, subresource: str = "") -> Object:
        """JSON merge patch."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        patched: Object = self.call("PATCH", path, change, "application/merge-patch+json")
        return patched

    def delete(self, kind: Kind, namespace: str | None, name: str, **options: Any) -> None:
        """Delete an object; `options` as in DeleteOptions."""
        self.call("DELETE", path_of(kind, namespace, name), options or None)

    def service(self, namespace: str, name: str, **spec: Any) -> Object:
        """Create a NovaService; image and port are filled in."""
        body = {"image": "registry.example/app:1", "ports": [{"port": 8080}], **spec}
        return self.create(NOVA_SERVICE, namespace, {"metadata": {"name": name}, "spec": body})

    def change(self, namespace: str, name: str, **spec: Any) -> Object:
        """Change fields of a NovaService's spec."""
        return self.patch(NOVA_SERVICE, namespace, name, {"spec": spec})

    def conditions(self, namespace: str, name: str) -> dict[str, tuple[str, str]]:
        """Status and reason of a service's conditions; empty if none speaks of its current generation."""
        service = self.get(NOVA_SERVICE, namespace, name)
        status = service.get("status") or {}
        if status.get("observedGeneration") != service["metadata"]["generation"]:
            return {}
        return {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}

    def message(self, namespace: str, name: str, condition: str = "Ready") -> str:
        """The message of a condition."""
        conditions = self.get(NOVA_SERVICE, namespace, name)["status"]["conditions"]
        return next(str(one["message"]) for one in conditions if one["type"] == condition)

    def events(self, namespace: str, name: str) -> Iterator[str]:
        """Reasons of the Events about a service, in the order in which they were written."""
        events = self.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        about = [event for event in events if event["regarding"].get("name") == name]
        mine = [event for event in about if event["regarding"]["kind"] == NOVA_SERVICE.kind]
        return (event["reason"] for event in sorted(mine, key=lambda event: event["eventTime"] or ""))

    def install(self) -> None:
        """Apply the CustomResourceDefinition and wait until it is served."""
        path = path_of(CRDS, None, "novaservices.nova.dev") + "?fieldManager=tests&force=true"
        text = CRD.read_bytes()
        request = Request(self._server + path, text, {"Content-Type": "application/apply-patch+yaml"}, method="PATCH")
        self._opener.open(request, timeout=20).close()
        until(lambda: self.find(NOVA_SERVICE, "default", "any") is None and self._serves())

    @contextmanager
    def namespace(self, **labels: str) -> Iterator[str]:
        """A namespace of its own, deleted in the end."""
        name = f"nova-{uuid4().hex[:8]}"
        self.create(NAMESPACE, None, {"metadata": {"name": name, "labels": labels}})
        until(lambda: self.find(Kind("v1", "ServiceAccount", "serviceaccounts"), name, "default"))
        try:
            yield name
        finally:
            if self.find(NAMESPACE, None, name) is not None:  # a test may have deleted it
                self.delete(NAMESPACE, None, name)

    def deployment(self, namespace: str, name: str) -> Object:
        """A service's Deployment."""
        return self.get(DEPLOYMENT, namespace, name)

    def _serves(self) -> bool:
        try:
            return bool(self.list(NOVA_SERVICE, "default") is not None)
        except ApiError:
            return False


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until the condition gives something true, and return that. Fails after `seconds` of a machine of its own."""
    deadline = time.monotonic() + seconds * CROWD
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * CROWD:.0f} s: {condition}")
        time.sleep(0.05)
    return found


def eventually(check: Callable[[], None], seconds: float = 20.0) -> None:
    """Wait until the assertions of `check` hold; the last failure is what the test reports."""
    deadline = time.monotonic() + seconds * CROWD
    while True:
        try:
            return check()
        except (AssertionError, ApiError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _decode(text: str) -> bytes:
    return base64.b64decode(text)
