"""A check of schemathesis for GraphQL, which is answered 200 whatever came of it: no error is one that nobody meant."""

from typing import Any

import schemathesis

EXPECTED = frozenset(
    ("BAD_USER_INPUT", "UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "CONFLICT", "PERSISTED_QUERY_NOT_FOUND")
)
"""Of services that are all there."""


@schemathesis.check
def every_error_is_expected(_context: Any, response: Any, _case: Any) -> None:
    """A document that fits the schema is run, and what it meets is said by a code."""
    assert response.status_code == 200, response.text
    codes = {error["extensions"]["code"] for error in response.json().get("errors", ())}
    assert codes <= EXPECTED, response.text
