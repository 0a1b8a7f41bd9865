CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_position bigint NOT NULL DEFAULT 0
);

-- How far the stream of each user goes: all that is said in any of the user's conversations, in one order.
CREATE TABLE streams (
    user_id uuid PRIMARY KEY,
    last_place bigint NOT NULL DEFAULT 0
);

CREATE TABLE members (
    conversation_id uuid NOT NULL REFERENCES conversations,
    user_id uuid NOT NULL REFERENCES streams,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX members_of_a_user ON members (user_id, created_at DESC, conversation_id DESC);

CREATE TABLE messages (
    conversation_id uuid NOT NULL REFERENCES conversations,
    position bigint NOT NULL,
    sender_id uuid NOT NULL,
    client_id uuid NOT NULL,
    text text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (conversation_id, position),
    CONSTRAINT messages_once UNIQUE (conversation_id, sender_id, client_id)
);

-- What lies where in a user's stream.
CREATE TABLE deliveries (
    user_id uuid NOT NULL REFERENCES streams,
    place bigint NOT NULL,
    conversation_id uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (user_id, place),
    FOREIGN KEY (conversation_id, position) REFERENCES messages
);
CREATE INDEX deliveries_of_a_message ON deliveries (conversation_id, position);

-- Who has had a WebSocket open a moment ago.
CREATE TABLE presences (
    user_id uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- Who was erased, for a week.
CREATE TABLE closed_users (
    user_id uuid PRIMARY KEY,
    closed_at timestamptz NOT NULL DEFAULT now()
);
