"""What schemathesis is told of services that it asks without a sidecar between them.

Who asks is then said by the header that the sidecar would set for the token. And GraphQL is answered 200 whatever came
of it, so its errors are looked at: none is one that nobody meant.
"""

from typing import Any

import schemathesis

EXPECTED = frozenset(
    ("BAD_USER_INPUT", "UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "CONFLICT", "PERSISTED_QUERY_NOT_FOUND")
)
"""Of services that are all there."""


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """The token is read, and the header with it is set, by the sidecar."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    if "bearer" in schemes:
        schemes["bearer"] = {"type": "apiKey", "in": "header", "name": "x-nova-subject"}


@schemathesis.check
def every_error_is_expected(_context: Any, response: Any, _case: Any) -> None:
    """A document that fits the schema is run, and what it meets is said by a code."""
    assert response.status_code == 200, response.text
    codes = {error["extensions"]["code"] for error in response.json().get("errors", ())}
    assert codes <= EXPECTED, response.text
