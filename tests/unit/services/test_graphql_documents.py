"""Documents by their hash."""

from hashlib import sha256

import pytest

from nova_services.errors import InvalidError
from nova_services.graphql.documents import LONGEST, Documents


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_a_document_that_came_with_its_hash_is_known_by_it() -> None:
    documents = Documents()
    assert documents.resolve("", digest("{ me { id } }")) is None
    assert documents.resolve("{ me { id } }", digest("{ me { id } }")) == "{ me { id } }"
    assert documents.resolve("", digest("{ me { id } }")) == "{ me { id } }"


def test_one_without_a_hash_is_run_and_not_kept() -> None:
    documents = Documents()
    assert documents.resolve("{ me { id } }", "") == "{ me { id } }"
    assert len(documents) == 0


def test_a_hash_of_something_else_is_refused() -> None:
    documents = Documents()
    with pytest.raises(InvalidError, match="sha256Hash"):
        documents.resolve("{ me { id } }", digest("{ feed { next } }"))
    assert len(documents) == 0


def test_the_one_that_was_not_asked_for_the_longest_goes_first() -> None:
    documents = Documents(2)
    for text in ("a", "b"):
        documents.resolve(text, digest(text))
    documents.resolve("", digest("a"))
    documents.resolve("c", digest("c"))
    assert [documents.resolve("", digest(text)) for text in "abc"] == ["a", None, "c"]
    assert repr(documents) == "<Documents 2 of 2>"


def test_a_very_long_one_is_run_and_not_kept() -> None:
    documents, text = Documents(), " " * (LONGEST + 1)
    assert documents.resolve(text, digest(text)) == text
    assert len(documents) == 0
