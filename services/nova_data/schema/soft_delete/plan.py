"""From what tables look like to soft delete, and back: steps that let traffic pass. Pure.

The order matters, for at no moment may a deletion be lost or leave rows behind that refer to nothing:

* A trigger that drops a DELETE breaks a cascade that runs into it: the row's parent goes, and the row stays. So a table
  gets its trigger when no CASCADE can reach it any more.
* Two things stop a CASCADE: another foreign key in its place, or the parent's own trigger, since a parent whose DELETE
  is dropped starts no cascade. The second costs nothing, so tables get their triggers parents first, and only foreign
  keys from tables outside of the list, or within a circle, are replaced before.
* The rest of them are replaced afterwards, when no application notices.

The way back is the same in reverse. What is there already is left alone, so a run that ended half way is gone on with
by the next one, and a run when all is there is the check that all is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nova_data.errors import SchemaError
from nova_data.schema.soft_delete import objects
from nova_data.schema.soft_delete.facts import MARK, Facts, ForeignKey, Table
from nova_data.schema.soft_delete.objects import Mode
from nova_data.schema.statements import quoted
from nova_data.schema.steps import Step

_TYPES = {"deleted_at": "timestamp with time zone", "deleted_by": "uuid"}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How it should be. `invoker`: the server knows views with the rights of their caller (PostgreSQL 15)."""

    mode: Mode = "Convert"
    events: bool = True
    invoker: bool = True


def install(facts: Facts, wish: Wish) -> tuple[Step, ...]:
    """What is missing, in order; empty when all is there. Raises SchemaError for what is in the way."""
    if wish.events and not facts.outbox:
        raise SchemaError(
            "there is no outbox to write events into: run `nova-data outbox install` first, or say --no-events"
        )
    tables = parents_first(facts)
    before, after = _keys(facts, tables)
    return (
        *(step for table in tables for step in _columns(table)),
        *(step for key in before for step in _replace(facts, key, "RESTRICT")),
        *_functions(facts, wish),
        *(step for table in tables for step in _triggers(table, wish)),
        *(step for key in after for step in _replace(facts, key, "RESTRICT")),
        *(step for table in tables for step in _view(table, wish)),
    )


def undo(facts: Facts, *, drop_columns: bool) -> tuple[Step, ...]:
    """The way back. The columns stay unless they are to be dropped: in them stands what was deleted."""
    tables = parents_first(facts)
    before, after = _keys(facts, tables)
    names = {table.sql: table for table in tables}
    return (
        *(_drop_view(table) for table in tables if table.view and table.view_is_ours),
        *(step for key in after for step in _replace(facts, key, "CASCADE")),
        *(step for table in reversed(tables) for step in _drop_triggers(table)),
        *(step for key in before for step in _replace(facts, key, "CASCADE")),
        *(step for table in names.values() for step in _drop_rest(table, drop_columns=drop_columns)),
        *_drop_functions(tables),
    )


def parents_first(facts: Facts) -> tuple[Table, ...]:
    """The tables in an order in which each comes after those that it refers to; circles as they come."""
    left = {table.sql: table for table in facts.tables}
    placed: list[Table] = []
    while left:
        ready = [name for name in left if not _parents(facts, name) & (left.keys() - {name})]
        placed += [left.pop(name) for name in ready or list(left)[:1]]
    return tuple(placed)


def _parents(facts: Facts, child: str) -> set[str]:
    return {key.parent for key in facts.foreign_keys if key.child == child and (key.cascades or key.ours)}


def _keys(facts: Facts, tables: tuple[Table, ...]) -> tuple[list[ForeignKey], list[ForeignKey]]:
    """Foreign keys that must be replaced before the triggers are there, and those that may be afterwards."""
    place = {table.sql: number for number, table in enumerate(tables)}
    before: list[ForeignKey] = []
    after: list[ForeignKey] = []
    for key in facts.foreign_keys:
        parent, child = place.get(key.parent), place.get(key.child)
        early = child is not None and (parent is None or parent > child)
        (before if early else after).append(key)
    return before, after


def _columns(table: Table) -> Iterator[Step]:
    for column, kind in _TYPES.items():
        if table.columns.get(column, kind) != kind:
            raise SchemaError(
                f"table {table.name}, column {column}: expected {kind}, it is {table.columns[column]}; rename it first"
            )
    if not _TYPES.keys() <= table.columns.keys():
        yield Step(what=f"{table.name}: columns", sql=(objects.columns_sql(table),))
    if not table.indexes.get(objects.deleted_index(table)):
        yield _index(table, objects.deleted_index(table), objects.deleted_index_sql(table))
    check = objects.check_name(table)
    if not table.checks.get(check):
        if "deleted_at" in table.columns:
            yield Step(what=f"{table.name}: rows deleted by nobody", sql=(objects.named_sql(table),), kind="batch")
        if check not in table.checks:
            yield Step(what=f"{table.name}: check", sql=(objects.check_sql(table),))
            if "deleted_at" in table.columns:  # what was written in between
                yield Step(what=f"{table.name}: rows deleted by nobody", sql=(objects.named_sql(table),), kind="batch")
        validate = f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {quoted(check)}"
        yield Step(what=f"{table.name}: check of all rows", sql=(validate,), kind="long")
    if not table.indexes.get(objects.active_index(table)):
        yield _index(table, objects.active_index(table), objects.active_index_sql(table))


def _index(table: Table, name: str, sql: str) -> Step:
    return Step(what=f"{table.name}: index {name}", sql=(sql,), kind="index", table=table.sql, index=name)


