"""What messaging keeps in PostgreSQL. Each method is one transaction, after which all of it has happened, or nothing.

Nothing is lost and nothing comes twice, because of two counters and the locks on them:

* **A position** is a message's place in its conversation, from 1. It is drawn from the conversation's row, whose lock
  is held until the commit. So positions have no gaps, and their order is the order of commits: who reads up to 7 will
  never find a 6 afterwards.
* **A place** is a message's place in the stream of one user, which is all of the user's conversations in one order. It
  is drawn in the same way from the user's row of `streams`, one row per member, in the order of their ids, so that no
  two senders wait for each other in a circle. A client that has read up to a place says so when it comes back, and
  reads on from there: whatever process it comes to, and whatever happened to the one before.
* **A client id** is made by the sender. A message that comes again with it is the one that there is.

A number alone is therefore all that a client, a process or Redis may forget and find again.

A message wakes all of its readers at once, and senders of one conversation wait for each other. Neither may take all
connections of the pool, so both take turns: who waits for one keeps nobody else waiting.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from nova_data.outbox.writer import outbox
from nova_data.pool.database import Database
from nova_services.closing import held
from nova_services.errors import InvalidError, NotFoundError

MOST_MEMBERS: Final = 50
"""Of a conversation: each of them costs a row for every message."""
AWAY_AFTER: Final = 45.0
"""Seconds after which somebody without a WebSocket counts as away."""

_SENDING: Final = 0.45
"""Share of the pool that senders have at most, and one connection at least: 4 of the 9 that a pool of 10 gives out."""
_READING: Final = 0.33
"""The same of those who read their streams: 3 of the 9."""
_LOCK: Final = """
SELECT id FROM conversations
WHERE id = $1 AND EXISTS (SELECT FROM members WHERE conversation_id = $1 AND user_id = $2) FOR NO KEY UPDATE
"""
_MESSAGE: Final = "conversation_id, position, sender_id, client_id, text, created_at"
_MEMBER: Final = "SELECT true FROM members WHERE conversation_id = $1 AND user_id = $2"
_PARTNER: Final = """
SELECT other.user_id FROM members AS mine JOIN members AS other USING (conversation_id)
WHERE conversation_id = $1 AND mine.user_id = $2 AND other.user_id <> $2 LIMIT 2
"""
_BEFORE: Final = f"SELECT {_MESSAGE} FROM messages WHERE conversation_id = $1 AND sender_id = $2 AND client_id = $3"  # noqa: S608 - our own words
_WRITE: Final = f"""
WITH drawn AS (UPDATE conversations SET last_position = last_position + 1 WHERE id = $1 RETURNING last_position)
INSERT INTO messages (conversation_id, position, sender_id, client_id, text)
SELECT $1, last_position, $2, $3, $4 FROM drawn RETURNING {_MESSAGE}
"""  # noqa: S608 - our own words
_DELIVER: Final = """
WITH locked AS (
    SELECT user_id FROM streams WHERE user_id IN (SELECT user_id FROM members WHERE conversation_id = $1)
    ORDER BY user_id FOR NO KEY UPDATE
), drawn AS (
    UPDATE streams SET last_place = last_place + 1 FROM locked WHERE streams.user_id = locked.user_id
    RETURNING streams.user_id, last_place
), written AS (
    INSERT INTO deliveries (user_id, place, conversation_id, position) SELECT user_id, last_place, $1, $2 FROM drawn
)
SELECT user_id, coalesce(seen_at < now() - make_interval(secs => $3), true) AS away
FROM drawn LEFT JOIN presences USING (user_id)
"""
_STREAM: Final = f"""
SELECT place, {_MESSAGE} FROM deliveries JOIN messages USING (conversation_id, position)
WHERE user_id = $1 AND place > $2 ORDER BY place LIMIT $3
"""  # noqa: S608 - our own words
_AFTER: Final = f"""
SELECT {_MESSAGE} FROM messages WHERE conversation_id = $1 AND position > $2 ORDER BY position LIMIT $3
"""  # noqa: S608 - our own words
_OF_A_USER: Final = """
SELECT id, conversations.created_at, last_position,
       ARRAY(SELECT user_id FROM members AS others WHERE others.conversation_id = id ORDER BY user_id) AS members
FROM members JOIN conversations ON id = conversation_id
WHERE user_id = $1 AND ($2::uuid IS NULL OR (members.created_at, conversation_id) < (
    SELECT created_at, conversation_id FROM members WHERE user_id = $1 AND conversation_id = $2
)) ORDER BY members.created_at DESC, conversation_id DESC LIMIT $3
"""
_HERE: Final = """
INSERT INTO presences (user_id, seen_at) SELECT user_id, now() FROM unnest($1::uuid[]) AS here (user_id)
WHERE NOT EXISTS (SELECT FROM closed_users WHERE closed_users.user_id = here.user_id)
ON CONFLICT (user_id) DO UPDATE SET seen_at = excluded.seen_at
"""
_NONE: Final = "there is no such conversation of yours"


class Conversation(NamedTuple):
    """Who talks. `last_position` is 0 where nothing was said."""

    conversation: UUID
    members: tuple[UUID, ...]
    created_at: datetime
    last_position: int


class Draft(NamedTuple):
    """A message that is to be sent."""

    conversation: UUID
    sender: UUID
    client: UUID
    text: str


class Message(NamedTuple):
    """A message as it is stored."""

    conversation: UUID
    position: int
    sender: UUID
    client: UUID
    text: str
    sent_at: datetime


class Extent(NamedTuple):
    """Which places a user's stream has: those after `begin`, up to `end`."""

    begin: int
    end: int


