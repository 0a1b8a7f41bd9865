CREATE TABLE profiles (
    user_id uuid PRIMARY KEY,
    display_name text NOT NULL,
    biography text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT profiles_display_name CHECK (char_length(display_name) BETWEEN 1 AND 80),
    CONSTRAINT profiles_biography CHECK (char_length(biography) <= 500)
);

-- Of those who have chosen anything.
CREATE TABLE preferences (
    user_id uuid PRIMARY KEY REFERENCES profiles,
    chosen jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE blocks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    blocker_id uuid NOT NULL REFERENCES profiles,
    blocked_id uuid NOT NULL REFERENCES profiles,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    deleted_by uuid,
    CONSTRAINT blocks_of_others CHECK (blocker_id <> blocked_id)
);
CREATE UNIQUE INDEX blocks_of_a_pair ON blocks (blocker_id, blocked_id) WHERE deleted_at IS NULL;
CREATE INDEX blocks_of_a_blocker ON blocks (blocker_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX blocks_by_blocked ON blocks (blocked_id);

-- Who has left, for as long as a token of theirs may go on: nothing of theirs is made again meanwhile.
CREATE TABLE departed (
    user_id uuid PRIMARY KEY,
    departed_at timestamptz NOT NULL DEFAULT now()
);
