"""What auth keeps in PostgreSQL. Each method is one transaction, after which all of it has happened, or nothing.

A session is one login. Each refresh spends the session's token and gives the next one. A token that comes a second time
was copied: by a thief, or from one. Nobody can tell which of the two has come, so the session ends for both (RFC 9700
section 4.14.2). The session's row is locked first, so that of two who come at once one comes second.

The end of sessions is told by the event sessions-ended, for services that let somebody go on for longer than a request.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from nova_data.outbox.writer import outbox
from nova_data.pool.database import Connection, Database
from nova_services.auth.tokens import SESSION_SECONDS, digest
from nova_services.erasing import Place, erase

_SESSION: Final = """
SELECT session.id, session.account_id, token.used_at IS NOT NULL AS used,
       session.revoked_at IS NULL AND session.expires_at > now() AS open
FROM sessions session JOIN refresh_tokens token ON token.session_id = session.id
WHERE token.digest = $1
"""
_LOCK: Final = "SELECT id FROM sessions WHERE id = (SELECT session_id FROM refresh_tokens WHERE digest = $1) FOR UPDATE"
_EXPIRED: Final = """
DELETE FROM sessions WHERE id = ANY (ARRAY(
    SELECT id FROM sessions WHERE expires_at < now() - make_interval(secs => $1)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING id
"""
_INSERT_SESSION: Final = """
INSERT INTO sessions (id, account_id, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
"""
_INSERT_TOKEN: Final = "INSERT INTO refresh_tokens (digest, session_id) VALUES ($1, $2)"  # noqa: S105 - SQL


class Account(NamedTuple):
    """Who may log in."""

    user: UUID
    password_hash: str


class Refreshed(NamedTuple):
    """What became of a refresh token; user and session where it is `ok`."""

    result: Literal["ok", "refused", "reused"]
    user: UUID | None = None
    session: UUID | None = None


class Accounts:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, email: str, password_hash: str) -> UUID | None:
        """A new account and its event user-registered, or None where the address has one."""
        async with self._database.transaction() as connection:
            made = await connection.fetchrow(
                "INSERT INTO accounts (id, email, password_hash) VALUES ($1, $2, $3)"
                " ON CONFLICT (email) DO NOTHING RETURNING id, created_at",
                uuid4(),
                email,
                password_hash,
            )
            if made is None:
                return None
            user: UUID = made["id"]
            async with outbox(connection) as events:
                payload = {"userId": str(user), "registeredAt": made["created_at"].isoformat()}
                await events.append("user", user, "user-registered", payload)
            return user

    async def find(self, email: str) -> Account | None:
        """The account of an address."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow("SELECT id, password_hash FROM accounts WHERE email = $1", email)
        return None if row is None else Account(row["id"], row["password_hash"])

    async def password_hash(self, user: UUID) -> str | None:
        """Of a user, None where there is no such account."""
        async with self._database.acquire() as connection:
            found: str | None = await connection.fetchval("SELECT password_hash FROM accounts WHERE id = $1", user)
        return found

    async def erase(self, user: UUID) -> UUID | None:
        """Remove an account with all it has, for good, and tell everybody by the event user-erased; its id, by which
        every service notes what it has removed. None where there is no such account."""
        async with self._database.transaction() as connection:
            if await connection.fetchval("SELECT id FROM accounts WHERE id = $1 FOR UPDATE", user) is None:
                return None
            reference = uuid4()
            await erase(connection, user, (Place("sessions", "account_id"), Place("accounts", "id")), str(reference))
            async with outbox(connection) as events:
                await events.append("user", user, "user-erased", {"userId": str(user)}, event_id=reference)
            return reference

    # --- sessions

    async def open_session(self, user: UUID, token: str) -> UUID | None:
        """A session that this refresh token belongs to; None where the account was erased since it was looked for."""
        session = uuid4()
        try:
            async with self._database.transaction() as connection:
                await connection.execute(_INSERT_SESSION, session, user, float(SESSION_SECONDS))
                await connection.execute(_INSERT_TOKEN, digest(token), session)
        except asyncpg.ForeignKeyViolationError:
            return None
        return session

    async def refresh(self, token: str, following: str) -> Refreshed:
        """Spend a refresh token for the following one."""
        spent = digest(token)
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, spent)
            row = await connection.fetchrow(_SESSION, spent)
            if row is None or not row["open"]:
                return Refreshed("refused")
            if row["used"]:
                await connection.execute("UPDATE sessions SET revoked_at = now() WHERE id = $1", row["id"])
                await _tell_ended(connection, row["account_id"], [row["id"]])
                return Refreshed("reused")
            await connection.execute("UPDATE refresh_tokens SET used_at = now() WHERE digest = $1", spent)
            await connection.execute(_INSERT_TOKEN, digest(following), row["id"])
            return Refreshed("ok", row["account_id"], row["id"])

    async def revoke(self, token: str, *, everywhere: bool) -> int:
        """End the session of a refresh token, or all of its user's; returns how many were open. A token that was spent
        ends them as well: who has it has logged in once."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SESSION, digest(token))
            if row is None:
                return 0
            ended = await connection.fetch(
                "UPDATE sessions SET revoked_at = now() WHERE revoked_at IS NULL AND expires_at > now()"
                " AND account_id = $1 AND (id = $2 OR $3) RETURNING id",
                row["account_id"],
                row["id"],
                everywhere,
            )
            await _tell_ended(connection, row["account_id"], [one["id"] for one in ended])
            return len(ended)

    async def revoke_all(self, user: UUID) -> int:
        """End all sessions of a user; returns how many were open."""
        async with self._database.transaction() as connection:
            ended = await connection.fetch(
                "UPDATE sessions SET revoked_at = now() WHERE revoked_at IS NULL AND expires_at > now()"
                " AND account_id = $1 RETURNING id",
                user,
            )
            await _tell_ended(connection, user, [one["id"] for one in ended])
            return len(ended)

    async def session_holds(self, user: UUID, session: UUID) -> bool:
        """Whether it is the user's, and neither ended nor expired."""
        async with self._database.acquire() as connection:
            found = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM sessions WHERE id = $1 AND account_id = $2"
                " AND revoked_at IS NULL AND expires_at > now())",
                session,
                user,
            )
        return found is True

    async def remove_expired(self, *, keep: float, most: int) -> int:
        """Remove sessions that expired more than `keep` seconds ago, `most` of them, with their tokens; how many went.
        Those that somebody else is at are left for the next time."""
        async with self._database.transaction() as connection:
            return len(await connection.fetch(_EXPIRED, keep, most))


async def _tell_ended(connection: Connection, user: UUID, sessions: Sequence[UUID]) -> None:
    """Write the event sessions-ended, where there is something to tell, in the transaction of the caller."""
    if sessions:
        payload = {"userId": str(user), "sessionIds": [str(session) for session in sessions]}
        async with outbox(connection) as events:
            await events.append("user", user, "sessions-ended", payload)
