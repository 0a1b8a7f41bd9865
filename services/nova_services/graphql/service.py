"""graphql over HTTP (graphql.github.io/graphql-over-http/draft).

    POST /graphql          {"query", "operationName", "variables", "extensions"}    200 data and errors
    GET  /schema.graphql   what can be asked
    GET  /openapi.json     this, for programs
    GET  /healthz          200 while the process serves

Who asks is `x-nova-subject`, which the sidecar sets; without it there is what everybody may see. A request that cannot
be read is answered 400 with field and rule, one that is no application/json 415: no other site's form can be one. Once
it is read the answer is 200, and its errors stand beside its data. The cookie `seen` is content's, handed on (`calls`).
"""

from typing import Any, Final

from aiohttp import web
from graphql import GraphQLError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult

from nova_services import bodies
from nova_services.errors import InvalidError
from nova_services.graphql import schema
from nova_services.graphql.api import API, SCHEMA_KIND
from nova_services.graphql.asked import Asked
from nova_services.graphql.calls import SEEN, Calls, Patience
from nova_services.graphql.documents import Documents
from nova_services.graphql.errors import Code, failure, told
from nova_services.graphql.metrics import GraphqlMetrics, Result
from nova_services.graphql.types import Context
from nova_services.graphql.upstreams import Upstreams
from nova_services.identity import known
from nova_services.openapi import publish
from nova_services.web import application

SEEN_SECONDS: Final = 60
"""As long as content has it live."""
_UNKNOWN: Final = failure(Code.UNKNOWN_DOCUMENT, "PersistedQueryNotFound")
"""By these words clients know that they must send the document."""
_NO_OPERATION: Final = failure(
    Code.BAD_USER_INPUT, "operationName: expected an operation of the document, to be run once"
)


class Gateway:
    """The service."""

    def __init__(self, upstreams: Upstreams, metrics: GraphqlMetrics, patience: Patience) -> None:
        self._upstreams = upstreams
        self._metrics = metrics
        self._patience = patience
        self._documents = Documents()
        self._text = schema.text()

    def application(self) -> web.Application:
        """The web application."""
        made = application(web.post("/graphql", self._graphql), web.get("/schema.graphql", self._schema))
        publish(made, API)
        return made

    async def _graphql(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.json_response({"error": "content-type: expected application/json"}, status=415)
        asked = await bodies.read(request, Asked)
        if not asked.query and not asked.digest:
            raise InvalidError("query", "a document")
        document = self._documents.resolve(asked.query, asked.digest)
        if document is None:
            return self._answer("unknown_document", {"errors": told([_UNKNOWN])})
        return await self._run(asked, document, self._context(request))

    async def _run(self, asked: Asked, document: str, context: Context) -> web.Response:
        given = context.calls.seen
        try:
            found = await schema.SCHEMA.execute(
                document,
                variable_values=asked.variables,
                operation_name=asked.operation_name,
                context_value=context,
            )
        except (CannotGetOperationTypeError, InvalidOperationTypeError):
            return self._answer("failed", {"errors": told([_NO_OPERATION])})
        for one in (context.people, context.posts):
            self._metrics.loaded(one.loads, one.calls)
        body: dict[str, Any] = {"errors": told(found.errors)} if found.errors else {}
        if found.data is not None or not _before(found.errors or []):
            body["data"] = found.data
        response = self._answer(_result(found), body)
        if (seen := context.calls.seen) is not None and seen != given:
            response.set_cookie(SEEN, seen, max_age=SEEN_SECONDS, httponly=True, samesite="Lax")
        return response

    def _context(self, request: web.Request) -> Context:
        calls = Calls(
            self._upstreams.session,
            self._metrics,
            self._patience,
            viewer=known(request),
            authorization=request.headers.get("authorization"),
            seen=request.cookies.get(SEEN),
        )
        return Context(self._upstreams, calls)

    def _answer(self, result: Result, body: dict[str, Any]) -> web.Response:
        self._metrics.ended(result)
        return bodies.answer(body)

    async def _schema(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._text, content_type=SCHEMA_KIND, headers={"cache-control": "max-age=60"})


def _before(errors: list[GraphQLError]) -> bool:
    """Whether nothing was run, so that there is no data to speak of."""
    return all(error.path is None for error in errors)


def _result(found: ExecutionResult) -> Result:
    if not found.errors:
        return "ok"
    return "partial" if found.data and any(value is not None for value in found.data.values()) else "failed"
