"""GraphQL in front of the cache: from a request to the plan by which it is looked up, or to a refusal.

    content ──▶ query ──▶ document, measured ──▶ class ──▶ plan: document + operation + variables (+ subject)
       └── one that can be read in two ways, or is larger than allowed ──▶ refused, or left alone

Limits hold for every path that an app may take for that of GraphQL (`policy.readings`); answers are kept for the path
as it is written in the policy, and only where the URL has no parameters but those of GraphQL.

Requests and documents are remembered by their bytes, so that one that was seen before costs a look into a table. One
that is new and long is read in a thread: a document at the limits' bound takes the parser tens of milliseconds, for
which every other request would wait. There the interpreter changes over to the loop every few milliseconds.

Who names an operation is the client. That an operation is called by a name that the policy lists as PUBLIC says nothing
about the fields in it. So the answer to a GET that carries credentials is never shared: a page on another site can make
a browser send one, cookies included, and then ask for the answer itself (web cache deception). A POST with JSON cannot
be sent so without the app's consent (CORS), so that its document is the client's own.

It is imported where `cache.graphql` is on.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.graphql import GraphqlPolicy, QueryLimits
from nova_sidecar.graphql.classes import Classes, Use
from nova_sidecar.graphql.document import Document, Operation, QueryError, read, read_all
from nova_sidecar.graphql.request import Query, foreign, of_body, of_url, persisted_as, variables_of
from nova_sidecar.graphql.result import result
from nova_sidecar.pipeline.asking import Plan
from nova_sidecar.pipeline.cache_desk import CacheDesk, Outcome
from nova_sidecar.pipeline.caching import CacheFilter, counts_of
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.policy.freshness import Terms
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.readings import PathMatcher
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject
from nova_sidecar.policy.s3fifo import S3Fifo
from nova_sidecar.wire import storing
from nova_sidecar.wire.directives import directives
from nova_sidecar.wire.fields import UNTIL_CLOSE
from nova_sidecar.wire.identity import UNCOMPARABLE, values, vary
from nova_sidecar.wire.keeping import Credentials, credentials
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.stats import PortStats
    from nova_sidecar.wire.request import RequestHead

DOCUMENTS: Final = 4 * 1024 * 1024
"""Room for documents that were read, in characters of their text times `_WEIGHT`."""
_WEIGHT: Final = 8
"""How much larger a document is than its text, roughly, once it is read."""
PERSISTED_BYTES: Final = 4 * 1024 * 1024
"""Room for persisted documents, characters."""

AT_ONCE: Final = 256
"""Characters of new documents that a request may have read on the loop."""
MOST_APART: Final = 64
"""Requests whose documents wait to be read at once; further ones are refused."""

STAGE: Final = "cache"
KINDS: Final = ("public", "user_data", "search", "no_cache")
_RESPONSE_JSON: Final = b"application/graphql-response+json"


class GraphqlPlan(Plan):
    """See `Plan`. `seconds`: how long the answer is used; `own` where it is one subject's."""

    __slots__ = ("_own", "_seconds")

    def __init__(
        self, resource: bytes, target: bytes, counts: dict[Outcome, int], *, shadow: bool, seconds: float, own: bool
    ) -> None:
        super().__init__(resource, target, Credentials.NONE, counts, shadow=shadow)
        self._seconds = seconds
        self._own = own

    def storable(
        self, head: ResponseHead, allowed: storing.Allowances, delay: float, wall: float
    ) -> storing.Storable | None:
        """The policy says how long, where the response does not ask for less; it may forbid it altogether."""
        forward = head.forward
        if head.status != 200 or head.length == UNTIL_CLOSE or head.length > allowed.largest:
            return None
        said = directives(forward)
        if b"no-store" in said or b"no-cache" in said or (b"private" in said and not self._own):
            return None
        if storing.never(forward):
            return None
        names = vary(forward)
        if b"*" in names or not UNCOMPARABLE.isdisjoint(names):
            return None
        seconds = min(self._seconds, float(said.get(b"s-maxage", said.get(b"max-age", 1 << 30))))
        if seconds <= 0:
            return None
        terms = Terms(seconds, 0.0, allowed.if_error, always_ask=False)
        return storing.Storable(storing.kept_head(forward), 0.0, terms, names, b"", b"")

    def accepts(self, body: bytes) -> bool:
        """An answer with data and without errors."""
        try:
            found = result(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return found.errors is None and bytes(found.data).strip() != b"null"


class Read:
    """A request that was read: its queries, one for each of a batch, or why it could not be."""

    __slots__ = ("queries", "single", "why")

    def __init__(self, queries: list[Query], why: str, *, single: bool) -> None:
        self.queries = queries
        self.why = why
        self.single = single
        """Whether it is one operation, and nothing else in it may change the answer."""


class GraphqlDoor:
    """One per port and configuration."""

    __slots__ = (
        "_classes", "_counts", "_desk", "_documents", "_enforced", "_just_read", "_limits", "_path", "_paths",
        "_persisted", "_policy", "_reads", "_shadow", "_shadow_rejected",
    )  # fmt: skip

    def __init__(self, policy: GraphqlPolicy, desk: CacheDesk, stats: "PortStats", *, shadow: bool) -> None:
        self._policy = policy
        self._limits: QueryLimits = policy.limits
        self._desk = desk
        self._path = policy.path.rstrip("/") or "/"
        self._paths = PathMatcher((policy.path,))
        self._shadow = shadow or policy.mode == "Shadow"
        self._enforced = policy.limits.mode == "Enforce" and not self._shadow
        self._classes = Classes(policy)
        self._counts = {kind: counts_of(stats, kind) for kind in KINDS}
        self._shadow_rejected = stats.shadow_rejected
        self._reads: Memo[bytes, Read] = Memo()
        self._documents: S3Fifo[str, Document | str] = S3Fifo(DOCUMENTS)
        self._just_read: dict[str, Document | str] = {}
        """Those of the request that is being decided about, though there may be no room for them."""
        limit = min(PERSISTED_BYTES, policy.persisted * 4096)
        if desk.persisted is None:
            desk.persisted = S3Fifo(limit)
        else:
            desk.persisted.configure(limit)
        self._persisted = desk.persisted

    def is_for(self, head: "RequestHead") -> bool:
        """Whether a request is one of GraphQL."""
        return head.method in (b"GET", b"POST") and self._paths.matches(head.path)

    def on_request(self, exchange: ManagedExchange, cache: CacheFilter, now: float) -> Reject | Queued | None:
        """See `CacheFilter`."""
        head = exchange.head
        exchange.trace += storing.conditions(head)
        if head.upgrade:
            return None
        if head.method == b"GET" and not head.length:
            return self._judge(exchange, cache, self._read(head, b""), now)

        def then(content: bytes | None) -> None:
            """The content is there, or is too large."""
            at = self._desk.clock()
            if content is None:
                found = Read([], f"the request is larger than {self._policy.max_request_bytes} bytes", single=True)
            else:
                found = self._read(head, content)
            if self._judge(exchange, cache, found, at) is None:
                exchange.go_on(STAGE, at)

        exchange.read_body(self._policy.max_request_bytes, then)
        return QUEUED

    def _judge(self, exchange: ManagedExchange, cache: CacheFilter, found: Read, now: float) -> Queued | None:
        """Decide about it, as soon as its documents are read."""
        texts = self._unread(found)
        if sum(map(len, texts)) <= AT_ONCE:
            return self._decide(exchange, cache, found, now)
        if self._desk.apart >= MOST_APART:
            if self._enforced:
                exchange.refuse(Reject(Reason.SIDECAR_OVERLOADED, OVERLOAD_RETRY_AFTER))
                return QUEUED
            cache.bypass(exchange, b"fwd=bypass", self._counts["no_cache"])
            return None
        exchange.hold(now)
        reading = self._desk.do_apart(partial(read_all, texts, self._limits.tokens))
        reading.add_done_callback(partial(self._was_read, exchange, cache, found, texts))
        return QUEUED

    def _was_read(
        self, exchange: ManagedExchange, cache: CacheFilter, found: Read, texts: list[str],
        reading: "asyncio.Future[list[Document | str]]",
    ) -> None:  # fmt: skip
        if reading.cancelled():  # the policy is off
            if exchange.waits:
                exchange.go_on(STAGE, self._desk.clock())
            return
        documents = dict(zip(texts, reading.result(), strict=True))
        for text, document in documents.items():
            self._keep_document(text, document)
        if not exchange.waits:
            return
        self._just_read, now = documents, self._desk.clock()
        answer = self._decide(exchange, cache, found, now)
        self._just_read = {}
        if answer is None:
            exchange.go_on(STAGE, now)

    def _unread(self, found: Read) -> list[str]:
        """The documents of a request that are to be read first; none where it is refused without a look at them."""
        if found.why or len(found.queries) > self._limits.batch:
            return []
        texts = dict.fromkeys(query.text or self._persisted.get(query.hash) or "" for query in found.queries)
        return [text for text in texts if text and self._documents.get(text) is None]

    def _decide(self, exchange: ManagedExchange, cache: CacheFilter, found: Read, now: float) -> Queued | None:
        why = found.why or self._excess(found)
        if why:
            if self._enforced:
                exchange.refuse(Reject(Reason.QUERY_REFUSED), why)
                return QUEUED
            if self._limits.mode != "Off":
                self._shadow_rejected[Reason.QUERY_REFUSED] += 1
            cache.bypass(exchange, b"fwd=bypass", self._counts["no_cache"])
            return None
        exact = found.single and (exchange.head.path.rstrip("/") or "/") == self._path
        plan = self._plan(exchange, cache, found.queries[0]) if exact else None
        if plan is None:
            cache.bypass(exchange, b"fwd=bypass", self._counts["no_cache"])
            return None
        return cache.serve(exchange, plan, now)

    # --- reading

    def _read(self, head: "RequestHead", content: bytes) -> Read:
        url_query = head.forward.split(b" ", 2)[1].partition(b"?")[2]
        kind, coding = b",".join(values(head, b"content-type")), b",".join(values(head, b"content-encoding"))
        key = b"\n".join((head.method, url_query, kind, coding, content))
        found = self._reads.get(key)
        if found is None:
            found = self._read_anew(head.method, url_query, kind, coding, content)
            self._reads.offer(key, found)
        return found

    def _read_anew(self, method: bytes, url_query: bytes, kind: bytes, coding: bytes, content: bytes) -> Read:
        try:
            asked = of_url(url_query) if method == b"GET" and not content else of_body(content, kind, coding, url_query)
        except QueryError as error:
            return Read([], str(error), single=True)
        if isinstance(asked, list):
            return Read(asked, "", single=False)
        return Read([asked], "", single=not foreign(url_query))

    def _document(self, query: Query) -> Document | None:
        """The document that is meant; None where only its hash came, and nobody has shown it here. Raises
        QueryError."""
        text = query.text
        if query.hash:
            if not text:
                known = self._persisted.get(query.hash)
                if known is None:
                    return None
                text = known
            elif not persisted_as(query):
                raise QueryError("the persisted query's hash is not the document's")
        found = self._just_read.get(text) or self._documents.get(text)
        if found is None:
            try:
                found = read(text, self._limits.tokens)
            except QueryError as error:
                found = str(error)
            self._keep_document(text, found)
        if isinstance(found, str):
            raise QueryError(found)
        return found

    def _keep_document(self, text: str, document: Document | str) -> None:
        self._documents.put(text, document, len(text) * _WEIGHT + 512)

    # --- limits

    def _excess(self, found: Read) -> str:
        """What a request has too much of, or cannot be told for; "" where all is well. What is well is learned."""
        limits = self._limits
        if len(found.queries) > limits.batch:
            return f"the request has more than {limits.batch} operations"
        for query in found.queries:
            try:
                document = self._document(query)
                if document is None:
                    continue
                operation = document.operation(query.operation)
                measured = [operation] if operation is not None else list(document.operations.values())
                for each in measured:
                    why = _beyond(each, query, limits)
                    if why:
                        return why
            except QueryError as error:
                return str(error)
            if query.hash and query.text and self._policy.persisted:
                self._persisted.put(query.hash, query.text, max(4096, len(query.text)))
        return ""

    # --- plans

    def _plan(self, exchange: ManagedExchange, cache: CacheFilter, query: Query) -> Plan | None:
        document = self._document(query)
        operation = document.operation(query.operation) if document is not None else None
        if document is None or operation is None or query.extensions:
            return None
        use = self._classes.of(operation)
        own = use.kind == "USER_DATA"
        if not self._may_keep(exchange, cache, use):
            return None
        head = exchange.head
        accepts = b",".join(values(head, b"accept"))
        parts = (
            cache.port,
            storing.place(head, exchange.facts.tenant),
            self._path.encode(),
            use.kind.encode(),
            exchange.facts.subject if own else b"",
            b"response+json" if _RESPONSE_JSON in accepts.lower() else b"json",
            document.digest.hex().encode(),
            operation.name.encode(),
            variables_of(query, operation.variables),
            *(b"%b=%b" % (name, b"\0".join(values(head, name))) for name in cache.headers),
        )
        return GraphqlPlan(
            b"\n".join(parts),
            b"graphql:" + operation.name.encode(),
            self._counts[use.kind.lower()],
            shadow=self._shadow,
            seconds=use.seconds,
            own=own,
        )

    def _may_keep(self, exchange: ManagedExchange, cache: CacheFilter, use: Use) -> bool:
        if use.seconds <= 0 or storing.forbids_storing(exchange.head):
            return False
        if use.kind == "USER_DATA":
            return bool(exchange.facts.subject)
        told = credentials(exchange.head.forward) is not Credentials.NONE or cache.told(exchange)
        return not (told and exchange.head.method == b"GET")


class GraphqlFilter(CacheFilter):
    """The cache's filter on a port where GraphQL is looked at."""

    __slots__ = ("_door",)

    def __init__(self, policy: CachePolicy, desk: CacheDesk, stats: "PortStats", token: bytes = b"") -> None:
        super().__init__(policy, desk, stats, token)
        self._door = GraphqlDoor(policy.graphql, desk, stats, shadow=policy.mode == "Shadow")

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """GraphQL by its own rules, all else as ever."""
        managed = cast(ManagedExchange, exchange)  # ports for HTTP/1.1 make no others where a filter is on
        if self._door.is_for(managed.head):
            return self._door.on_request(managed, self, now)
        return super().on_request(exchange, now)


def _beyond(operation: Operation, query: Query, limits: QueryLimits) -> str:
    weight = operation.weight(query.variables)
    numbers: Any = (
        (weight.depth, limits.depth, "levels of fields"),
        (weight.aliases, limits.aliases, "aliases"),
        (weight.fields, limits.fields, "fields"),
        (weight.cost, limits.cost, "as its cost"),
    )
    for number, limit, what in numbers:
        if number > limit:
            return f"the operation has more than {limit} {what}"
    return ""