class Sent(NamedTuple):
    """What became of a draft: the message, and whose streams it is in; nobody's where it was sent before."""

    message: Message
    readers: tuple[UUID, ...] = ()

    @property
    def repeated(self) -> bool:
        """Whether it was there."""
        return not self.readers


class Conversations:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sending = asyncio.Semaphore(max(1, round(database.places * _SENDING)))
        self._reading = asyncio.Semaphore(max(1, round(database.places * _READING)))

    # --- conversations

    async def begin(self, members: Collection[UUID]) -> Conversation:
        """A conversation of 2 to 50 people. Raises InvalidError for fewer or more, and where one of them is erased."""
        if not 2 <= len(set(members)) <= MOST_MEMBERS:
            raise InvalidError("members", f"1 to {MOST_MEMBERS - 1} people beside the one who asks")
        identity, ordered = uuid4(), sorted(set(members))
        async with self._database.transaction() as connection:
            if await held(connection, ordered):
                raise InvalidError("members", "people who have an account")
            await connection.execute(
                "INSERT INTO streams (user_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING", ordered
            )
            created = await connection.fetchval(
                "INSERT INTO conversations (id) VALUES ($1) RETURNING created_at", identity
            )
            await connection.execute(
                "INSERT INTO members (conversation_id, user_id) SELECT $1, unnest($2::uuid[])", identity, ordered
            )
        return Conversation(identity, tuple(ordered), created, 0)

    async def of(self, user: UUID, *, before: UUID | None, limit: int) -> list[Conversation]:
        """Conversations of a user, the newest first; only those before the one named `before`."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_OF_A_USER, user, before, limit)
        return [Conversation(row["id"], tuple(row["members"]), row["created_at"], row["last_position"]) for row in rows]

    async def partner(self, conversation: UUID, user: UUID) -> UUID | None:
        """Whom the user alone talks with; None where there are more, and for who is no member."""
        async with self._sending, self._database.acquire() as connection:
            others = await connection.fetch(_PARTNER, conversation, user)
        return others[0]["user_id"] if len(others) == 1 else None

    # --- messages

    async def has(self, draft: Draft) -> bool:
        """Whether the message is stored, as one that comes again is."""
        async with self._sending, self._database.acquire() as connection:
            key = (draft.conversation, draft.sender, draft.client)
            return await connection.fetchrow(_BEFORE, *key) is not None

    async def send(self, draft: Draft) -> Sent:
        """Store a message, put it into the streams of all members, and tell of it (event message-sent).

        Raises NotFoundError for who is no member.
        """
        key = (draft.conversation, draft.sender, draft.client)
        async with self._sending, self._database.transaction() as connection:
            if await connection.fetchval(_LOCK, draft.conversation, draft.sender) is None:
                raise NotFoundError(_NONE)
            if await connection.fetchval(_MEMBER, draft.conversation, draft.sender) is None:
                raise NotFoundError(_NONE)  # has left while this waited: who only locks a row changes nothing of it
            before = await connection.fetchrow(_BEFORE, *key)
            if before is not None:
                return Sent(Message(*before))
            message = Message(*await connection.fetchrow(_WRITE, *key, draft.text))
            rows = await connection.fetch(_DELIVER, message.conversation, message.position, AWAY_AFTER)
            async with outbox(connection) as events:
                away = [str(row["user_id"]) for row in rows if row["away"] and row["user_id"] != draft.sender]
                payload = _told(message, away)
                await events.append("conversation", message.conversation, "message-sent", payload, topic="message")
        return Sent(message, tuple(row["user_id"] for row in rows))

    async def after(self, conversation: UUID, reader: UUID, position: int, *, limit: int) -> list[Message]:
        """Messages of a conversation after a position, oldest first. Raises NotFoundError for who is no member."""
        async with self._database.acquire() as connection:
            if await connection.fetchval(_MEMBER, conversation, reader) is None:
                raise NotFoundError(_NONE)
            rows = await connection.fetch(_AFTER, conversation, position, limit)
        return [Message(*row) for row in rows]

    async def stream(self, user: UUID, place: int, *, limit: int) -> list[tuple[int, Message]]:
        """What a user has not read, in order, each with its place."""
        async with self._reading, self._database.acquire() as connection:
            rows = await connection.fetch(_STREAM, user, place, limit)
        return [(row[0], Message(*tuple(row)[1:])) for row in rows]

    # --- who reads

    async def ends(self, users: Sequence[UUID]) -> dict[UUID, int]:
        """How far the streams of these users go; users without one are left out."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch("SELECT user_id, last_place FROM streams WHERE user_id = ANY ($1)", users)
        return {row["user_id"]: row["last_place"] for row in rows}

    async def extent(self, user: UUID) -> Extent:
        """Where the stream of a user begins and ends; of a user without one, 0 and 0."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow("SELECT begins_after, last_place FROM streams WHERE user_id = $1", user)
        return Extent(0, 0) if row is None else Extent(*row)

    async def here(self, users: Sequence[UUID]) -> None:
        """These have a WebSocket open at this moment; of who is erased that is not noted any more."""
        async with self._database.acquire() as connection:
            await connection.execute(_HERE, sorted(users))


def _told(message: Message, away: list[str]) -> dict[str, Any]:
    """The event's payload: who and where, and not what was said."""
    return {
        "conversationId": str(message.conversation),
        "position": message.position,
        "senderId": str(message.sender),
        "sentAt": message.sent_at.isoformat(),
        "awayIds": away,
    }
