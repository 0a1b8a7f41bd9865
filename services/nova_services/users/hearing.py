"""What auth tells of: somebody came, and has a profile; somebody left, and nothing of theirs is here any more."""

from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from nova_data.consumer.message import Message
from nova_services.consuming import Afterwards, Effect, subject
from nova_services.erasing import Place, erase
from nova_services.users.metrics import UsersMetrics
from nova_services.users.preferences import PreferenceStore
from nova_services.users.profiles import lock, made

TOPICS: Final = ("user",)
_PLACES: Final = (
    Place("preferences", "user_id"),
    Place("blocks", "blocker_id"),
    Place("blocks", "blocked_id"),
    Place("profiles", "user_id"),
)
_NOTE: Final = "INSERT INTO departed (user_id) VALUES ($1) ON CONFLICT (user_id) DO UPDATE SET departed_at = now()"
_FORGET: Final = "DELETE FROM departed WHERE departed_at < now() - interval '1 hour'"
"""A token goes on for minutes; after that even the id is forgotten."""


class Hearing:
    """Effects for `consuming`."""

    def __init__(self, preferences: PreferenceStore, metrics: UsersMetrics) -> None:
        self._preferences = preferences
        self._metrics = metrics

    @property
    def effects(self) -> dict[str, Effect]:
        """By type of event."""
        return {"user-registered": self._came, "user-erased": self._left}

    async def _came(self, connection: Any, message: Message) -> Afterwards | None:
        profile = await made(connection, subject(message), _registered_at(message))
        return None if profile is None else partial(self._count, "created")

    async def _left(self, connection: Any, message: Message) -> Afterwards:
        user = subject(message)
        await lock(connection, user)
        await connection.execute(_FORGET)
        await connection.execute(_NOTE, user)
        await erase(connection, user, _PLACES, message.idempotency_key)
        return partial(self._forgotten, user)

    async def _forgotten(self, user: UUID) -> None:
        await self._preferences.forget(user)
        await self._count("erased")

    async def _count(self, result: str) -> None:
        self._metrics.profile(result)


def _registered_at(message: Message) -> datetime | None:
    """Where it says so."""
    try:
        found = datetime.fromisoformat(message.json()["registeredAt"])
    except (ValueError, TypeError, KeyError):
        return None
    return found if found.tzinfo is not None else None
