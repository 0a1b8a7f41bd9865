"""Somebody is erased: removed for good wherever anything of them was, with records that say so and not who."""

from collections.abc import Callable, Mapping
from typing import Final

from nova_cli.demo.backend.pictures import upload
from nova_cli.demo.backend.sharing import feed, finds, new_word, write
from nova_cli.demo.backend.stage import SOON, Backend, Person, seconds_until
from nova_cli.demo.claim import Verdict

RECORDING: Final = ("auth", "users", "content", "messaging", "notification", "media")
"""Databases whose record of an erasure is looked for; search writes one, too."""
_ROWS: Final = """
SELECT table_name, (xpath('/row/n/text()', query_to_xml(
    format('SELECT count(*) AS n FROM %I.%I AS t WHERE t::text LIKE %L', table_schema, table_name, '%{user}%'),
    false, true, '')))[1]::text
FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = 'public' ORDER BY table_name
"""
"""Rows of each table in which somebody's id stands, wherever in the row."""
_RECORDS: Final = """
SELECT count(*) FROM nova_erasures WHERE reference LIKE '%{reference}' AND finished_at IS NOT NULL AND position(
    '{user}' in nova_erasures::text) = 0
"""
_KEPT: Final = frozenset(("closed_accounts", "closed_users", "departed", "erased"))
"""Tables that know nothing but the id: by them a service refuses what comes too late."""
_EVENTS: Final = "outbox_events"
"""Events that were told stay in the partitions of a few days; they say ids and no person."""
Rows = Mapping[str, Mapping[str, int]]
"""By database and table."""


def erase(backend: Backend) -> Verdict:
    """Somebody who has a profile, a post, a comment, a follower, a conversation and a picture closes the account."""
    carla, ben = backend.person("carla"), backend.person("ben")
    path, word = _live(backend, carla, ben)
    before = _rows(backend, carla)
    closed = backend.ask("DELETE", "auth", "/account", by=carla, body={"password": carla.password})
    backend.forget("carla")
    reference = closed.body.get("reference", "") if closed.status == 200 else "none"
    checks: dict[str, Callable[[], bool]] = {
        "profile": lambda: backend.ask("GET", "users", f"/profiles/{carla.user}", by=ben).status == 404,
        "post": lambda: backend.ask("GET", "content", path, by=ben).status == 404,
        "feed": lambda: word not in feed(backend, ben),
        "search": lambda: not finds(backend, ben, word, "posts"),
        "tables": lambda: not _rows(backend, carla),
        "records": lambda: all(_is_recorded(backend, name, reference, carla) for name in RECORDING),
        "login": lambda: backend.ask("POST", "auth", "/login", body=carla.credentials).status == 401,
    }
    never = [name for name, holds in checks.items() if seconds_until(holds, SOON) is None]
    count = sum(sum(tables.values()) for tables in before.values())
    figures = (
        f"{count} rows of {sum(map(len, before.values()))} tables in {len(before)} databases named her; closed:"
        f" {closed.status}; gone: {', '.join(name for name in checks if name not in (*never, 'records'))};"
        f" on record in {', '.join(RECORDING)}: {'NO' if 'records' in never else 'yes'}"
    )
    if never:
        figures += f"; NOT: {', '.join(never)} {dict(_rows(backend, carla)) or ''}"
    return Verdict(closed.status == 200 and count > 0 and not never, figures)


def _live(backend: Backend, carla: Person, ben: Person) -> tuple[str, str]:
    """Leave something everywhere; the path of a post, and its word."""
    named = {"displayName": f"Carla {new_word()}"}
    seconds_until(lambda: backend.ask("PATCH", "users", "/profiles/me", by=carla, body=named).status == 200)
    backend.ask("PUT", "content", f"/follows/{carla.user}", by=ben)
    written, word = write(backend, carla)
    path = f"/posts/{written.body['postId']}"
    backend.ask("POST", "content", f"{path}/comments", by=carla, body={"text": "first"})
    backend.ask("POST", "messaging", "/conversations", by=carla, body={"members": [ben.user]})
    upload(backend, carla)
    seconds_until(lambda: word in feed(backend, ben) and bool(finds(backend, ben, word, "posts")))
    return path, word


def _rows(backend: Backend, someone: Person) -> Rows:
    """Where somebody's id stands, but for where it may."""
    listed = backend.sql(
        "postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    )
    found = {name: _of_database(backend, name, someone) for name in listed.split()}
    return {name: tables for name, tables in found.items() if tables}


def _of_database(backend: Backend, database: str, someone: Person) -> dict[str, int]:
    counted = [line.split("|") for line in backend.sql(database, _ROWS.format(user=someone.user)).splitlines()]
    named = {name: int(rows) for name, rows in counted if int(rows)}
    return {name: rows for name, rows in named.items() if name not in _KEPT and not name.startswith(_EVENTS)}


def _is_recorded(backend: Backend, database: str, reference: str, someone: Person) -> bool:
    return int(backend.sql(database, _RECORDS.format(reference=reference, user=someone.user))) == 1
