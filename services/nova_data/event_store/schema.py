"""The event store as it lies in PostgreSQL. Every statement may be run again. PostgreSQL 13 or newer.

* A **stream** is what happened to one thing, in the order of `version`, from 1. The row in `event_streams` has the
  version it is at: who appends locks it until the commit, so of two that read the same version one waits, and is told.
* **All events** have an order too, for projections, and reading them in it must leave nothing out. A number from a
  sequence does not do: who drew 5 may commit after who drew 6, and a reader that has seen 6 never looks back. So the
  order is `(settled, position)`. `settled` is the number of the transaction that appended, or that of the stream's last
  append where that is higher. Readers take only what is below `pg_snapshot_xmin`, under which every transaction has
  ended: whoever still runs has a number from there on, and so will its events. Nothing comes late, and nobody waits.
  Within a stream neither of the two ever goes down (the position is drawn under the stream's lock), so its events come
  in the order of their versions.
  https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
* One transaction that stays open for an hour, whatever it does, holds readers back for an hour.
* Events are not changed: a trigger refuses it, for every role that may not drop the trigger.
* Transaction numbers begin anew in a database that was loaded from a dump. `install` then lifts `base`, which is added
  to them, so that new events come after those of the dump.
"""

from typing import Final

_REFUSE: Final = """
CREATE OR REPLACE FUNCTION nova_event_store_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are not changed: append another one that says what is right'
        USING ERRCODE = 'restrict_violation';
END
$$
"""
_TRIGGERS: Final = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'stream_events'::regclass AND tgname = 'nova_unchanged') THEN
        CREATE TRIGGER nova_unchanged BEFORE UPDATE OR DELETE ON stream_events
            FOR EACH ROW EXECUTE FUNCTION nova_event_store_refuse();
        CREATE TRIGGER nova_not_emptied BEFORE TRUNCATE ON stream_events
            FOR EACH STATEMENT EXECUTE FUNCTION nova_event_store_refuse();
    END IF;
END
$$
"""
_LIFT: Final = """
UPDATE event_store_base SET base = greatest(base, coalesce(
    (SELECT max(settled) FROM stream_events) - pg_current_xact_id()::text::bigint + 1, 0))
"""
STATEMENTS: Final = (
    "CREATE TABLE IF NOT EXISTS event_store_base"
    " (one boolean PRIMARY KEY DEFAULT true CHECK (one), base bigint NOT NULL)",
    "INSERT INTO event_store_base VALUES (true, 0) ON CONFLICT DO NOTHING",
    """
    CREATE TABLE IF NOT EXISTS event_streams (
        stream_type text NOT NULL CHECK (stream_type ~ '^[A-Za-z0-9._-]{1,200}$'),
        stream_id   text NOT NULL CHECK (length(stream_id) BETWEEN 1 AND 500),
        version     bigint NOT NULL,
        settled     bigint NOT NULL,
        PRIMARY KEY (stream_type, stream_id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS stream_events (
        position    bigint GENERATED ALWAYS AS IDENTITY,
        settled     bigint NOT NULL,
        stream_type text NOT NULL,
        stream_id   text NOT NULL,
        version     bigint NOT NULL,
        event_type  text NOT NULL CHECK (length(event_type) BETWEEN 1 AND 200),
        data        jsonb NOT NULL,
        actor       text,
        correlation_id text,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (stream_type, stream_id, version)
    )
    """,
    "CREATE UNIQUE INDEX IF NOT EXISTS stream_events_in_order ON stream_events (settled, position)",
    "CREATE INDEX IF NOT EXISTS stream_events_by_actor ON stream_events (actor, recorded_at) WHERE actor IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS stream_events_by_time ON stream_events (recorded_at)",
    """
    CREATE TABLE IF NOT EXISTS stream_snapshots (
        stream_type text NOT NULL,
        stream_id   text NOT NULL,
        version     bigint NOT NULL,
        form        integer NOT NULL,
        state       jsonb NOT NULL,
        PRIMARY KEY (stream_type, stream_id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS event_projections (
        name     text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
        settled  bigint NOT NULL DEFAULT 0,
        position bigint NOT NULL DEFAULT 0,
        events   bigint NOT NULL DEFAULT 0,
        moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    _REFUSE,
    _TRIGGERS,
    _LIFT,
)
"""In this order, in one transaction."""
