"""What soft delete consists of, as SQL. Pure.

Every name in it is quoted and carries its schema, so that nobody's search path leads a trigger astray.
"""

from __future__ import annotations

from typing import Final, Literal

from nova_data.schema.soft_delete.facts import VIEW_MARK, ForeignKey, Table
from nova_data.schema.statements import quoted

Mode = Literal["Convert", "Refuse"]
"""What becomes of DELETE: a soft deletion, or an error that says how to delete."""

NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""`deleted_by` where nobody said who deletes: `SET LOCAL nova.actor = '…'` says it."""

DELETE_TRIGGER: Final = "nova_soft_delete"
TRUNCATE_TRIGGER: Final = "nova_soft_delete_truncate"
EVENT_TRIGGER: Final = "nova_soft_delete_event"
TRUNCATE_FUNCTION: Final = "nova_soft_delete_truncate"
EVENT_FUNCTION: Final = "nova_soft_delete_event"
_ERASING: Final = (
    "current_setting('nova.erase', true) = 'on'"
    " AND pg_has_role(current_user, (SELECT relowner FROM pg_catalog.pg_class WHERE oid = TG_RELID), 'USAGE')"
)
"""Real removal is for the tables' owner, who could drop the trigger as well."""


def check_name(table: Table) -> str:
    """Of the CHECK that both columns are set or none."""
    return f"{table.name}_soft_delete"


def deleted_index(table: Table) -> str:
    """Name of the index of deleted rows."""
    return f"{table.name}_deleted"


def active_index(table: Table) -> str:
    """Name of the index of rows that are not deleted."""
    return f"{table.name}_active"


def view(table: Table) -> str:
    """The active view, quoted."""
    return quoted(table.schema, f"active_{table.name}")


def columns_sql(table: Table) -> str:
    """The two columns. Without a default they are a matter of the catalog alone, whatever the table's size."""
    columns = ("deleted_at timestamptz", "deleted_by uuid")
    return f"ALTER TABLE {table.sql} {', '.join(f'ADD COLUMN IF NOT EXISTS {column}' for column in columns)}"


def named_sql(table: Table) -> str:
    """Rows that were deleted before anybody asked by whom, some at a time."""
    return (
        f"UPDATE {table.sql} SET deleted_by = '{NOBODY}' WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table.sql}"
        " WHERE deleted_at IS NOT NULL AND deleted_by IS NULL LIMIT 1000 FOR UPDATE SKIP LOCKED))"
    )


def check_sql(table: Table) -> str:
    """The CHECK, which holds for what is written from now on."""
    return (
        f"ALTER TABLE {table.sql} ADD CONSTRAINT {quoted(check_name(table))}"
        " CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)) NOT VALID"
    )


def deleted_index_sql(table: Table) -> str:
    """For the audit, and for whoever removes old rows."""
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(deleted_index(table))} ON {table.sql}"
        " (deleted_at, deleted_by) WHERE deleted_at IS NOT NULL"
    )


def active_index_sql(table: Table) -> str:
    """By time where the table has one, else by key."""
    by = "created_at DESC" if "created_at" in table.columns else ", ".join(map(quoted, table.key))
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(active_index(table))} ON {table.sql} ({by})"
        " WHERE deleted_at IS NULL"
    )


def view_sql(table: Table, *, invoker: bool) -> str:
    """The view; `invoker`: PostgreSQL 15 and later look at tables with the rights of the view's caller."""
    secured = " WITH (security_invoker = true)" if invoker else ""
    return f"CREATE OR REPLACE VIEW {view(table)}{secured} AS SELECT * FROM {table.sql} WHERE deleted_at IS NULL"


def view_mark_sql(table: Table) -> str:
    """Its comment, by which it is told from one of the app's own."""
    return f"COMMENT ON VIEW {view(table)} IS '{VIEW_MARK}'"


# --- functions and triggers


def delete_function(table: Table) -> str:
    """Name of the function that is called in place of a DELETE."""
    return f"{table.name}_soft_delete"


def delete_body(table: Table, mode: Mode) -> str:
    """Its body. PostgreSQL lets a row be changed in place of its deletion as long as the deletion is then dropped
    (RETURN NULL). The row is locked by then, so one that is not found is hidden: row level security may allow DELETE
    and not UPDATE, and without a word nothing would happen."""
    if mode == "Refuse":
        return f"""
BEGIN
    IF {_ERASING} THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'rows of {_text(table.name)} are not deleted'
        USING ERRCODE = 'restrict_violation', HINT = 'UPDATE … SET deleted_at = now(), deleted_by = …';
END"""
    this = " AND ".join(f"{quoted(column)} = OLD.{quoted(column)}" for column in table.key)
    return f"""
BEGIN
    IF {_ERASING} THEN RETURN OLD; END IF;
    UPDATE {table.sql} SET deleted_at = now(),
        deleted_by = coalesce(nullif(current_setting('nova.actor', true), '')::uuid, '{NOBODY}')
    WHERE {this} AND deleted_at IS NULL;
    IF NOT FOUND AND OLD.deleted_at IS NULL THEN
        RAISE EXCEPTION 'a row of {_text(table.name)} cannot be soft deleted: it is hidden from UPDATE'
            USING ERRCODE = 'insufficient_privilege',
            HINT = 'let row level security, or the trigger that keeps it, allow UPDATE of deleted_at and deleted_by';
    END IF;
    RETURN NULL;
END"""


