"""`spec.cache.graphql`: answers to GraphQL queries, and what these may contain."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.model import Model
from nova_api.policies import Mode
from nova_api.units import Duration

PathPattern = Annotated[str, Meta(pattern=patterns.PATH, max_length=256)]
OperationName = Annotated[str, Meta(pattern=patterns.OPERATION, max_length=128)]
QueryClass = Literal["PUBLIC", "USER_DATA", "SEARCH", "NO_CACHE"]


class QueryTtls(Model, frozen=True, kw_only=True):
    """How long the answer to an operation of each class is used."""

    public: Duration = Duration(30)
    """PUBLIC: the same for everybody."""

    user_data: Duration = Duration(5)
    """USER_DATA: for one verified subject alone; without one it is not cached."""

    search: Duration = Duration(60)
    """SEARCH: the same for everybody who asks with the same variables."""


class QueryLimits(Model, frozen=True, kw_only=True):
    """What a GraphQL document may contain. One that exceeds a limit is refused before the app sees it."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    tokens: Annotated[int, Meta(ge=10, le=100_000)] = 1000
    """Lexical tokens of the document."""

    depth: Annotated[int, Meta(ge=1, le=200)] = 15
    """Fields within fields, fragments spread."""

    aliases: Annotated[int, Meta(ge=0, le=10_000)] = 30
    """Aliases in the operation, fragments spread."""

    fields: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """Fields in the operation, fragments spread."""

    cost: Annotated[int, Meta(ge=1, le=100_000_000)] = 10_000
    """Sum over all fields of the product of the list sizes above them: what first, last and limit ask for."""

    batch: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Operations in one request."""


class GraphqlPolicy(Model, frozen=True, kw_only=True):
    """Answers to GraphQL queries, which are POST requests mostly and so not cached otherwise."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would answer and refuse) or Enforce."""

    path: PathPattern = "/graphql"
    """Where the app serves GraphQL."""

    default_class: QueryClass = "NO_CACHE"
    """Class of operations that no list names and no @cacheControl directive speaks of."""

    public: Annotated[tuple[OperationName, ...], Meta(max_length=256)] = ()
    """Names of operations of class PUBLIC; one that ends in * stands for all that begin so. The answer must be the same
    for everybody: callers' credentials are not part of its key."""

    user_data: Annotated[tuple[OperationName, ...], Meta(max_length=256)] = ()
    """Names of operations of class USER_DATA."""

    search: Annotated[tuple[OperationName, ...], Meta(max_length=256)] = ()
    """Names of operations of class SEARCH."""

    no_cache: Annotated[tuple[OperationName, ...], Meta(max_length=256)] = ()
    """Names of operations that are never cached, whatever else says otherwise."""

    directives: bool = False
    """Whether @cacheControl(maxAge:, scope:) in a query decides for operations that no list names. Whoever writes the
    query then decides what is shared: only for apps whose clients are trusted, or send persisted queries."""

    ttl: QueryTtls = QueryTtls()
    """How long answers are used."""

    limits: QueryLimits = QueryLimits()
    """What a document may contain."""

    persisted: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    """Documents remembered by the SHA-256 that clients send in their place (automatic persisted queries); 0: such
    requests go to the app as they are."""

    max_request_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 65_536
    """Largest request that is read; larger ones are refused, unless limits are Off or Shadow."""
