"""Databases of their own on the shared PostgreSQL: what a test changes in a schema concerns no other test."""

from collections.abc import Iterator

import pytest

from tests.loopback.support.postgresserver import Server

from .database import Database


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """An empty database for this test alone."""
    made = Database(postgres)
    yield made
    made.drop()
