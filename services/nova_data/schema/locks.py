"""Which locks a statement takes on tables, and whether traffic waits for it: by PostgreSQL's documentation. Pure.

Sources: the table of conflicts (PostgreSQL 13.3.1) and, for ALTER TABLE, the lock that its page names for each form.
A form that is not named there takes ACCESS EXCLUSIVE, and so it is here.

What runs inside (DO, functions) is not known beforehand. `nova-data migrate --try` looks at what is really taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from nova_data.schema.statements import Statement, spelled

MODES: Final = (
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
"""From the weakest to the strongest."""
_GENTLE: Final = "SHARE UPDATE EXCLUSIVE"
_STRONGEST: Final = "ACCESS EXCLUSIVE"


class Lock(msgspec.Struct, frozen=True, order=True):
    """A lock on a table; `relation` as the statement spells it."""

    relation: str
    mode: str

    @property
    def holds_up(self) -> str:
        """Who waits while it is held: ``reads and writes``, ``writes`` or nobody (empty)."""
        if self.mode == _STRONGEST:
            return "reads and writes"
        return "writes" if MODES.index(self.mode) > MODES.index(_GENTLE) else ""

    def __str__(self) -> str:
        return f"{self.mode} on {self.relation}"


def locks(statement: Statement) -> tuple[Lock, ...] | None:
    """The locks of a statement, each once; None where nobody knows them beforehand."""
    if statement.kind in _OPAQUE:
        return None
    of = _BY_KIND.get(statement.kind)
    return () if of is None else tuple(dict.fromkeys(of(statement.node)))


def holds_up(statement: Statement, own: frozenset[str]) -> bool:
    """Whether traffic may have to wait for it. `own` are tables that nobody else can see yet."""
    found = locks(statement)
    return found is None or any(lock.holds_up and lock.relation not in own for lock in found)


def makes(statement: Statement) -> frozenset[str]:
    """Tables that come into being with it."""
    if statement.kind == "create_stmt":
        return frozenset((spelled(statement.node.relation),))
    if statement.kind == "create_table_as_stmt":
        return frozenset((spelled(statement.node.into.rel),))
    return frozenset()


def needs_no_transaction(statement: Statement) -> bool:
    """Whether PostgreSQL refuses it in a transaction."""
    node, kind = statement.node, statement.kind
    if kind in {"index_stmt", "drop_stmt"}:
        return bool(node.concurrent)
    if kind == "vacuum_stmt":
        return bool(node.is_vacuumcmd)
    if kind == "reindex_stmt":
        return _concurrently(node)
    if kind == "alter_table_stmt":
        return any(
            _enum(command, "subtype") == "AT_DetachPartition" and _detaches_slowly(command)
            for command in _commands(node)
        )
    return kind in {"createdb_stmt", "dropdb_stmt", "alter_system_stmt", "create_table_space_stmt"}


def waits_harmlessly(statement: Statement) -> bool:
    """Whether it may wait as long as it likes: nobody of the traffic waits behind it. CONCURRENTLY waits for the end of
    transactions that are older, and would fail half done if that wait were cut short."""
    return statement.kind in {"index_stmt", "drop_stmt", "reindex_stmt"} and needs_no_transaction(statement)


def advice(statement: Statement) -> Iterator[str]:
    """What would do the same without keeping traffic waiting while it looks at all rows."""
    if statement.kind == "index_stmt" and not statement.node.concurrent:
        yield "CREATE INDEX CONCURRENTLY lets writes pass (in a file with `-- nova: no-transaction`)"
    if statement.kind != "alter_table_stmt":
        return
    for command in _commands(statement.node):
        constraint, name = getattr(command, "def").constraint, _enum(command, "subtype")
        checked = name == "AT_AddConstraint" and _enum(constraint, "contype") in {_CHECK, _FOREIGN}
        if checked and not constraint.skip_validation:
            yield "NOT VALID, and VALIDATE CONSTRAINT in a file of its own, reads the rows without a strong lock"
        if name == "AT_SetNotNull":
            yield "a valid CHECK (… IS NOT NULL) beforehand spares SET NOT NULL its look at all rows"
        if name == "AT_AlterColumnType":
            yield "a change of type may write the table anew; a new column, filled in batches, does not"


def _commands(node: Any) -> list[Any]:
    return [each.alter_table_cmd for each in node.cmds]


def _enum(node: Any, field: str) -> str:
    return str(node.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(node, field)].name)


def _concurrently(node: Any) -> bool:
    return any(each.def_elem.defname == "concurrently" for each in node.params)


def _detaches_slowly(command: Any) -> bool:
    return bool(getattr(command, "def").partition_cmd.concurrent)


# --- by kind of statement


_ALTER_TABLE: Final[Mapping[str, str]] = {
    "AT_SetStatistics": _GENTLE,
    "AT_SetOptions": _GENTLE,
    "AT_ResetOptions": _GENTLE,
    "AT_ClusterOn": _GENTLE,
    "AT_DropCluster": _GENTLE,
    "AT_SetRelOptions": _GENTLE,
    "AT_ResetRelOptions": _GENTLE,
    "AT_ValidateConstraint": _GENTLE,
    "AT_AttachPartition": _GENTLE,
    **{
        f"AT_{able}Trig{which}": "SHARE ROW EXCLUSIVE"
        for able in ("Enable", "Disable")
        for which in ("", "All", "User")
    },
}
_FOREIGN: Final = "CONSTR_FOREIGN"
_CHECK: Final = "CONSTR_CHECK"


def _alter_table(node: Any) -> Iterator[Lock]:
    table = spelled(node.relation)
    for command in _commands(node):
        name = _enum(command, "subtype")
        mode = _ALTER_TABLE.get(name, _STRONGEST)
        definition = getattr(command, "def")
        if name == "AT_AddConstraint" and _enum(definition.constraint, "contype") == _FOREIGN:
            mode = "SHARE ROW EXCLUSIVE"
            yield Lock(spelled(definition.constraint.pktable), mode)
        if name == "AT_AddColumn":
            yield from _references(definition.column_def)
        if name in {"AT_AttachPartition", "AT_DetachPartition"}:
            yield Lock(spelled(definition.partition_cmd.name), _STRONGEST)
            mode = _GENTLE if name == "AT_AttachPartition" or definition.partition_cmd.concurrent else _STRONGEST
        yield Lock(table, mode)


def _create(node: Any) -> Iterator[Lock]:
    for parent in node.inh_relations:
        partition = node.HasField("partbound")
        yield Lock(spelled(parent.range_var), _STRONGEST if partition else _GENTLE)
    for element in node.table_elts:
        if element.WhichOneof("node") == "column_def":
            yield from _references(element.column_def)
        elif element.WhichOneof("node") == "constraint" and _enum(element.constraint, "contype") == _FOREIGN:
            yield Lock(spelled(element.constraint.pktable), "SHARE ROW EXCLUSIVE")


def _references(column: Any) -> Iterator[Lock]:
    for each in column.constraints:
        if _enum(each.constraint, "contype") == _FOREIGN:
            yield Lock(spelled(each.constraint.pktable), "SHARE ROW EXCLUSIVE")


def _drop(node: Any) -> Iterator[Lock]:
    mode = _GENTLE if node.concurrent else _STRONGEST
    kind = _enum(node, "remove_type")
    for each in node.objects:
        words = [item.string.sval for item in each.list.items]
        if kind in {"OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"}:
            yield Lock(".".join(words[:-1]), mode)
        elif kind in {"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_FOREIGN_TABLE"}:
            yield Lock(".".join(words), mode)
        elif kind == "OBJECT_INDEX":
            yield Lock(f"the table of {'.'.join(words)}", mode)


def _rename(node: Any) -> Iterator[Lock]:
    if node.HasField("relation"):
        index = _enum(node, "rename_type") == "OBJECT_INDEX"
        yield Lock(spelled(node.relation), _GENTLE if index else _STRONGEST)


def _vacuum(node: Any) -> Iterator[Lock]:
    full = any(each.def_elem.defname == "full" for each in node.options)
    for each in node.rels:
        yield Lock(spelled(each.vacuum_relation.relation), _STRONGEST if full else _GENTLE)


def _reindex(node: Any) -> Iterator[Lock]:
    mode = _GENTLE if _concurrently(node) else "SHARE"
    kind = _enum(node, "kind")
    if kind == "REINDEX_OBJECT_TABLE":
        yield Lock(spelled(node.relation), mode)
    else:
        yield Lock(f"the table of {spelled(node.relation)}" if node.HasField("relation") else "all tables", mode)


def _select(node: Any) -> Iterator[Lock]:
    mode = "ROW SHARE" if node.locking_clause else "ACCESS SHARE"
    for each in node.from_clause:
        if each.WhichOneof("node") == "range_var":
            yield Lock(spelled(each.range_var), mode)


def _of(field: str, mode: str) -> Callable[[Any], Iterator[Lock]]:
    def found(node: Any) -> Iterator[Lock]:
        if node.HasField(field) and getattr(node, field).relname:
            yield Lock(spelled(getattr(node, field)), mode)

    return found


def _all(field: str, mode: str) -> Callable[[Any], Iterator[Lock]]:
    return lambda node: (Lock(spelled(each.range_var), mode) for each in getattr(node, field))


def _index(node: Any) -> Iterator[Lock]:
    yield Lock(spelled(node.relation), _GENTLE if node.concurrent else "SHARE")


_OPAQUE: Final = frozenset({"do_stmt", "call_stmt", "create_extension_stmt", "alter_extension_stmt"})
_BY_KIND: Final[Mapping[str, Callable[[Any], Iterator[Lock]]]] = {
    "alter_table_stmt": _alter_table,
    "create_stmt": _create,
    "index_stmt": _index,
    "drop_stmt": _drop,
    "rename_stmt": _rename,
    "vacuum_stmt": _vacuum,
    "reindex_stmt": _reindex,
    "select_stmt": _select,
    "create_trig_stmt": _of("relation", "SHARE ROW EXCLUSIVE"),
    "create_stats_stmt": _all("relations", _GENTLE),
    "create_policy_stmt": _of("table", _STRONGEST),
    "alter_policy_stmt": _of("table", _STRONGEST),
    "rule_stmt": _of("relation", _STRONGEST),
    "alter_object_schema_stmt": _of("relation", _STRONGEST),
    "alter_seq_stmt": _of("sequence", "SHARE ROW EXCLUSIVE"),
    "view_stmt": _of("view", _STRONGEST),
    "truncate_stmt": _all("relations", _STRONGEST),
    "cluster_stmt": _of("relation", _STRONGEST),
    "refresh_mat_view_stmt": lambda node: iter(
        (Lock(spelled(node.relation), "EXCLUSIVE" if node.concurrent else _STRONGEST),)
    ),
    "lock_stmt": lambda node: (Lock(spelled(each.range_var), MODES[node.mode - 1]) for each in node.relations),
    "insert_stmt": _of("relation", "ROW EXCLUSIVE"),
    "update_stmt": _of("relation", "ROW EXCLUSIVE"),
    "delete_stmt": _of("relation", "ROW EXCLUSIVE"),
    "merge_stmt": _of("relation", "ROW EXCLUSIVE"),
    "copy_stmt": _of("relation", "ROW EXCLUSIVE"),
}
"""Of the tables; what is not here takes no lock on one that anybody waits for."""
