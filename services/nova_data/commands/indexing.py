"""What `nova-data indexes` and `nova-data explain` do once they have a connection."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final

import msgspec

from nova_api.database import Index
from nova_api.errors import ConfigError
from nova_api.model import decode_json
from nova_data.commands.changing import patience_of, say
from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, Connection, alone
from nova_data.schema.indexes import build
from nova_data.schema.indexes.explain import explain
from nova_data.schema.indexes.wanted import REFERENCE
from nova_data.schema.migrate import MIGRATORS
from nova_data.schema.statements import quoted
from nova_data.schema.steps import Stepper


async def _apply(given: argparse.Namespace, connection: Connection) -> int:
    async with alone(connection, MIGRATORS, patience_of(given), _random()):
        findings = await build.look(connection, await _wanted(given, connection))
        await _stepper(given, connection).take(build.steps(findings))
    say(f"{len(findings)} indexes are there, {sum(one.state == 'there' for one in findings)} were before")
    return 0


async def _plan(given: argparse.Namespace, connection: Connection) -> int:
    for step in build.steps(await build.look(connection, await _wanted(given, connection))):
        for sql in step.sql:
            print(f"{sql};")
    return 0


async def _verify(given: argparse.Namespace, connection: Connection) -> int:
    findings = await build.look(connection, await _wanted(given, connection))
    for one in findings:
        print(f"{one.state:<9} {one.index.table}: {one.name}")
    broken = await build.repairs(connection)
    for step in broken:
        print(f"invalid   {step.what}")
    return 1 if broken or any(one.state != "there" for one in findings) else 0


async def _repair(given: argparse.Namespace, connection: Connection) -> int:
    async with alone(connection, MIGRATORS, patience_of(given), _random()):
        count = await _stepper(given, connection).take(await build.repairs(connection))
    say(f"{count} broken indexes were mended" if count else "no index is broken")
    return 0


async def _explain(given: argparse.Namespace, connection: Connection) -> int:
    quiet = _quiet if given.json else say
    times = await explain(connection, _stepper(given, connection), given.rows, keep=given.keep, say=quiet)
    if given.json:
        print(msgspec.json.encode(times).decode())
        return 0
    for one in times:
        print(f"{one.what} ({one.rows} rows)\n  before {one.before_ms:9.2f} ms  {one.before_plan}")
        print(f"  after  {one.after_ms:9.2f} ms  {one.after_plan}")
    return 0


async def _wanted(given: argparse.Namespace, connection: Connection) -> tuple[Index, ...]:
    if given.spec is None:
        there = [await _is_there(connection, index.table) for index in REFERENCE]
        return tuple(index for index, is_there in zip(REFERENCE, there, strict=True) if is_there)
    try:
        return decode_json(given.spec.read_bytes(), tuple[Index, ...])
    except OSError as error:
        raise SchemaError(f"--spec {given.spec}: {error.strerror}") from error
    except ConfigError as error:
        raise SchemaError(f"--spec {given.spec}: {error}") from error


async def _is_there(connection: Connection, table: str) -> bool:
    return await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", quoted(table), timeout=ANSWER) is True


def _stepper(given: argparse.Namespace, connection: Connection) -> Stepper:
    return Stepper(connection, patience_of(given), random=_random(), say=say if not vars(given).get("json") else _quiet)


def _quiet(_: str) -> None:
    pass


def _random() -> Random:
    return Random()  # noqa: S311 - jitter, no secret


VERBS: Final[Mapping[str, Callable[[argparse.Namespace, Connection], Awaitable[int]]]] = {
    "apply": _apply,
    "plan": _plan,
    "verify": _verify,
    "repair": _repair,
    "explain": _explain,
}
