"""How a relay works."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nova_data.backoff import Backoff
from nova_data.outbox.partitions import AHEAD, KEEP


@dataclass(frozen=True)
class Settings:
    """See the module. Times in seconds."""

    database: str
    brokers: str
    name: str = "nova-relay"
    topic_prefix: str = ""
    """In front of an aggregate's type, which together are the topic of events that name none."""
    batch: int = 1000
    """Events in a round at most, from 16."""
    publish_timeout: float = 15.0
    """Longest time for a round's acknowledgements, and so for leaving after SIGTERM."""
    statement_timeout: float = 10.0
    backoff: Backoff = field(default_factory=Backoff)
    keep: float = KEEP
    """Days that published events are kept; 0: this relay looks after no partitions."""
    ahead: int = AHEAD
    lock_timeout: float = 0.5
    kafka: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of librdkafka."""
    kafka_file: Callable[[], Mapping[str, str]] = dict
    """Reads such settings, for each producer anew: a password that is exchanged is found when the old one fails."""
