"""Somebody is erased: removed for good wherever anything of them was, with a record that says so and not who."""

from collections.abc import Callable
from typing import Final

from nova_cli.demo.backend import sharing
from nova_cli.demo.backend.sharing import feed, write
from nova_cli.demo.backend.stage import SOON, Backend, Person, seconds_until
from nova_cli.demo.claim import Verdict

_ROWS: Final = """
SELECT table_name, (xpath('/row/n/text()', query_to_xml(
    format('SELECT count(*) AS n FROM %I.%I AS t WHERE t::text LIKE %L', table_schema, table_name, '%{user}%'),
    false, true, '')))[1]::text
FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = 'public' ORDER BY table_name
"""
"""Rows of each table in which somebody's id stands, wherever in the row."""
_RECORDS: Final = "SELECT count(*) FROM nova_erasures WHERE finished_at > now() - interval '10 minutes'"
_KEPT: Final = ("outbox_events", "erased", "tombstone", "gone", "closed")
"""Words in the names of tables that may know the id: events that were told, kept for days, and lists of who is gone, by
which a service refuses what comes too late."""


def erase(backend: Backend) -> Verdict:
    """Somebody who has a profile, posts, a comment, a follower and a conversation closes the account."""
    carla, ben = backend.person("carla"), backend.person("ben")
    path, word = _live(backend, carla, ben)
    databases = _databases(backend)
    before = {name: rows for name, rows in ((one, _rows(backend, one, carla)) for one in databases) if rows}
    closed = backend.ask("DELETE", "auth", "/account", by=carla, body={"password": carla.password})
    backend.forget("carla")
    checks: dict[str, Callable[[], bool]] = {
        "login": lambda: backend.ask("POST", "auth", "/login", body=carla.credentials).status == 401,
        "profile": lambda: backend.ask("GET", "users", f"/profiles/{carla.user}", by=ben).status == 404,
        "post": lambda: backend.ask("GET", "content", path, by=ben).status == 404,
        "feed": lambda: word not in feed(backend, ben),
        "search": lambda: not sharing.finds(backend, ben, word, "posts"),
        "tables": lambda: not any(_rows(backend, one, carla) for one in databases),
        "record": lambda: int(backend.sql("content", _RECORDS)) > 0,
    }
    took = {name: seconds_until(holds, SOON) for name, holds in checks.items()}
    never = [name for name, seconds in took.items() if seconds is None]
    left = {one: _rows(backend, one, carla) for one in databases} if "tables" in never else {}
    count = sum(sum(rows.values()) for rows in before.values())
    figures = (
        f"{count} rows in {len(before)} databases named her; account closed: {closed.status}; no more"
        f" {', '.join(name for name in took if name not in (*never, 'record'))}; the erasure is on record:"
        f" {'NO' if 'record' in never else 'yes'}"
    )
    if never:
        figures += f"; STILL THERE: {', '.join(never)} {left or ''}"
    return Verdict(closed.status == 204 and count > 0 and not never, figures)


def _live(backend: Backend, carla: Person, ben: Person) -> tuple[str, str]:
    """Leave something everywhere; the path of a post, and its word."""
    named = f"Carla {sharing.new_word()}"
    backend.eventually(
        lambda: backend.ask("PATCH", "users", "/profiles/me", by=carla, body={"displayName": named}).status == 200,
        within=SOON,
    )
    backend.ask("PUT", "content", f"/follows/{carla.user}", by=ben)
    written, word = write(backend, carla)
    path = f"/posts/{written.body['postId']}"
    backend.ask("POST", "content", f"{path}/comments", by=carla, body={"text": "first"})
    backend.ask("POST", "messaging", "/conversations", by=carla, body={"members": [ben.user]})
    seconds_until(lambda: word in feed(backend, ben) and bool(sharing.finds(backend, ben, word, "posts")))
    return path, word


def _databases(backend: Backend) -> list[str]:
    """Of the services."""
    listed = backend.sql(
        "postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    )
    return listed.split()


def _rows(backend: Backend, database: str, someone: Person) -> dict[str, int]:
    """How many rows of which tables have somebody's id, without those that may."""
    found = [line.split("|") for line in backend.sql(database, _ROWS.format(user=someone.user)).splitlines()]
    return {name: int(rows) for name, rows in found if int(rows) and not any(word in name for word in _KEPT)}
