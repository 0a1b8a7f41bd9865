"""The outbox as it lies in the database. Every statement may be run again.

* `position` is the order of events within an aggregate. It is drawn when an event is appended, so an app appends after
  it has written the aggregate's own row: that row's lock is held until the commit, and whoever changes the aggregate
  next draws a later position. Transactions that share no row have no order to keep.
* `slot` is the aggregate's share of the work, from 0 to `SLOTS` - 1. One relay at a time works on a slot.
* `created_at` only tells the partition, so that what was published is removed by dropping a table, which leaves nothing
  to vacuum. Where no partition is ready an event goes to `outbox_events_default`: a forgotten job must stop no writer.
* The two partial indexes hold what is still to be done, so that finding it takes the same time after years.
* An event whose `next_attempt_at` lies in the future holds back the later ones of its aggregate; a quarantined one does
  so for ever (`infinity`), until somebody decides.

* The functions find the table wherever they are called from: they keep the search path that they were made with.

PostgreSQL 13 or newer.
"""

from typing import Final

SLOTS: Final = 16
TABLE: Final = "outbox_events"
DEFAULT_PARTITION: Final = "outbox_events_default"
CHANNEL: Final = "nova_outbox"
"""What relays listen to (NOTIFY)."""
INSTALL_LOCK: Final = 5_642_109_377_001
"""Advisory lock of whoever changes the outbox' tables."""

_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS outbox_events (
    position        bigint NOT NULL DEFAULT nextval('outbox_events_position'),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    slot            smallint NOT NULL GENERATED ALWAYS AS
                    ((hashtextextended(aggregate_type || '/' || aggregate_id, 0) & {SLOTS - 1})::smallint) STORED,
    aggregate_type  text NOT NULL CHECK (aggregate_type ~ '^[A-Za-z0-9._-]{{1,200}}$'),
    aggregate_id    text NOT NULL CHECK (length(aggregate_id) BETWEEN 1 AND 500),
    event_type      text NOT NULL CHECK (length(event_type) BETWEEN 1 AND 200),
    topic           text CHECK (topic ~ '^[A-Za-z0-9._-]{{1,249}}$'),
    key             text,
    payload         jsonb,
    content         bytea,
    headers         jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(headers) = 'object'),
    published_at    timestamptz,
    retry_count     integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    quarantined_at  timestamptz,
    last_error      text,
    PRIMARY KEY (position, created_at),
    CHECK (num_nonnulls(payload, content) = 1)
) PARTITION BY RANGE (created_at)
"""

_WRITE: Final = f"""
CREATE OR REPLACE FUNCTION nova_outbox_write(
    aggregate_type text, aggregate_id text, event_type text, payload jsonb, content bytea,
    topic text, key text, headers jsonb, id uuid, wake boolean
) RETURNS uuid LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload, content, topic, key, headers, id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, '{{}}'), coalesce($9, gen_random_uuid()))
    RETURNING outbox_events.id INTO id;
    IF wake THEN
        PERFORM pg_notify('{CHANNEL}', '');
    END IF;
    RETURN id;
END
$$
"""  # noqa: S608 - our own name

_APPEND: Final = """
CREATE OR REPLACE FUNCTION nova_outbox_append(aggregate_type text, aggregate_id text, event_type text, payload jsonb)
RETURNS uuid LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT nova_outbox_write($1, $2, $3, $4, NULL, NULL, NULL, NULL, NULL, true)
$$
"""

STATEMENTS: Final = (
    "CREATE SEQUENCE IF NOT EXISTS outbox_events_position AS bigint",
    _TABLE,
    "CREATE INDEX IF NOT EXISTS outbox_events_unpublished ON outbox_events (slot, position) WHERE published_at IS NULL",
    "CREATE INDEX IF NOT EXISTS outbox_events_failed ON outbox_events (slot, next_attempt_at)"
    " WHERE published_at IS NULL AND next_attempt_at IS NOT NULL",
    f"CREATE TABLE IF NOT EXISTS {DEFAULT_PARTITION} PARTITION OF outbox_events DEFAULT",
    _WRITE,
    _APPEND,
)
"""In this order, in one transaction."""
