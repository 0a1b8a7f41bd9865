"""Partitions: one tenant's requests hold at most a share of the limit, so that the others always find places.

A tenant's requests count from arrival to end, waiting included: a queue full of one tenant's requests would keep the
others out just as well. Only tenants with requests under way are kept, so memory is bounded by requests in flight,
whatever names callers invent, and every step takes the same time however many tenants there are.
"""

from typing import Final

from nova_api.policies import TenantPartitionPolicy
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

_TENANT_LIMIT: Final = Reject(Reason.TENANT_LIMIT, OVERLOAD_RETRY_AFTER)


class TenantPartitions:
    """Counts by tenant. Each `admit` that returned None owes one `leave`; names are bytes as they came."""

    __slots__ = ("_in_flight", "_policy", "rejected", "would_reject")

    def __init__(self, policy: TenantPartitionPolicy) -> None:
        self._policy = policy
        self._in_flight: dict[bytes, int] = {}
        self.rejected = 0
        self.would_reject = 0
        """In Shadow: requests that Enforce would have refused."""

    def configure(self, policy: TenantPartitionPolicy) -> None:
        """Take over a new share; who is there stays."""
        self._policy = policy

    def admit(self, tenant: bytes, limit: int, *, rehearse: bool = False) -> Reject | None:
        """None: it is counted. Reject: tenant_limit, its share of `limit` (at least one request) is used up.

        `rehearse` counts in place of refusing, as Shadow does.
        """
        held = self._in_flight.get(tenant, 0)
        if held and held + 1 > self._policy.max_share * limit:
            if self._policy.mode == "Enforce" and not rehearse:
                self.rejected += 1
                return _TENANT_LIMIT
            self.would_reject += 1
        self._in_flight[tenant] = held + 1
        return None

    def leave(self, tenant: bytes) -> None:
        """One of its requests is over. Raises KeyError when it has none under way."""
        held = self._in_flight[tenant] - 1
        if held:
            self._in_flight[tenant] = held
        else:
            del self._in_flight[tenant]

    def snapshot(self) -> dict[str, int]:
        """What an operator wants to see, as plain data; names of tenants are not in it."""
        return {"active": len(self), "rejected": self.rejected, "wouldReject": self.would_reject}

    def __len__(self) -> int:
        """Tenants with requests under way."""
        return len(self._in_flight)

    def __repr__(self) -> str:
        return f"<TenantPartitions {len(self)} in flight={sum(self._in_flight.values())}>"