def _functions(facts: Facts, wish: Wish) -> Iterator[Step]:
    for table in facts.tables:
        wanted = {
            objects.delete_function(table): objects.delete_body(table, wish.mode),
            objects.TRUNCATE_FUNCTION: objects.truncate_body(),
        }
        if wish.events:
            wanted[objects.EVENT_FUNCTION] = objects.event_body(facts.outbox)
        stale = [name for name, body in wanted.items() if table.functions.get(name) != body]
        if stale:
            sql = tuple(objects.function_sql(table.schema, name, wanted[name]) for name in stale)
            yield Step(what=f"{table.name}: functions", sql=sql)


def _triggers(table: Table, wish: Wish) -> Iterator[Step]:
    wanted = {
        objects.DELETE_TRIGGER: objects.delete_trigger_sql(table),
        objects.TRUNCATE_TRIGGER: objects.truncate_trigger_sql(table),
    }
    if wish.events:
        wanted[objects.EVENT_TRIGGER] = objects.event_trigger_sql(table)
    sql = [statement for name, made in wanted.items() if not table.triggers.get(name) for statement in made]
    if not wish.events and objects.EVENT_TRIGGER in table.triggers:
        sql.append(f"DROP TRIGGER {objects.EVENT_TRIGGER} ON {table.sql}")
    if sql:
        yield Step(what=f"{table.name}: triggers", sql=tuple(sql))


def _view(table: Table, wish: Wish) -> Iterator[Step]:
    if table.view and not table.view_is_ours:
        raise SchemaError(
            f"table {table.name}: {_plain(objects.view(table))} is there already and is not Nova's; rename it first"
        )
    columns = (*table.columns, *(name for name in _TYPES if name not in table.columns))
    sql = [] if table.view == columns else [*_renamed(table, columns), objects.view_sql(table, invoker=wish.invoker)]
    sql += [] if table.view_is_marked else [objects.view_mark_sql(table)]
    sql += [f"GRANT {privilege} ON {objects.view(table)} TO {who}" for who, privilege in table.grants]
    if sql:
        yield Step(what=f"{table.name}: view", sql=tuple(sql))


def _renamed(table: Table, columns: tuple[str, ...]) -> Iterator[str]:
    """A view keeps the names that columns had when it was made, and cannot be replaced by one with others."""
    for old, new in zip(table.view or (), columns, strict=False):
        if old != new:
            yield f"ALTER VIEW {objects.view(table)} RENAME COLUMN {quoted(old)} TO {quoted(new)}"


def _replace(facts: Facts, key: ForeignKey, action: str) -> Iterator[Step]:
    """A foreign key with another action: beside the old one, looked at without a strong lock, then in its place."""
    if not (key.cascades if action == "RESTRICT" else key.ours):
        return
    following = {(one.child, one.name): one for one in facts.foreign_keys}.get((key.child, objects.next_name(key)))
    what = f"{_plain(key.child)} → {_plain(key.parent)}: ON DELETE {action}"
    if following is None:
        yield Step(what=what, sql=(objects.next_key_sql(key, action),))
    if key.valid and not (following is not None and following.valid):
        validate = f"ALTER TABLE {key.child} VALIDATE CONSTRAINT {quoted(objects.next_name(key))}"
        yield Step(what=f"{what}, check of all rows", sql=(validate,), kind="long")
    mark = MARK if action == "RESTRICT" else None
    yield Step(what=f"{what}, in its place", sql=objects.swap_key_sql(key, mark))


def _drop_view(table: Table) -> Step:
    return Step(what=f"{table.name}: view dropped", sql=(f"DROP VIEW IF EXISTS {objects.view(table)}",))


def _drop_triggers(table: Table) -> Iterator[Step]:
    ours = (objects.DELETE_TRIGGER, objects.TRUNCATE_TRIGGER, objects.EVENT_TRIGGER)
    there = tuple(f"DROP TRIGGER IF EXISTS {name} ON {table.sql}" for name in ours if name in table.triggers)
    if there:
        yield Step(what=f"{table.name}: triggers dropped", sql=there)


def _drop_rest(table: Table, *, drop_columns: bool) -> Iterator[Step]:
    if objects.check_name(table) in table.checks:
        sql = f"ALTER TABLE {table.sql} DROP CONSTRAINT {quoted(objects.check_name(table))}"
        yield Step(what=f"{table.name}: check dropped", sql=(sql,))
    for name in (objects.active_index(table), objects.deleted_index(table)):
        if name in table.indexes:
            drop = f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(table.schema, name)}"
            yield Step(what=f"{table.name}: index {name} dropped", sql=(drop,), kind="drop")
    if drop_columns and _TYPES.keys() & table.columns.keys():
        columns = f"ALTER TABLE {table.sql} DROP COLUMN IF EXISTS deleted_at, DROP COLUMN IF EXISTS deleted_by"
        yield Step(what=f"{table.name}: columns dropped", sql=(columns,))


def _drop_functions(tables: tuple[Table, ...]) -> Iterator[Step]:
    """Of these tables; the shared ones stay for others, and call nothing by themselves."""
    for table in tables:
        if objects.delete_function(table) in table.functions:
            name = quoted(table.schema, objects.delete_function(table))
            yield Step(what=f"{table.name}: function dropped", sql=(f"DROP FUNCTION IF EXISTS {name}()",))


def _plain(name: str) -> str:
    """For people."""
    return name.replace('"', "")