def truncate_body() -> str:
    """Body of the function that is called before TRUNCATE."""
    return f"""
BEGIN
    IF {_ERASING} THEN RETURN NULL; END IF;
    RAISE EXCEPTION 'rows of % are not deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END"""


def event_body(outbox: str) -> str:
    """Body of the function that writes an event: the row's key, and nothing of what stood in it. The trigger's
    arguments are the columns of the key."""
    return f"""
DECLARE
    said jsonb := to_jsonb(NEW);
    key jsonb;
    id text;
BEGIN
    SELECT jsonb_object_agg(name, said -> name), string_agg(said ->> name, ':' ORDER BY place)
    INTO key, id FROM unnest(TG_ARGV) WITH ORDINALITY AS argument (name, place);
    PERFORM {outbox}(TG_TABLE_NAME, id,
        TG_TABLE_NAME || CASE WHEN NEW.deleted_at IS NULL THEN '.restored' ELSE '.deleted' END,
        jsonb_build_object('key', key, 'deleted_at', NEW.deleted_at, 'deleted_by', NEW.deleted_by));
    RETURN NULL;
END"""


def function_sql(schema: str, name: str, body: str) -> str:
    """Make or replace a trigger function."""
    return f"CREATE OR REPLACE FUNCTION {quoted(schema, name)}() RETURNS trigger LANGUAGE plpgsql AS $nova${body}$nova$"


def delete_trigger_sql(table: Table) -> tuple[str, ...]:
    """DELETE and TRUNCATE, anew if they were there or were off."""
    return (
        f"CREATE OR REPLACE TRIGGER {DELETE_TRIGGER} BEFORE DELETE ON {table.sql}"
        f" FOR EACH ROW EXECUTE FUNCTION {quoted(table.schema, delete_function(table))}()",
        f"ALTER TABLE {table.sql} ENABLE TRIGGER {DELETE_TRIGGER}",
    )


def truncate_trigger_sql(table: Table) -> tuple[str, ...]:
    """The same for TRUNCATE."""
    return (
        f"CREATE OR REPLACE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {table.sql}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {quoted(table.schema, TRUNCATE_FUNCTION)}()",
        f"ALTER TABLE {table.sql} ENABLE TRIGGER {TRUNCATE_TRIGGER}",
    )


def event_trigger_sql(table: Table) -> tuple[str, ...]:
    """The event of a deletion and of its end."""
    key = ", ".join(f"'{_text(column)}'" for column in table.key)
    return (
        f"CREATE OR REPLACE TRIGGER {EVENT_TRIGGER} AFTER UPDATE OF deleted_at ON {table.sql} FOR EACH ROW"
        " WHEN ((OLD.deleted_at IS NULL) IS DISTINCT FROM (NEW.deleted_at IS NULL))"
        f" EXECUTE FUNCTION {quoted(table.schema, EVENT_FUNCTION)}({key})",
        f"ALTER TABLE {table.sql} ENABLE TRIGGER {EVENT_TRIGGER}",
    )


# --- foreign keys


def next_name(key: ForeignKey) -> str:
    """Name of the foreign key that takes another's place, until it has it."""
    return f"{key.name[:50]}_nova_next"


def next_key_sql(key: ForeignKey, action: str) -> str:
    """The same foreign key with another action, beside it; what is there already is looked at later."""
    was = "ON DELETE CASCADE" if key.cascades else "ON DELETE RESTRICT"
    definition = key.definition.removesuffix(" NOT VALID").replace(was, f"ON DELETE {action}")
    return f"ALTER TABLE {key.child} ADD CONSTRAINT {quoted(next_name(key))} {definition} NOT VALID"


def swap_key_sql(key: ForeignKey, mark: str | None) -> tuple[str, ...]:
    """Put the new one in its place."""
    comment = "NULL" if mark is None else f"'{mark}'"
    return (
        f"ALTER TABLE {key.child} DROP CONSTRAINT {quoted(key.name)}",
        f"ALTER TABLE {key.child} RENAME CONSTRAINT {quoted(next_name(key))} TO {quoted(key.name)}",
        f"COMMENT ON CONSTRAINT {quoted(key.name)} ON {key.child} IS {comment}",
    )


def _text(name: str) -> str:
    """A name within a literal."""
    return name.replace("'", "''")
