"""The tables of a social backend as they are before anybody thought of soft delete: with CASCADE everywhere."""

from typing import Final

TABLES: Final = ("posts", "comments", "messages", "follows", "blocks", "media")
ADA: Final = "11111111-1111-4111-8111-111111111111"
BOB: Final = "22222222-2222-4222-8222-222222222222"

SCHEMA: Final = """
CREATE TABLE users (id uuid PRIMARY KEY, name text);
CREATE TABLE posts (
    id bigserial PRIMARY KEY, user_id uuid NOT NULL CONSTRAINT posts_user REFERENCES users ON DELETE CASCADE,
    visibility text NOT NULL DEFAULT 'public', body text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE comments (
    id bigserial PRIMARY KEY, user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    post_id bigint NOT NULL CONSTRAINT comments_post REFERENCES posts ON DELETE CASCADE,
    parent_id bigint REFERENCES comments ON DELETE CASCADE, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE messages (
    id bigserial PRIMARY KEY, sender_id uuid NOT NULL REFERENCES users ON DELETE CASCADE, body text,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE follows (
    follower_id uuid REFERENCES users ON DELETE CASCADE, followee_id uuid REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (follower_id, followee_id));
CREATE TABLE blocks (
    blocker_id uuid REFERENCES users ON DELETE CASCADE, blocked_id uuid REFERENCES users ON DELETE CASCADE,
    PRIMARY KEY (blocker_id, blocked_id));
CREATE TABLE media (
    id bigserial PRIMARY KEY, user_id uuid REFERENCES users ON DELETE CASCADE,
    post_id bigint REFERENCES posts ON DELETE SET NULL);
CREATE TABLE likes (
    user_id uuid REFERENCES users ON DELETE CASCADE, post_id bigint REFERENCES posts ON DELETE CASCADE,
    PRIMARY KEY (user_id, post_id));
"""

ROWS: Final = f"""
INSERT INTO users VALUES ('{ADA}', 'ada'), ('{BOB}', 'bob');
INSERT INTO posts (user_id, body) VALUES ('{ADA}', 'first'), ('{ADA}', 'second'), ('{BOB}', 'his');
INSERT INTO comments (user_id, post_id) VALUES ('{BOB}', 1), ('{ADA}', 3);
INSERT INTO comments (user_id, post_id, parent_id) VALUES ('{ADA}', 1, 1), ('{BOB}', 3, 2);
INSERT INTO messages (sender_id, body) VALUES ('{ADA}', 'hello'), ('{BOB}', 'hello');
INSERT INTO follows VALUES ('{ADA}', '{BOB}'), ('{BOB}', '{ADA}');
INSERT INTO blocks VALUES ('{BOB}', '{ADA}');
INSERT INTO media (user_id, post_id) VALUES ('{ADA}', 1), ('{BOB}', 1);
INSERT INTO likes VALUES ('{BOB}', 1), ('{ADA}', 3);
"""
