"""Makes the Secrets that session cookies are signed with, without a right to read any.

There is no rule by which a role could read these Secrets and no others, and a watch would need one for all of them. So
the operator only ever creates: that the name is taken says that the Secret is there, its own of an earlier life or one
that somebody made beforehand, and either will do. What it cannot see is that the Secret goes later: with a predecessor
of the same name, seconds after that was deleted, or by hand. So it tries again, soon at first and then from time to
time. While the pods of a service may be waiting for it, that gives the service its turns (`Outcome.again_in`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from nova_api import names
from nova_api.v1alpha1 import NovaService
from nova_operator.cluster import Cluster, StaleError
from nova_operator.desired.session_secret import KEY_LENGTH, needs_session_secret, session_secret
from nova_operator.kinds import SECRET
from nova_operator.mirror import ServiceKey

FIRST_RETRY: Final = 2.0
LONGEST_RETRY: Final = 200.0
"""Seconds between two attempts, doubling from the first to the longest: less than a service at rest is without a turn
(at the default of --resync, 240 to 300), so that each of its turns is one."""

log = structlog.get_logger()


class _Attempt(NamedTuple):
    """`due`: when to try again, in monotonic seconds; `wait`: how long to wait after that, in seconds."""

    uid: str
    due: float
    wait: float


class SessionSecrets:
    """The Secrets of all services. `now` in monotonic seconds."""

    def __init__(
        self,
        cluster: Cluster,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._random_bytes = random_bytes
        self._now = now
        self._attempts: dict[ServiceKey, _Attempt] = {}

    def __repr__(self) -> str:
        return f"<SessionSecrets services={len(self._attempts)}>"

    async def ensure(self, service: NovaService) -> float | None:
        """Make it if it is not there, as far as can be told. Returns the seconds until the next try, None for a service
        that needs no Secret. Raises ClusterError."""
        key, uid = ServiceKey(service.metadata.namespace, service.metadata.name), service.metadata.uid
        if not needs_session_secret(service):
            self.forget(key)
            return None
        last = self._attempts.get(key)
        if last is None or last.uid != uid:  # a namesake's Secret goes with it
            last = _Attempt(uid, due=0.0, wait=FIRST_RETRY)
        if self._now() >= last.due:
            last = self._attempts[key] = await self._attempt(service, last.wait)
        return last.due - self._now()

    async def _attempt(self, service: NovaService, wait: float) -> _Attempt:
        uid = service.metadata.uid
        try:
            await self._cluster.create(SECRET, session_secret(service, self._random_bytes(KEY_LENGTH)))
        except StaleError:  # it is there
            return _Attempt(uid, self._now() + wait, min(LONGEST_RETRY, 2 * wait))
        about = {"service": service.metadata.name, "namespace": service.metadata.namespace}
        child = f"{SECRET.kind}/{names.session_secret(service.metadata.name)}"
        log.info("child applied", **about, child=child, why="missing")
        return _Attempt(uid, self._now() + LONGEST_RETRY, LONGEST_RETRY)

    def forget(self, key: ServiceKey) -> None:
        """The service is gone, or needs none."""
        self._attempts.pop(key, None)
