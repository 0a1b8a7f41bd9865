"""Which key an event should have: it decides what keeps its order, and what one consumer of many has to carry.

Kafka keeps order within a partition, and puts messages of one key into one partition. So the key is the widest thing
whose events must not overtake each other, and no wider:

* `by_aggregate`: the events of one order, in order; orders beside each other. The outbox' own key, an aggregate's id,
  does the same where a topic has one type of them.
* `by_tenant`: all events of a tenant in order. A tenant that is large makes its partition hot, so only where events of
  different aggregates of a tenant have an order.
* `spread`: a tenant's events over `ways` keys, those of one aggregate still together: as much order as `by_aggregate`,
  while a consumer sees no more than `ways` keys of a tenant, for a cache or a batch by tenant.

A key that was chosen is kept for good: events of one aggregate under two keys have no order. For the same reason
partitions are added before a topic is used, and not after.
"""

from typing import Final
from zlib import crc32

MOST_WAYS: Final = 1024


def by_aggregate(aggregate_type: str, aggregate_id: object) -> str:
    """Aggregates of different types in one topic do not share a key by accident: `order/42`."""
    return f"{aggregate_type}/{aggregate_id}"


def by_tenant(tenant: object) -> str:
    """One key for all of a tenant's events."""
    return f"tenant/{tenant}"


def spread(tenant: object, aggregate_id: object, *, ways: int) -> str:
    """One of `ways` keys of a tenant, always the same for an aggregate. Raises ValueError for less than 1 or more than
    1024."""
    if not 1 <= ways <= MOST_WAYS:
        raise ValueError(f"ways: expected 1 to {MOST_WAYS}, got {ways}")
    return f"tenant/{tenant}/{crc32(str(aggregate_id).encode()) % ways}"
