"""A large table that is given soft delete while others write to it, and while somebody keeps locks on it."""

import asyncio
import time
from dataclasses import dataclass, field
from random import Random

import asyncpg

from nova_data.outbox.installing import install as install_outbox
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete import manage
from nova_data.schema.steps import Stepper

from .database import Database
from .social import ADA

HELD = 0.6
"""Seconds for which the reader keeps its lock, again and again."""

SLACK = 0.2
"""Seconds in which a change that has its lock is done with it."""


@dataclass
class Load:
    """What was measured, in seconds."""

    rows: int
    writes: list[float] = field(default_factory=list)
    """Each write's."""

    before: list[float] = field(default_factory=list)
    """The same before anything was changed."""

    steps: int = 0
    seconds: float = 0.0
    waits: int = 0
    """How often a lock was not had."""

    refused: int = 0
    """Writes that waited for a lock for longer than the lock timeout and `SLACK`. PostgreSQL counts that itself, so it
    does not matter how busy the machine is otherwise."""


def fill(database: Database, rows: int) -> None:
    """A table posts with so many rows, of one user, and an outbox."""
    database.sql(f"CREATE TABLE users (id uuid PRIMARY KEY); INSERT INTO users VALUES ('{ADA}')")
    database.sql(
        "CREATE TABLE posts (id bigserial PRIMARY KEY, user_id uuid REFERENCES users ON DELETE CASCADE,"
        " created_at timestamptz NOT NULL DEFAULT now(), body text);"
        f"INSERT INTO posts (user_id, body) SELECT '{ADA}', repeat('x', 40) FROM generate_series(1, {rows})"
    )
    database.do(lambda connection: install_outbox(connection, lock_timeout=1, ahead=1))


def change_under_load(database: Database, *, lock_timeout: float, quiet: float = 0.0) -> Load:
    """Install soft delete while two writers and a reader are at work; `quiet` seconds of writes before."""
    return asyncio.run(_change(database.url, lock_timeout, quiet))


async def _change(url: str, lock_timeout: float, quiet: float) -> Load:
    longest = {"lock_timeout": f"{round((lock_timeout + SLACK) * 1000)}ms"}
    pool = await asyncpg.create_pool(url, min_size=4, max_size=4, server_settings=longest)
    changing = await asyncpg.connect(url)
    load = Load(rows=int(await changing.fetchval("SELECT count(*) FROM posts")))
    enough = asyncio.Event()
    times = load.before if quiet else load.writes

    async def write(seed: int) -> None:
        random = Random(seed)
        while not enough.is_set():
            row = random.randint(1, load.rows)
            for sql, values in (
                ("UPDATE posts SET body = 'y' WHERE id = $1", (row,)),
                ("INSERT INTO posts (user_id, body) VALUES ($1, 'z')", (ADA,)),
            ):
                started = time.monotonic()
                try:
                    await pool.execute(sql, *values)
                except asyncpg.LockNotAvailableError:
                    load.refused += 1
                times.append(time.monotonic() - started)

    async def report() -> None:
        while not enough.is_set():
            async with pool.acquire() as reader, reader.transaction():
                await reader.fetchval("SELECT count(*) FROM posts WHERE id < 1000")
                await asyncio.sleep(HELD)
            await asyncio.sleep(HELD / 2)

    def hear(line: str) -> None:
        load.waits += "no lock" in line

    tasks = [asyncio.create_task(one) for one in (write(1), write(2), report())]
    await asyncio.sleep(quiet)
    times, started = load.writes, time.monotonic()
    wanted = await manage.wish(changing, "Convert", events=True)
    stepper = Stepper(changing, Patience(lock_timeout=lock_timeout, timeout=120), random=Random(1), say=hear)
    load.steps = await manage.install(changing, ("posts",), wanted, stepper)
    load.seconds = time.monotonic() - started
    enough.set()
    await asyncio.gather(*tasks)
    await changing.close()
    await pool.close()
    return load
