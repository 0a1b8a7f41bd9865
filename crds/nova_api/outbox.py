"""The outbox of a service's database, and the relays that bring its events to Kafka.

The operator has the Job install the tables, and makes a Deployment of relays (`nova-data relay`) beside the service.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from nova_api import patterns
from nova_api.forms import SecretName
from nova_api.model import Model, Rule
from nova_api.units import Duration
from nova_api.workload import ResourceRequirements

Broker = Annotated[str, Meta(pattern=patterns.HOST_AND_PORT, max_length=259)]
Setting = Annotated[str, Meta(max_length=1024)]

MOST_RELAYS: Final = 16
"""Aggregates fall into so many slots, and a relay without one has nothing to do (`nova_data.outbox.schema.SLOTS`)."""
SETTLED: Final = (
    "bootstrap.servers",
    "metadata.broker.list",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "message.timeout.ms",
    "delivery.timeout.ms",
)
"""Settings of librdkafka that the order of events hangs on, by all their names, and the brokers, which have a field of
their own."""
SECRET: Final = (
    "sasl.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
)
"""Settings of librdkafka that are secrets: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"""

_IS_SECRET: Final = ", ".join(f"'{name}'" for name in SECRET)
_IS_SETTLED: Final = ", ".join(f"'{name}'" for name in SETTLED)


class Outbox(Model, frozen=True, kw_only=True):
    """Events that the service writes in the transaction of what they tell of, and relays that bring them to Kafka."""

    mode: Literal["Off", "Enforce"] = "Enforce"
    """Off: there are no relays, and events wait in their table. Enforce: relays bring them to Kafka."""

    brokers: Annotated[tuple[Broker, ...], Meta(min_length=1, max_length=16)]
    """Brokers of the Kafka, as kafka:9092; a few are enough, the others are learned from them."""

    replicas: Annotated[int, Meta(ge=1, le=MOST_RELAYS)] = 2
    """Number of relays. They share the work, and one is enough for it; the second is there when the first is not."""

    topic_prefix: Annotated[str, Meta(pattern=patterns.TOPIC_PREFIX, max_length=48)] = ""
    """What stands before an aggregate's type in the topic of events that name none."""

    kafka: Annotated[dict[str, Setting], Meta(max_length=64)] = field(default_factory=dict)
    """Further settings of librdkafka, such as security.protocol: SASL_SSL; none that is a secret."""

    kafka_secret_ref: SecretName | None = None
    """Secret with settings of librdkafka, a key each, such as sasl.username and sasl.password; ca.crt, tls.crt and
    tls.key are taken as files for TLS."""

    retention: Duration = Duration(7 * 24 * 3600)
    """How long published events are kept, in whole days, rounded up."""

    backlog_alert: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Events from which on the alert is raised, when so many wait for two minutes."""

    age_alert: Duration = Duration(60)
    """Age from which on the alert is raised, when the oldest event that waits is so old for two minutes."""

    resources: ResourceRequirements = ResourceRequirements(requests={"cpu": "50m", "memory": "96Mi"})
    """Requests and limits of a relay; it holds 32 MiB of events at most."""

    rules = (
        Rule(
            cel=f"!has(self.kafka) || [{_IS_SECRET}].all(s, !(s in self.kafka))",
            message="kafka: settings that are secrets belong into the Secret of kafkaSecretRef",
            holds=lambda s: s.kafka.keys().isdisjoint(SECRET),
        ),
        Rule(
            cel=f"!has(self.kafka) || [{_IS_SETTLED}].all(s, !(s in self.kafka))",
            message=f"kafka: {', '.join(SETTLED)} cannot be set, since the order of events hangs on them",
            holds=lambda s: s.kafka.keys().isdisjoint(SETTLED),
        ),
        Rule(
            cel="duration(self.retention) >= duration('24h') && duration(self.ageAlert) >= duration('1s')",
            message="retention must be at least 24h, and ageAlert at least 1s",
            holds=lambda s: s.retention >= 24 * 3600 and s.age_alert >= 1,
        ),
    )
