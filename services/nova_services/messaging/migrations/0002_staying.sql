-- Where a stream begins: places up to this one were removed.
ALTER TABLE streams ADD COLUMN begins_after bigint NOT NULL DEFAULT 0;

-- Logins that have ended, for a day.
CREATE TABLE ended_sessions (
    session_id uuid PRIMARY KEY,
    ended_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ended_sessions_by_age ON ended_sessions (ended_at);
