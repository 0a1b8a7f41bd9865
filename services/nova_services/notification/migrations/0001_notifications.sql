-- position is the order of arrival: events of different topics have no other.
CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY,
    user_id uuid NOT NULL,
    kind text NOT NULL,
    actor_id uuid,
    subject_id uuid,
    created_at timestamptz NOT NULL,
    read_at timestamptz
);
CREATE INDEX notifications_of_a_user ON notifications (user_id, position DESC);
CREATE INDEX notifications_by_an_actor ON notifications (actor_id);

-- As long as one is unread, the same again adds nothing.
CREATE UNIQUE INDEX notifications_unread ON notifications (
    user_id, kind,
    coalesce(actor_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(subject_id, '00000000-0000-0000-0000-000000000000')
) WHERE read_at IS NULL;

-- Who was erased, for a week.
CREATE TABLE closed_users (
    user_id uuid PRIMARY KEY,
    closed_at timestamptz NOT NULL DEFAULT now()
);
