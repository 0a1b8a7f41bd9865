"""A database for one test, and the `nova-data` command on it."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from tests.loopback.support.nursery import run
from tests.loopback.support.postgresserver import Server

T = TypeVar("T")
_numbers: Final = itertools.count()


class Database:
    """A database of a server, empty or a copy of another one; `drop` ends whoever is still connected."""

    def __init__(self, server: Server, like: "Database | None" = None) -> None:
        self._server = server
        self._name = f"test_{os.getpid()}_{next(_numbers)}"
        server.sql(f"CREATE DATABASE {self._name}" + (f" TEMPLATE {like._name}" if like else ""))

    def copy(self) -> "Database":
        """Another one like this."""
        return Database(self._server, self)

    @property
    def url(self) -> str:
        """As drivers take it."""
        return f"{self._server.url.rpartition('/')[0]}/{self._name}"

    def drop(self) -> None:
        """Remove it."""
        self._server.sql(f"DROP DATABASE {self._name} WITH (FORCE)")

    def do(self, work: Callable[["asyncpg.Connection[Any]"], Awaitable[T]]) -> T:
        """Do something on a connection of its own."""

        async def main() -> T:
            connection = await asyncpg.connect(self.url)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(main())

    def sql(self, text: str) -> None:
        """Run statements."""
        self.do(lambda connection: connection.execute(text))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return [tuple(row) for row in self.do(lambda connection: connection.fetch(query))]

    def value(self, query: str) -> Any:
        """The first column of the first row."""
        return self.do(lambda connection: connection.fetchval(query))

    def command(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """`nova-data` with this database in its environment; it has ended within 60 s."""
        if not options:
            return run("data", *map(str, words), variables=self.environment, timeout=60)
        return subprocess.run(
            self.words(*words), env=self.environment, capture_output=True, text=True, timeout=60, check=False, **options
        )

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """The same, under way."""
        return subprocess.Popen(
            self.words(*words), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def words(*words: object) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "nova_data.main", *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        """Of the command."""
        return {**os.environ, "DATABASE_URL": self.url}
