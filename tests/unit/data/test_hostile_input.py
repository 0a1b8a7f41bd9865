"""What is written by mistake, or on purpose, is refused with its rule, and tells nothing that is secret."""

from typing import Any

import pytest

from nova_data.database import place
from nova_data.errors import MigrationError, OutboxError
from nova_data.outbox.writer import _content, _headers
from nova_data.schema.files import migration


def test_a_migration_with_a_nul_is_refused_since_the_parser_would_stop_at_it() -> None:
    with pytest.raises(MigrationError, match=r"0001_a\.sql, line 2: expected text without NUL"):
        migration("0001_a.sql", 1, "CREATE TABLE a (i int);\n\0 CREATE TABLE b (i int);")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:12/34secret@db:5432/shop",
        "postgresql://anna:1234#secret@db/shop",
        "postgresql://anna:1234?secret@db/shop",
        "secret",
    ],
)
def test_of_what_is_no_url_and_may_be_a_password_nothing_is_told(url: str) -> None:
    assert place(url) == "an address that is no URL"


@pytest.mark.parametrize("payload", [{"name": "a\0b"}, {"a\0b": 1}, {"name": "\ud800"}])
def test_a_payload_that_postgresql_would_end_the_transaction_for_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(OutboxError, match="payload: expected"):
        _content(payload)


def test_a_payload_that_only_speaks_of_nul_is_taken() -> None:
    assert _content({"name": "\\u0000"}) == ('{"name": "\\\\u0000"}', None)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_header_that_postgresql_would_end_the_transaction_for_is_refused(value: str) -> None:
    with pytest.raises(OutboxError, match=r"headers: source: expected"):
        _headers({"source": value})
