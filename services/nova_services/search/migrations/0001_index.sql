-- Words are kept as they are written ('simple'): people write in many languages, and a stem of one is a mistake in the
-- next. A row without words is what is left of one that was deleted, so that its beginning, should it come later,
-- does not bring it back.
CREATE TABLE posts (
    id uuid PRIMARY KEY,
    author_id uuid,
    text text,
    created_at timestamptz,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(text, ''))) STORED,
    CONSTRAINT posts_whole CHECK (num_nulls(author_id, text, created_at) IN (0, 3))
);
CREATE INDEX posts_words ON posts USING gin (words) WHERE text IS NOT NULL;
CREATE INDEX posts_of_an_author ON posts (author_id) WHERE text IS NOT NULL;

CREATE TABLE people (
    id uuid PRIMARY KEY,
    display_name text NOT NULL,
    biography text NOT NULL,
    changed_at timestamptz NOT NULL,
    words tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', display_name), 'A') || setweight(to_tsvector('simple', biography), 'D')
    ) STORED
);
CREATE INDEX people_words ON people USING gin (words);

-- Who was erased must not come back by an event that is older and comes later. A hash tells one that is known already
-- from others, and says of nobody who it was.
CREATE TABLE erased (
    digest bytea PRIMARY KEY
);

-- One row. Each time the index is made anew it counts one more, and with it the consumer group has another name.
CREATE TABLE generation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    number int NOT NULL
);
INSERT INTO generation (number) VALUES (1);
