"""The schema, and its text as it is published."""

from typing import Any, Final

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxTokensLimiter

from nova_services.graphql.reading import Query
from nova_services.graphql.writing import Mutation

TOKENS: Final = 4000
"""Of a document, at most. What clients may ask for is the sidecar's to bound; this keeps the parser from what nobody
has looked at."""


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Nothing: `errors.told` logs those that nobody meant, in the form of all lines."""


SCHEMA: Final = _Schema(query=Query, mutation=Mutation, extensions=[lambda: MaxTokensLimiter(max_token_count=TOKENS)])


def text() -> str:
    """In the schema language, for clients."""
    return SCHEMA.as_str() + "\n"
