"""The real cluster: implements `Cluster` on `kubernetes.aio`.

Objects are plain data on the way in and out, so the client's generated models are bypassed; its connections,
credentials and request plumbing are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient

from nova_api import names
from nova_operator import openapi
from nova_operator.cluster import ClusterError, Collection, RefusedError, StaleError, UnavailableError
from nova_operator.connections import Connections
from nova_operator.desired.metadata import Manifest
from nova_operator.exchange import Answer
from nova_operator.kinds import POD, Kind, kind_of
from nova_operator.metrics import Metrics

FIELD_MANAGER: Final = names.OPERATOR_NAME
CONNECT: Final = 3.0
"""Seconds to connect."""
DEADLINE: Final = 10.0
LIST_DEADLINE: Final = 30.0
"""Seconds until the answer is there, connecting included; a complete list is 5 KB for each object."""
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
_MERGE: Final = "application/merge-patch+json"
_UNCHECKED: Final = {"fieldValidation": "Ignore"}
"""Without it the API server parses each apply once more, for warnings of fields written twice, which JSON of ours has
not. A field that the kind does not have is refused by an apply in any case.

https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation
"""
_LONGEST_MESSAGE: Final = 1000
_NOT_TYPED: Final = "failed to create typed patch object"
"""How the answer begins to an apply with a field that the kind does not have, or of another type. It comes as 500."""
_NEVER: Final = "1"
"""A resource version that no object has: etcd's first revision is older than the first object. An apply on condition of
a version makes an object that is not there, and is refused (409) for one that has another version."""
_LONGEST_NAME: Final = 253
_SEGMENT: Final = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9_.:-]{{0,{_LONGEST_NAME}}}")
_TOO_LARGE: Final = "etcdserver: request is too large"


T = TypeVar("T")


class _List(msgspec.Struct):
    metadata: Manifest
    items: list[msgspec.Raw]


_LIST: Final = msgspec.json.Decoder(_List)
_OBJECT: Final = msgspec.json.Decoder(Manifest)


class Kube:
    """The API server behind a client. Every call ends within `DEADLINE`, a list within `LIST_DEADLINE`."""

    def __init__(self, api: ApiClient, metrics: Metrics) -> None:
        self._connections = cast("Connections", api.rest_client)  # put there by `access.client`
        self._metrics = metrics
        self._declared: dict[tuple[tuple[str, str], tuple[str, ...]], bool] = {}

    async def version(self) -> tuple[str, str]:
        """Major and minor, as the server writes them."""
        answer = await self._found("GET", "/version")
        return answer["major"], answer["minor"]

    async def serves(self, kind: Kind) -> bool:
        """Whether objects of the kind can be written; needs no permission beyond discovery. While a definition is
        being deleted its objects can be read and deleted only."""
        answer = await self._call("GET", f"/apis/{kind.api_version}")
        resources = [] if answer is None else answer["resources"]
        return any(resource["name"] == kind.plural and "patch" in resource["verbs"] for resource in resources)

    async def declares(self, kind: Kind, field: tuple[str, ...]) -> bool:
        """Whether objects of the kind have a field, given by its names from the top. The document is read again only
        when it has changed."""
        where = openapi.document_path(await self._found("GET", "/openapi/v3"), kind)
        if where is None:
            return False
        if (where, field) not in self._declared:
            path, digest = where
            document = await self._found("GET", path, query={"hash": digest})
            self._declared = {(where, field): openapi.declares(document, kind, field)}
        return self._declared[where, field]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """The object, or None where there is none; `namespace` is None for a kind that has none."""
        if not name:
            return None  # it would be the path of all objects
        return await self._call("GET", path_of(kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None, labels: str) -> list[Manifest]:
        """The objects that a label selector picks; in all namespaces for None."""
        return [*(await self.collection(kind, namespace, labels)).items]

    async def collection(self, kind: Kind, namespace: str | None, labels: str) -> Collection:
        """The same, with the version they were read at.

        In one piece: of a list in pieces (`limit`), many API servers read each from etcd instead of their memory.
        """
        path = path_of(kind, namespace)
        text = await self._send("GET", path, {"labelSelector": labels}, within=LIST_DEADLINE)
        if text is None:
            raise StaleError(f"GET {path}: there are no such objects (any more)")
        answer = _decoded(f"GET {path}", text, _LIST)
        about = {"apiVersion": kind.api_version, "kind": kind.kind}
        items = ({**about, **msgspec.json.decode(item)} for item in answer.items)
        return Collection(items, answer.metadata["resourceVersion"])

    async def apply(
        self,
        manifest: Manifest,
        *,
        dry_run: bool = False,
        absent: bool = False,
        manager: str = names.OPERATOR_NAME,
    ) -> Manifest:
        """Server-side apply, taking over fields that somebody else set; the object as it is afterwards. `absent`: on
        the condition that there is none of its name, else it raises StaleError.

        https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        metadata = manifest["metadata"]
        path = path_of(kind_of(manifest), metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": manager, "force": "true", **_UNCHECKED, **({"dryRun": "All"} if dry_run else {})}
        if absent:
            manifest = {**manifest, "metadata": {**metadata, "resourceVersion": _NEVER}}
        return await self._found("PATCH", path, query=query, body=manifest, content_type=_APPLY)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create it. Raises StaleError where it exists."""
        path = path_of(kind, manifest["metadata"]["namespace"])
        return await self._found("POST", path, query={"fieldManager": FIELD_MANAGER}, body=manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Overwrite it as long as its resourceVersion is still the manifest's. Raises StaleError otherwise."""
        metadata = manifest["metadata"]
        path = path_of(kind, metadata["namespace"], metadata["name"])
        return await self._found("PUT", path, query={"fieldManager": FIELD_MANAGER}, body=manifest)

    async def merge(
        self, kind: Kind, manifest: Manifest, *, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> Manifest:
        """JSON merge patch (RFC 7396); a uid in its metadata keeps it from reaching a namesake (StaleError)."""
        metadata = manifest["metadata"]
        path = path_of(kind, metadata["namespace"], metadata["name"]) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": manager, **_UNCHECKED}
        return await self._found("PATCH", path, query=query, body=manifest, content_type=_MERGE)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete it, and what it owns in the background. Already gone is fine; a namesake is a StaleError."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        await self._call("DELETE", path_of(kind, namespace, name), body=body)

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Have a pod deleted as its PodDisruptionBudgets allow, which is an UnavailableError when they do not now.
        Already gone is fine; a namesake is a StaleError.

        https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._call("POST", f"{path_of(POD, namespace, name)}/eviction", body=body)

    async def _found(self, method: str, path: str, **request: Any) -> Manifest:
        answer = await self._call(method, path, **request)
        if answer is None:
            raise StaleError(f"{method} {path}: there is no such object (any more)")
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest | None:
        """One request; None for 404."""
        encoded = None if body is None else msgspec.json.encode(body)
        text = await self._send(method, path, query, body=encoded, content_type=content_type)
        return None if text is None else _decoded(f"{method} {path}", text, _OBJECT)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        within: float = DEADLINE,
    ) -> bytes | None:
        """The body of the answer; None for 404. Foreign errors become ClusterErrors here and nowhere else."""
        code, target = "none", f"{path}?{urlencode(query)}" if query else path
        try:
            answer = await self._connections.send(method, target, body, content_type, connect=CONNECT, total=within)
            code = str(answer.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{method} {path}: {str(error) or type(error).__name__}") from error
        finally:
            self._metrics.request(method, code)
        return _body(f"{method} {path}", answer)


def path_of(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Path of an object, or of the collection; in all namespaces for None. Raises RefusedError for what can be no name:
    some come from labels that anybody writes, and must not lead elsewhere.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#path-segment-names
    """
    for segment in (namespace or "", name):
        if not _SEGMENT.fullmatch(segment):
            raise RefusedError(f"expected the name of a {kind.kind} and its namespace, got {segment[:_LONGEST_NAME]!r}")
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    within = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{root}{within}/{kind.plural}" + (f"/{name}" if name else "")


def _body(what: str, answer: Answer) -> bytes | None:
    """What an answer means. https://kubernetes.io/docs/reference/using-api/api-concepts/"""
    if answer.status < 300:
        return answer.body
    if answer.status == 404:
        return None
    raise error_of(what, answer.status, answer.headers.get("retry-after"), answer.body)


def _decoded(what: str, text: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"{what}: the answer is no JSON, or not what was asked for: {error}") from error


def error_of(what: str, status: int, retry_after: str | None, text: bytes) -> ClusterError:
    """What an answer other than success means."""
    message = _message(text)
    if status in {405, 409}:  # 405: a definition is being deleted, and with it all objects of its kind
        return StaleError(f"{what}: {message}")
    if status == 500 and (message.startswith(_NOT_TYPED) or _TOO_LARGE in message):
        return RefusedError(message)  # it would be refused again and again, and nobody would be told
    if status in {401, 429} or status >= 500:  # 401: the token was just replaced, or the server is not up yet
        return UnavailableError(f"{what}: {status} {message}", _seconds(retry_after))
    return RefusedError(message)


def _message(text: bytes) -> str:
    """The message of a Status, which names the object, the field and the rule."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError:
        document = None
    said = document.get("message") if isinstance(document, dict) else None
    return str(said or text.decode(errors="replace")).strip()[:_LONGEST_MESSAGE]


def _seconds(retry_after: str | None) -> float | None:
    return min(60.0, float(retry_after)) if retry_after and retry_after.isdecimal() else None
