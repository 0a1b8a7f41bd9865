-- Soft delete of posts, comments and follows (deleted_at, active_posts and so on) comes from spec.database.softDelete,
-- as do the indexes by author and time.
CREATE TABLE posts (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    text text NOT NULL CONSTRAINT posts_text CHECK (char_length(text) BETWEEN 1 AND 5000),
    visibility text NOT NULL CONSTRAINT posts_visibility CHECK (visibility IN ('public', 'followers')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE comments (
    id uuid PRIMARY KEY,
    post_id uuid NOT NULL REFERENCES posts ON DELETE RESTRICT,
    user_id uuid NOT NULL,
    text text NOT NULL CONSTRAINT comments_text CHECK (char_length(text) BETWEEN 1 AND 2000),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX comments_of_a_post ON comments (post_id, created_at, id);
CREATE INDEX comments_of_a_user ON comments (user_id);

CREATE TABLE follows (
    follower_id uuid NOT NULL,
    followee_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (follower_id, followee_id),
    CONSTRAINT follows_others CHECK (follower_id <> followee_id)
);
CREATE INDEX follows_of_a_followee ON follows (followee_id);

-- An access token outlives its account by minutes; whose account is closed writes nothing meanwhile.
CREATE TABLE closed_accounts (
    user_id uuid PRIMARY KEY,
    reference text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz
);
