"""What session affinity knows and needs outside of a request: the keys, the siblings and, where asked for, the store.

One per proxy and configuration. A reload makes a new one, which takes over what the former knew of the pods, so that no
request in between is taken for one of an unknown pod; connections to siblings go on, as they belong to neither.
"""

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nova_api import names
from nova_api.policies import BreakerPolicy
from nova_api.proxy import Affinity as AffinityPolicy
from nova_api.proxy import ProxyConfig, SessionCookie
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.affinity import Affinity, CookieForm
from nova_sidecar.policy.keyspace import key_prefix
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.policy.signing import LEAST, SecretError, read_secrets
from nova_sidecar.transport.secretfiles import SecretFiles
from nova_sidecar.transport.siblings import Siblings
from nova_sidecar.wire.response import ResponseReader

if TYPE_CHECKING:
    from nova_sidecar.pipeline.affinity import AffinityExchange, AffinityFilter
    from nova_sidecar.pipeline.port import Shared
    from nova_sidecar.pipeline.stored import StoredSessions
    from nova_sidecar.store.guarded import GuardedStore

_SESSION_BYTES: Final = 16


class SessionDesk:
    """See the module. `start` puts it into force; until then it knows no keys."""

    __slots__ = ("_files", "_header", "_reader", "affinity", "policy", "sessions", "siblings", "store")

    def __init__(
        self, policy: AffinityPolicy, config: ProxyConfig, shared: "Shared", before: "SessionDesk | None"
    ) -> None:
        self.policy = policy
        self._header = _correlation(config)
        self._reader = ResponseReader(
            drop=frozenset((self._header,)) if self._header else frozenset(), outcomes=Outcomes(BreakerPolicy())
        )
        form = CookieForm(policy.cookie.name, float(policy.timeout), _attributes(policy.cookie))
        purpose = f"{config.namespace}/{config.service}"
        self.affinity: Affinity = Affinity(form, purpose, before.affinity if before is not None else None)
        self.siblings: Siblings = before.siblings if before is not None else _siblings(self._reader, shared)
        self.store: GuardedStore | None = _store(policy, shared, before)
        self.sessions = self._stored(config) if self.store is not None else None
        self._files = SecretFiles(policy.cookie.directory, (names.SESSION_KEY,), self._rekey)

    def _stored(self, config: ProxyConfig) -> "StoredSessions":
        from nova_sidecar.pipeline.stored import StoredSessions  # noqa: PLC0415 - only where there is a store

        assert self.store is not None  # noqa: S101 - asked just before
        prefix = key_prefix(f"{config.namespace}/{config.service}", "session")
        return StoredSessions(self.store, self.affinity, prefix=prefix, lifetime=float(self.policy.timeout))

    def filter(self, port: int, stats: PortStats) -> "AffinityFilter":
        """The filter of one port."""
        from nova_sidecar.pipeline.affinity import AffinityFilter  # noqa: PLC0415 - it imports exchanges, which are ports'

        if self.sessions is None:
            return AffinityFilter(port, self, stats)
        from nova_sidecar.pipeline.stored import StoredAffinityFilter  # noqa: PLC0415 - only where there is a store

        return StoredAffinityFilter(port, self, stats, self.sessions)

    def fits(self, policy: AffinityPolicy, config: ProxyConfig) -> bool:
        """Whether it does what this configuration asks for."""
        return policy == self.policy and _correlation(config) == self._header

    def start(self, before: "SessionDesk | None") -> None:
        """Read the keys and look for siblings from now on, in place of the former one."""
        if self.store is not None and (before is None or before.store is not self.store):
            self.store.start()
        if self.policy.cookie.directory:
            self._files.start()
        else:
            self.affinity.rekey((os.urandom(LEAST),))
        self.siblings.configure(self.policy.siblings, self._reader, self.affinity.replace)

    def stop(self) -> None:
        """Another one is in force, which has the siblings, or affinity is off."""
        self._files.close()

    async def finish(self, after: "SessionDesk | None") -> None:
        """End what belongs to it alone; `after` has the rest."""
        if self.store is not None and (after is None or after.store is not self.store):
            await self.store.close()
        if self.sessions is not None:
            await self.sessions.finish()

    def met(self, address: str, listens_at: str) -> None:
        """A client has reached this pod at this address. Where all of the pod's addresses are listened at, loopback is
        nobody's name: that is a port forwarded, or the pod itself."""
        if address == listens_at or not address.startswith(("127.", "::1")):
            self.affinity.here(address)

    def move(self, exchange: "AffinityExchange", *, lost: bool = False) -> None:
        """The exchange's session belongs to this pod from now on; `lost`: since its own one could not be reached. A pod
        that leaves takes on none."""
        if exchange.port.leaving:
            return
        if self.sessions is not None:
            if not exchange.session:
                exchange.session = urlsafe_b64encode(os.urandom(_SESSION_BYTES)).rstrip(b"=")
            elif lost:
                self.sessions.move(exchange.session, exchange.pod, exchange.port.clock())
        exchange.cookie = self.affinity.issue(exchange.session, time.time())

    def _rekey(self, files: Mapping[str, bytes]) -> None:
        found = files.get(names.SESSION_KEY)
        if found is None:
            raise SecretError(f"expected the key {names.SESSION_KEY} in the Secret")
        self.affinity.rekey(read_secrets(found))

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        store = self.store.snapshot() if self.store is not None else {}
        return {"siblings": self.affinity.siblings, "named": self.affinity.own is not None, "store": store}

    def __repr__(self) -> str:
        return f"<SessionDesk {self.affinity!r}>"


def _correlation(config: ProxyConfig) -> bytes:
    """The field that this sidecar sets itself, in place of its sibling's."""
    return config.correlation.header.encode() if config.correlation.mode == "Enforce" else b""


def _attributes(cookie: SessionCookie) -> str:
    secure = "; Secure" if cookie.secure else ""
    return f"Path={cookie.path}; HttpOnly; SameSite={cookie.same_site}{secure}"


def _store(policy: AffinityPolicy, shared: "Shared", before: SessionDesk | None) -> "GuardedStore | None":
    """The former one, where it is the same; its connections go on."""
    wanted = policy.store
    if wanted is None:
        return None
    if before is not None and before.policy.store == wanted:
        return before.store
    from nova_sidecar.store.opening import open_store  # noqa: PLC0415 - only where there is one: 10 MB

    return open_store(wanted, rng=shared.rng, clock=shared.clock)


def _siblings(reader: ResponseReader, shared: "Shared") -> Siblings:
    return Siblings(
        reader=reader,
        resolver=shared.resolver,
        wheel=shared.wheel,
        rng=shared.rng,
        counters=PortStats("outbound", "siblings"),  # shown nowhere: what matters of them is in nova_affinity_*
        clock=shared.clock,
    )
