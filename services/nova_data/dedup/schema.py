"""The keys as they lie in PostgreSQL. Every statement may be run again.

A unique index over a table that grows by 100 000 rows a minute has to lose as many, and rows that are deleted leave as
much work to vacuum as they were. A table that is partitioned by time drops them for nothing, but its unique
index reaches no further than a partition: a key that is seen before midnight and again after it would pass.

So the table is a ring of `SLOTS` partitions that are there from the beginning. Time is cut into periods of half a
lifetime, and a period writes to one slot; the slot that is written next is emptied before its turn by TRUNCATE, which
touches no table that anybody writes to. What holds across slots:

* `nova_dedup_first` looks into all slots before it writes to one. Whoever asks for the same key at the same time waits
  for an advisory lock of that key until the first one's transaction ends, and looks after that, with a new snapshot
  (each statement in a function has its own at READ COMMITTED). So one of two that come at a turn of the ring, in
  whatever order they commit, finds the other's row.
* At REPEATABLE READ the look would use the transaction's old snapshot, so it is refused there. SERIALIZABLE finds out
  by itself, and one of the two has to be run again.
* Where the ring is not pruned in time, old rows stay in a slot that is written again. They are known for longer, which
  is no harm, and go with the next round: a job that was forgotten stops nobody.

A key is known for a lifetime at least, for two at most where the ring is pruned.

https://www.postgresql.org/docs/current/xfunc-volatility.html
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from typing import Final

SLOTS: Final = 4
"""One is written, two are a lifetime, one is emptied."""
LIFETIME: Final = 86400.0
"""Seconds that a key is known, unless `install` says otherwise."""
SHORTEST: Final = 2.0

_SLOT: Final = f"""
CREATE OR REPLACE FUNCTION nova_dedup_slot(later integer) RETURNS smallint LANGUAGE sql VOLATILE AS $$
    SELECT ((floor(extract(epoch FROM clock_timestamp())::float8 / nova_dedup_period())::bigint + later)
            % {SLOTS})::smallint
$$
"""  # noqa: S608 - our own constant
_FIRST: Final = """
CREATE OR REPLACE FUNCTION nova_dedup_first(asked uuid, key_lock bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        RAISE EXCEPTION 'deduplication: expected a transaction at READ COMMITTED or SERIALIZABLE'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(key_lock);
    IF EXISTS (SELECT FROM dedup_keys WHERE digest = asked) THEN
        RETURN false;
    END IF;
    INSERT INTO dedup_keys (slot, digest) VALUES (nova_dedup_slot(0), asked);
    RETURN true;
END
$$
"""


def statements(lifetime: float = LIFETIME) -> tuple[str, ...]:
    """What makes it, in this order, in one transaction; `lifetime` is in seconds. Raises ValueError."""
    if not SHORTEST <= lifetime <= 366 * 86400:
        raise ValueError(f"lifetime: expected {SHORTEST:.0f} s to 366 days, got {lifetime}")
    return (
        "CREATE TABLE IF NOT EXISTS dedup_keys (slot smallint NOT NULL, digest uuid NOT NULL,"
        " seen_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (digest, slot)) PARTITION BY LIST (slot)",
        *(
            f"CREATE TABLE IF NOT EXISTS {slot_table(slot)} PARTITION OF dedup_keys FOR VALUES IN ({slot})"
            for slot in range(SLOTS)
        ),
        "CREATE OR REPLACE FUNCTION nova_dedup_period() RETURNS float8 LANGUAGE sql IMMUTABLE"
        f" AS $$ SELECT {lifetime / 2!r}::float8 $$",
        _SLOT,
        _FIRST,
    )


def slot_table(slot: int) -> str:
    """The partition of a slot."""
    return f"dedup_keys_{slot}"
