"""What a service says of itself: GET /openapi.json, made of its msgspec types and a table of its operations.

    API = Api("auth", "Accounts, logins and tokens.", (
        Operation("POST", "/register", "Make an account.", body=Credentials, answers={201: Registered, 409: Problem}),
    ))

    made = application(web.post("/register", self._register))
    publish(made, API)                # ValueError where the table and the routes are not the same

`python -m nova_services.schemas` keeps the documents of all services as files.

The types that a handler reads and answers with are those that the document is made of, so a change of one changes the
other; whether the answers are what the table says, a fuzzer finds out. The form is OpenAPI 3.1.0, its schemas JSON
Schema 2020-12: https://spec.openapis.org/oas/v3.1.0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

VERSION: Final = "1.0.0"
"""Of the paths and what goes over them, semantic."""
PATH: Final = "/openapi.json"
_BESIDE: Final = frozenset(("/healthz", PATH))
"""Paths that every service has and no client needs to know of."""
_REFERENCE: Final = "#/components/schemas/{name}"
_WORDS: Final = {
    200: "As asked for.",
    201: "Made.",
    202: "Taken, and done later.",
    204: "Done; there is nothing to say.",
    206: "A part of it.",
    304: "It is as one has it.",
    400: "Something in the request is wrong: `error` names field and rule.",
    401: "Nobody is logged in.",
    403: "This one may not.",
    404: "There is none, or not for this one.",
    409: "It stands against what is there.",
    413: "It is too large.",
    415: "It is of a kind that is not taken.",
    503: "For now it cannot be done; `Retry-After` says in how many seconds.",
}


class Problem(msgspec.Struct, frozen=True, rename="camel"):
    """What went wrong."""

    error: str
    """A sentence for people."""


class Paging(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Parameters of a list."""

    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    page_token: Annotated[str, Meta(max_length=256)] = ""
    """What the page before gave; empty for the first."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A body that is no JSON; `kinds` are media types, and ranges of them such as ``image/*``."""

    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One method of one path, which stands as it does in aiohttp's table of routes, without expressions.

    `body` is what is read, `query` a Struct whose fields are the parameters. A part of the path is a UUID unless `path`
    says otherwise. `answers` has what each status brings, None for nothing; 400 is added where something is read,
    401 where the `viewer` must be known, and 503.
    """

    method: str
    path: str
    words: str
    answers: Mapping[int, Any]
    body: Any = None
    query: Any = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    viewer: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of the path that vary."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def every_answer(self) -> dict[int, Any]:
        """By status, those that the table need not say among them."""
        found = {**self.answers, 503: Problem}
        if self.viewer:
            found[401] = Problem
        if self.body is not None or self.query is not None or self.names:
            found[400] = Problem
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Api:
    """What a service offers over HTTP. `beside` are paths that no OpenAPI can tell of, such as WebSockets."""

    name: str
    words: str
    operations: tuple[Operation, ...]
    beside: tuple[str, ...] = ()


def publish(served: web.Application, api: Api) -> None:
    """Have the application answer `PATH`. Raises ValueError naming routes that the table has and the application has
    not, or the other way round: nothing is served that nobody is told of."""
    told = {(one.method, one.path) for one in api.operations}
    there = {route for route in _routes(served) if route[1] not in _BESIDE.union(api.beside)}
    if told != there:
        named = ", ".join(f"{method} {path}" for method, path in sorted(told ^ there))
        raise ValueError(f"{api.name}: expected the same routes in the application and its table, only one has {named}")
    body = encoded(api)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json", headers={"cache-control": "max-age=60"})

    served.router.add_get(PATH, answer)


def encoded(api: Api) -> bytes:
    """The document as it is served and kept, with a line for each thing so that changes can be read."""
    return msgspec.json.format(msgspec.json.encode(document(api)), indent=2) + b"\n"


def document(api: Api) -> dict[str, Any]:
    """The document of an API. Raises TypeError for types that JSON Schema cannot tell of."""
    schemas = _Schemas(api)
    paths: dict[str, dict[str, Any]] = {}
    for one in api.operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Nova {api.name}", "version": VERSION, "description": api.words},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


class _Schemas:
    """The types of an API, each told of once, and how to refer to them."""

    def __init__(self, api: Api) -> None:
        types = dict.fromkeys(kind for one in api.operations for kind in _types(one))
        found, self.components = msgspec.json.schema_components(list(types), ref_template=_REFERENCE)
        self._schemas: dict[Any, dict[str, Any]] = dict(zip(types, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of one, usually a reference."""
        found: dict[str, Any] = self._schemas[kind]
        return found

    def content(self, kind: Any) -> dict[str, Any]:
        """A body by its media type."""
        if isinstance(kind, Raw):
            return {one: {"schema": {"type": "string", "format": "binary"}} for one in kind.kinds}
        return {"application/json": {"schema": self.of(kind)}}


def _types(one: Operation) -> Iterator[Any]:
    given = (one.body, *one.every_answer.values(), *one.parts.values(), UUID)
    return (kind for kind in given if kind is not None and not isinstance(kind, Raw))


def _operation(one: Operation, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": one.words, "operationId": _identity(one)}
    parameters = [*_path_parameters(one, schemas), *_query_parameters(one)]
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": schemas.content(one.body)}
    if one.viewer:
        found["security"] = [{"bearer": []}]
    found["responses"] = {str(status): _answer(status, kind, schemas) for status, kind in one.every_answer.items()}
    return found


def _identity(one: Operation) -> str:
    """Such as ``getPostsIdComments``."""
    words = [part.strip("{}") for part in one.path.replace(".", "/").replace("-", "/").split("/") if part]
    return one.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _path_parameters(one: Operation, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name in one.names:
        yield {"name": name, "in": "path", "required": True, "schema": schemas.of(one.parts.get(name, UUID))}


def _query_parameters(one: Operation) -> Iterator[dict[str, Any]]:
    """Each field of the Struct, which is itself no part of the document."""
    if one.query is None:
        return
    kind = msgspec.json.schema_components((one.query,), ref_template="{name}")[1][one.query.__name__]
    for name, schema in kind["properties"].items():
        yield {"name": name, "in": "query", "required": name in kind.get("required", ()), "schema": schema}


def _answer(status: int, kind: Any, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"description": _WORDS[status]}
    if status == 503:
        found["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    if kind is not None:
        found["content"] = schemas.content(kind)
    return found


def _routes(served: web.Application) -> Iterator[tuple[str, str]]:
    for route in served.router.routes():
        if route.method != "HEAD" and route.resource is not None:  # aiohttp adds HEAD to each GET
            yield route.method, route.resource.canonical
