CREATE TABLE media (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    kind text NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Who was erased, for a week.
CREATE TABLE closed_users (
    user_id uuid PRIMARY KEY,
    closed_at timestamptz NOT NULL DEFAULT now()
);
