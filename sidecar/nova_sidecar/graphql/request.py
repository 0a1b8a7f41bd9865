"""A GraphQL request over HTTP (graphql.org/learn/serving-over-http): what it asks for, read so that no app reads it
differently.

What two readers could take for two things is refused here, since an answer would be kept under the wrong question, and
a limit be checked on the wrong document: a member or a parameter that comes twice, parameters in the URL of a POST,
another encoding than UTF-8, a compressed body, numbers that JSON does not have.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl

from nova_sidecar.graphql.document import QueryError

_PARAMETERS: Final = frozenset(("query", "operationName", "variables", "extensions"))
_JSON: Final = frozenset((b"application/json", b"application/graphql-response+json"))
_HASH_LENGTH: Final = 64


class Query:
    """One operation that is asked for."""

    __slots__ = ("extensions", "hash", "operation", "text", "variables")

    def __init__(self, text: str, operation: str, variables: dict[str, Any], digest: str, *, extensions: bool) -> None:
        self.text = text
        """The document; "" where only its hash came."""
        self.operation = operation
        self.variables = variables
        self.hash = digest
        """SHA-256 of the document in hexadecimal digits, as the client has it; "" without one."""
        self.extensions = extensions
        """Whether there are others than the persisted query's, which may change the answer."""

    def __repr__(self) -> str:
        return f"<Query {self.operation} {len(self.text)} characters>"


def of_body(content: bytes, content_type: bytes, encoding: bytes, url_query: bytes) -> list[Query] | Query:
    """What a POST asks for: one, or a batch. Raises QueryError."""
    if encoding and encoding.lower() != b"identity":
        raise QueryError("the request's content is compressed")
    if url_query and _PARAMETERS & {name for name, _ in _pairs(url_query)}:
        raise QueryError("the URL of a POST request has parameters of GraphQL")
    kind, _, parameters = content_type.partition(b";")
    if kind.strip().lower() not in _JSON:
        raise QueryError("the content is not application/json")
    if parameters and parameters.strip().lower().replace(b'"', b"") != b"charset=utf-8":
        raise QueryError("the content is not in UTF-8")
    document = _json(content)
    if isinstance(document, list):
        return [_query(each) for each in document]
    return _query(document)


def of_url(url_query: bytes) -> Query:
    """What a GET asks for. Raises QueryError."""
    found: dict[str, Any] = {}
    for name, value in _pairs(url_query):
        if name in found:
            raise QueryError("a parameter comes twice")
        found[name] = value
    for name in ("variables", "extensions"):
        if name in found:
            found[name] = _json(found[name].encode("utf-8", "surrogateescape")) if found[name] else None
    return _query({name: value for name, value in found.items() if name in _PARAMETERS})


def foreign(url_query: bytes) -> bool:
    """Whether a URL has parameters that are none of GraphQL, which an app may look at. Raises QueryError."""
    return any(name not in _PARAMETERS for name, _ in _pairs(url_query))


def variables_of(query: Query, declared: frozenset[str]) -> bytes:
    """Those that the operation declares, in one form: an app looks at no others."""
    used = {name: value for name, value in query.variables.items() if name in declared}
    return json.dumps(used, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def persisted_as(query: Query) -> bool:
    """Whether the document is the one that its hash stands for."""
    return sha256(query.text.encode("utf-8", "surrogatepass")).hexdigest() == query.hash


def _pairs(url_query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            url_query.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=64
        )
    except ValueError as error:
        raise QueryError("the parameters of the URL cannot be read") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise QueryError("the request is no JSON that can be read in one way only") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member comes twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _query(document: object) -> Query:
    if not isinstance(document, dict):
        raise QueryError("the request is no JSON object")
    text, operation = document.get("query") or "", document.get("operationName") or ""
    variables, extensions = document.get("variables") or {}, document.get("extensions") or {}
    if not (isinstance(text, str) and isinstance(operation, str)):
        raise QueryError("query and operationName are strings")
    if not (isinstance(variables, dict) and isinstance(extensions, dict)):
        raise QueryError("variables and extensions are objects")
    digest = _hash(extensions.get("persistedQuery"))
    if not text and not digest:
        raise QueryError("there is no query")
    return Query(text, operation, variables, digest, extensions=bool(extensions.keys() - {"persistedQuery"}))


def _hash(persisted: object) -> str:
    if persisted is None:
        return ""
    found = persisted.get("sha256Hash") if isinstance(persisted, Mapping) else None
    if not isinstance(found, str) or len(found) != _HASH_LENGTH or not set(found) <= set("0123456789abcdef"):
        raise QueryError("the persisted query has no SHA-256 in lower case")
    return found
