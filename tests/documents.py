"""NovaServices that are right and NovaServices that are wrong, and what is said of the wrong ones.

One table for both judges: `tests/unit/api` asks the model, `tests/cluster` asks a real API server. Whatever one of them
refuses the other must refuse too, or `nova dev` and a cluster would disagree about the same file.
"""

from copy import deepcopy
from typing import Any, NamedTuple

Document = dict[str, Any]

MINIMAL: Document = {
    "apiVersion": "nova.dev/v1alpha1",
    "kind": "NovaService",
    "metadata": {"name": "shop"},
    "spec": {"image": "registry.example/shop:1", "ports": [{"port": 8080}]},
}

UPSTREAM: Document = {"name": "catalog", "host": "catalog.stock.svc", "port": 8080}


def with_spec(**fields: Any) -> Document:
    """The minimal service with these fields of its spec set."""
    document = deepcopy(MINIMAL)
    document["spec"] |= fields
    return document


def with_upstream(**fields: Any) -> Document:
    """The minimal service with one upstream that has these fields set."""
    return with_spec(upstreams=[UPSTREAM | fields])


def without(field: str) -> Document:
    """The minimal service without a field of its spec."""
    document = deepcopy(MINIMAL)
    del document["spec"][field]
    return document


def of(**fields: Any) -> Document:
    """A service with nothing in its spec but a port and these fields."""
    return MINIMAL | {"spec": {"ports": [{"port": 8080}]} | fields}


def named(name: str) -> Document:
    """The minimal service under another name."""
    return MINIMAL | {"metadata": {"name": name}}


ISSUER: Document = {"issuer": "https://auth.example", "jwksUrl": "https://auth.example/keys", "audiences": ["shop"]}
OWN_KEYS: Document = {
    "issuer": "https://batch.example",
    "audiences": ["*"],
    "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}],
}


def with_jwt(*issuers: Document, **fields: Any) -> Document:
    """The minimal service that asks for tokens of these issuers."""
    return with_spec(jwt={"issuers": list(issuers or (ISSUER,))} | fields)


TEMPLATE: Document = {"spec": {"containers": [{"name": "app", "image": "registry.example/shop:1"}]}}
PEER: Document = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}

OUTBOX: Document = {"brokers": ["kafka:9092"]}

GOOD: dict[str, Document] = {
    "minimal": MINIMAL,
    "tokens": with_jwt(),
    "rates and identical requests by headers that tell nobody apart": with_spec(
        rateLimit={"mode": "Enforce", "limits": [{"name": "a", "by": "Header", "header": "x-api-key", "rate": 1}]},
        coalescing={"mode": "Enforce", "ignoredHeaders": ["user-agent"]},
        jwt={"issuers": [ISSUER]},
    ),
    "a tenant by the claim that the app gets as a header": with_spec(
        tenancy={"mode": "Enforce", "by": "Claim"},
        jwt={"issuers": [ISSUER], "claimHeaders": [{"claim": "tenant", "header": "x-tenant-id"}]},
    ),
    "tokens of two issuers": with_jwt(
        ISSUER, OWN_KEYS, openPaths=["/healthz", "/a/*"], claimHeaders=[{"claim": "sub", "header": "x-user"}]
    ),
    "tokens that may say anything": with_jwt(claimHeaders=[], source={"cookie": "token"}, cache={"entries": 0}),
    "longest name": named("a" * 53),
    "every duration form": with_spec(timeout="1h30m", streamIdleTimeout="1.5s", shutdown={"preStop": "250ms"}),
    "longest duration": with_spec(timeout="720h"),
    "no connection is ever too old": with_spec(pool={"maxAge": "0s"}),
    "shares": with_spec(pool={"jitter": "0%"}, retry={"budget": "12.5%"}),
    "highest share": with_spec(retry={"budget": "100%"}),
    "a spread that fits": with_spec(ports=[{"protocol": "websocket", "port": 80}], webSocket={"spread": "30s"}),
    "a spread without a WebSocket": with_spec(webSocket={"spread": "10m"}),
    "two ports": with_spec(
        ports=[
            {"port": 80, "appPort": 8080},
            {"name": "live", "protocol": "websocket", "port": 81},
        ]
    ),
    "environment": with_spec(
        env=[
            {"name": "MODE", "value": "fast"},
            {"name": "empty", "value": ""},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "password"}}},
        ]
    ),
    "quantities": with_spec(
        resources={"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 2, "memory": "1e9"}}
    ),
    "probe": with_spec(readinessProbe={"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5}),
    "upstream that inherits everything": with_upstream(),
    "upstream that differs": with_upstream(
        timeout="2s",
        circuitBreaker={"failureThreshold": 3, "openDuration": "10s"},
        retry={"mode": "Off", "backoff": {"base": "1ms"}},
        pool={"size": 1},
    ),
    "override that only works with the base": with_spec(
        circuitBreaker={"maxOpenDuration": "20m"},
        upstreams=[UPSTREAM | {"circuitBreaker": {"openDuration": "10m"}}],
    ),
    "same host, two ports": with_spec(upstreams=[UPSTREAM, UPSTREAM | {"name": "catalog-admin", "port": 9090}]),
    "most upstreams": with_spec(
        upstreams=[{"name": f"u{index}", "host": f"host-{index}", "port": 80} for index in range(64)]
    ),
    "nulls are fields left out": with_spec(command=None, replicas=None, sidecar=None, circuitBreaker={"mode": None}),
    "no pods": with_spec(replicas=0),
    "affinity": with_spec(sessionAffinity={"type": "ClientIP", "timeout": "24h"}),
    "sidecar": with_spec(
        sidecar={"image": "nova/sidecar:2", "logLevel": "debug", "resources": {"requests": {"cpu": 1}}}
    ),
    "rates by everything": with_spec(
        redis={"url": "redis://redis:6379/0"},
        rateLimit={
            "mode": "Enforce",
            "client": {"trustedCidrs": ["10.0.0.0/8", "fd00::/8"], "header": "forwarded", "ipv6Prefix": 56},
            "limits": [
                {"name": "clients", "rate": 100, "burst": 200},
                {"name": "keys", "by": "Header", "header": "x-api-key", "rate": 10, "period": "1m", "scope": "Global"},
                {"name": "subjects", "by": "Claim", "claim": "sub", "rate": 5, "paths": ["/login", "/s.S/*"]},
                {"name": "writes", "by": "All", "methods": ["POST", "PUT"], "rate": 5, "period": "24h"},
            ],
        },
    ),
    "tenants whose quotas fit": with_spec(
        backpressure={"maxConcurrency": 10, "threshold": 0.7},
        tenancy={
            "mode": "Enforce",
            "tenants": [{"name": "acme", "maxConcurrency": 4, "rate": 5}, {"name": "b", "maxConcurrency": 3}],
        },
    ),
    "tenants that are promised more than there is": with_spec(
        backpressure={"maxConcurrency": 10},
        tenancy={"mode": "Enforce", "overcommit": True, "tenants": [{"name": "acme", "maxConcurrency": 99}]},
    ),
    "no early rejection": with_spec(backpressure={"threshold": 1}),
    "fallback by age alone": with_upstream(fallback={"mode": "Shadow", "staleFor": "1m"}),
    "a whole pod": of(template=TEMPLATE | {"metadata": {"labels": {"team": "shop"}}}, appContainer="app"),
    "nothing beside a whole pod": of(template=TEMPLATE, command=[], args=[], env=[]),
    "somebody else's Deployment": of(workloadRef={"name": "old"}),
    "pods that are injected": of(workloadRef={"name": "old", "mode": "Inject"}, autoscaling={"maxReplicas": 9}),
    "autoscaling": with_spec(
        autoscaling={"maxReplicas": 9, "cpu": "80%", "memory": "90%", "concurrency": 50, "behavior": {"scaleDown": {}}}
    ),
    "spread": with_spec(topologySpread={"mode": "Required", "maxSkew": 2, "keys": ["rack"]}),
    "reached from outside": with_spec(
        ingress={"className": "nginx", "host": "shop.example", "tlsSecret": "shop-tls", "annotations": {"a/b": "c"}},
        gateway={"parentRefs": [{"name": "public"}], "hostnames": ["*.example"], "path": "/shop"},
        networkPolicy={"mode": "Enforce", "allowFrom": [PEER], "allowTo": [PEER]},
        monitoring={"interval": "10s", "labels": {"release": "prometheus"}},
        serviceAccount={"name": "shop", "automountToken": True},
    ),
    "sessions by cookie": with_spec(
        sessionAffinity={"type": "Cookie", "timeout": "720h", "cookie": {"sameSite": "None", "secure": True}}
    ),
    "sessions in Redis": with_spec(
        sessionAffinity={
            "type": "Redis",
            "redis": {"url": "redis+sentinel://a:26379,b:26379/main/0", "secret": "redis"},
        }
    ),
    "sessions in a Redis Cluster": with_spec(
        sessionAffinity={"type": "Redis", "redis": {"url": "redis+cluster://a:6379,b:6379"}}
    ),
    "a canary": with_spec(
        rollout={
            "strategy": "Canary",
            "steps": [{"weight": 5, "gate": True}, {"weight": 100, "hold": "1m"}],
            "checks": {"confidence": "99.9%", "maxLatencyRatio": 2, "maxErrorIncrease": "0.1%"},
            "weights": "Callers",
            "onInconclusive": "Abort",
            "sticky": True,
        }
    ),
    "found one by one": with_upstream(discovery="Endpoints", podPort=15101),
    "a database": with_spec(
        database={
            "secretRef": "shop-db",
            "migrations": {"configMap": "shop-migrations"},
            "softDelete": {"tables": ["posts", "shop.media"], "mode": "Refuse", "events": False},
            "indexes": [
                {"table": "posts", "columns": ["user_id", "created_at desc"], "where": "deleted_at IS NULL"},
                {"table": "posts", "columns": ["user_id", "created_at desc"], "name": "posts_of"},
            ],
            "lockTimeout": "10ms",
            "timeout": "1h",
        }
    ),
    "a database with the usual tables": with_spec(database={"secretRef": "d", "softDelete": {}}),
    "an outbox and its relays": with_spec(
        database={
            "secretRef": "d",
            "outbox": {
                "brokers": ["kafka-0.kafka.svc:9092", "10.1.2.3:9093", "[fd00::1]:9092"],
                "replicas": 3,
                "topicPrefix": "shop.",
                "kafka": {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
                "kafkaSecretRef": "shop-kafka",
                "retention": "720h",
            },
        }
    ),
    "an outbox without relays": with_spec(
        database={"secretRef": "d", "outbox": {"mode": "Off", "brokers": ["kafka:9092"]}}
    ),
    "migrations in an image": with_spec(database={"secretRef": "d", "migrations": {"image": "shop:1", "path": "/sql"}}),
    "least of what protects": with_spec(
        selfProtection={"maxLoopLag": "1ms", "maxMemory": "0.01%", "maxDescriptors": "1%"}
    ),
}


ONE_WORKLOAD = "exactly one of image, template and workloadRef must be set"
APART = (
    "coalescing.ignoredHeaders: cannot name jwt.source.header or one of jwt.claimHeaders, by which callers are told"
    " apart"
)
STEPS = "steps must rise, and the last one must have the weight 100"


class Bad(NamedTuple):
    """A document, what the model says of it, and what the API server's answer must contain."""

    document: Document
    model: str
    server: tuple[str, ...]


def _rule(document: Document, path: str, message: str) -> Bad:
    """A rule across fields: both judges use the same words, at the same place."""
    return Bad(document, f"$.{path}: {message}", (f"{path}: ", message))


BAD: dict[str, Bad] = {
    "nothing to run": _rule(without("image"), "spec", ONE_WORKLOAD),
    "image and template": _rule(with_spec(template=TEMPLATE), "spec", ONE_WORKLOAD),
    "template and workloadRef": _rule(of(template=TEMPLATE, workloadRef={"name": "old"}), "spec", ONE_WORKLOAD),
    "a command beside a template": _rule(
        of(template=TEMPLATE, command=["run"]),
        "spec",
        "imagePullPolicy, command, args, env, readinessProbe and livenessProbe go with image alone;"
        " with template or workloadRef they stand in the pod itself",
    ),
    "a canary of somebody else's Deployment": _rule(
        of(workloadRef={"name": "old"}, rollout={"strategy": "Canary"}),
        "spec",
        "rollout.strategy Canary is for services whose Deployment the operator makes, not for workloadRef",
    ),
    "a database of somebody else's Deployment": _rule(
        of(workloadRef={"name": "old"}, database={"secretRef": "d", "softDelete": {}}),
        "spec",
        "database is for services whose Deployment the operator makes, not for workloadRef: another one's rollout"
        " cannot be made to wait",
    ),
    "a password for Kafka in the open": _rule(
        with_spec(database={"secretRef": "d", "outbox": OUTBOX | {"kafka": {"sasl.password": "x"}}}),
        "spec.database.outbox",
        "kafka: settings that are secrets belong into the Secret of kafkaSecretRef",
    ),
    "a setting that the order hangs on": _rule(
        with_spec(database={"secretRef": "d", "outbox": OUTBOX | {"kafka": {"acks": "1"}}}),
        "spec.database.outbox",
        "kafka: bootstrap.servers, metadata.broker.list, acks, request.required.acks, enable.idempotence,"
        " enable.gapless.guarantee, message.timeout.ms, delivery.timeout.ms cannot be set, since the order of events"
        " hangs on them",
    ),
    "events that are kept for hours": _rule(
        with_spec(database={"secretRef": "d", "outbox": OUTBOX | {"retention": "6h"}}),
        "spec.database.outbox",
        "retention must be at least 24h, and ageAlert at least 1s",
    ),
    "a database with nothing to do": _rule(
        with_spec(database={"secretRef": "d", "indexes": []}),
        "spec.database",
        "at least one of migrations, softDelete, outbox and indexes must be set",
    ),
    "migrations from nowhere": _rule(
        with_spec(database={"secretRef": "d", "migrations": {"path": "/sql"}}),
        "spec.database.migrations",
        "exactly one of configMap and image must be set",
    ),
    "a lock that is waited for without end": _rule(
        with_spec(database={"secretRef": "d", "softDelete": {}, "lockTimeout": "61s"}),
        "spec.database",
        "lockTimeout must be from 10ms to 60s, and timeout longer than it",
    ),
    "a table that would have to be quoted": Bad(
        with_spec(database={"secretRef": "d", "softDelete": {"tables": ["posts; DROP TABLE users"]}}),
        "$.spec.database.softDelete.tables[0]: expected a table such as posts or shop.posts, in lower case",
        ("spec.database.softDelete.tables[0]: ", "should match"),
    ),
    "a column that is none": Bad(
        with_spec(database={"secretRef": "d", "indexes": [{"table": "posts", "columns": ["user_id down"]}]}),
        "$.spec.database.indexes[0].columns[0]: expected a column such as user_id, or created_at desc",
        ("spec.database.indexes[0].columns[0]: ", "should match"),
    ),
    "weights without a route": _rule(
        with_spec(rollout={"strategy": "Canary", "weights": "HTTPRoute"}),
        "spec",
        "rollout.weights HTTPRoute needs gateway",
    ),
    "steps that fall": _rule(with_spec(rollout={"steps": [{"weight": 50}, {"weight": 10}]}), "spec.rollout", STEPS),
    "steps without an end": _rule(
        with_spec(rollout={"steps": [{"weight": 10}, {"weight": 50}]}), "spec.rollout", STEPS
    ),
    "a verdict that is a guess": _rule(
        with_spec(rollout={"checks": {"confidence": "49.9%"}}),
        "spec.rollout.checks",
        "confidence must be at least 50% and below 100%",
    ),
    "fewer pods at most than at least": _rule(
        with_spec(autoscaling={"minReplicas": 3, "maxReplicas": 2}),
        "spec.autoscaling",
        "maxReplicas must be at least minReplicas",
    ),
    "pods that are busy with nothing": _rule(
        with_spec(autoscaling={"maxReplicas": 2, "cpu": "0.0%"}),
        "spec.autoscaling",
        "cpu and memory must be more than 0%",
    ),
    "a cookie that browsers refuse": _rule(
        with_spec(sessionAffinity={"type": "Cookie", "cookie": {"sameSite": "None"}}),
        "spec.sessionAffinity.cookie",
        "sameSite None needs secure: browsers refuse it otherwise",
    ),
    "Redis without Redis": _rule(
        with_spec(sessionAffinity={"type": "Redis"}), "spec.sessionAffinity", "type Redis needs redis, at least its url"
    ),
    "no time for Redis": _rule(
        with_spec(sessionAffinity={"type": "Redis", "redis": {"url": "redis://redis:6379", "timeout": "0s"}}),
        "spec.sessionAffinity.redis",
        "timeout must be longer than 0s and at most 5s",
    ),
    "an answer forgotten before it can be asked for": _rule(
        with_spec(idempotency={"keepFor": "59s"}),
        "spec.idempotency",
        "keepFor must be at least 1m: a repetition comes after the caller's own patience",
    ),
    "a pool forgotten between two reports": _rule(
        with_spec(poolGuard={"lifetime": "1s"}),
        "spec.poolGuard",
        "lifetime must be from 2s to 60s: an app without news reports once a second",
    ),
    "a password in the open": Bad(
        with_spec(sessionAffinity={"type": "Redis", "redis": {"url": "redis://me:secret@redis:6379"}}),
        "$.spec.sessionAffinity.redis.url: expected a URL such as redis://redis:6379/0, without name and password",
        ("spec.sessionAffinity.redis.url: ", "should match"),
    ),
    "scraped without a pause": _rule(
        with_spec(monitoring={"interval": "0s"}), "spec.monitoring", "interval must be at least 1s"
    ),
    "no ports": Bad(without("ports"), "$.spec: object missing required field ports", ("spec.ports: Required value",)),
    "empty ports": Bad(
        with_spec(ports=[]),
        "$.spec.ports: expected array of length >= 1",
        ("spec.ports: ", "should have at least 1 items"),
    ),
    "unknown field": Bad(
        with_spec(replica=2), "$.spec: object contains unknown field replica", ('unknown field "spec.replica"',)
    ),
    "unknown field of an override": Bad(
        with_upstream(retry={"attempt": 1}),
        "$.spec.upstreams[0].retry: object contains unknown field attempt",
        ('unknown field "spec.upstreams[0].retry.attempt"',),
    ),
    "name that is no Service's": Bad(
        named("9to5"),
        "$.metadata.name: expected lower case letters, digits and hyphens, a letter first and no hyphen last",
        ("metadata.name: ", "should match '^[a-z]([-a-z0-9]*[a-z0-9])?$'"),
    ),
    "name without room for its children's": Bad(
        named("a" * 54), "$.metadata.name: expected str of length <= 53", ("metadata.name: ", "53")
    ),
    "text for a number": Bad(
        with_spec(replicas="2"),
        "$.spec.replicas: expected int, got str",
        ("spec.replicas: ", 'must be of type integer: "string"'),
    ),
    "bare off": Bad(
        with_spec(accessLog={"mode": False}),
        "$.spec.accessLog.mode: expected str, got bool"
        " (YAML reads off, on, no and yes as booleans: write them in quotes)",
        ("spec.accessLog.mode: ", 'supported values: "Off", "Errors", "All"'),
    ),
    "negative replicas": Bad(
        with_spec(replicas=-1),
        "$.spec.replicas: expected int >= 0",
        ("spec.replicas: ", "should be greater than or equal to 0"),
    ),
    "port out of range": Bad(
        with_spec(ports=[{"port": 65536}]),
        "$.spec.ports[0].port: expected int <= 65535",
        ("spec.ports[0].port: ", "should be less than or equal to 65535"),
    ),
    "unknown protocol": Bad(
        with_spec(ports=[{"port": 80, "protocol": "ftp"}]),
        "$.spec.ports[0].protocol: expected one of http, websocket, grpc, tcp, got 'ftp'",
        ("spec.ports[0].protocol: ", 'supported values: "http", "websocket", "grpc", "tcp"'),
    ),
    "unknown close code": Bad(
        with_spec(webSocket={"closeCode": 1000}),
        "$.spec.webSocket.closeCode: expected one of 1001, 1012, got 1000",
        ("spec.webSocket.closeCode: ", 'supported values: "1001", "1012"'),
    ),
    "duration without a unit": Bad(
        with_spec(timeout="30"),
        "$.spec.timeout: expected a duration such as 250ms, 5s or 1h30m, got '30'",
        ("spec.timeout: ", "should match '^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$'"),
    ),
    "duration with a line feed": Bad(
        with_spec(timeout="30s\n"),
        "$.spec.timeout: expected a duration such as 250ms, 5s or 1h30m, got '30s\\n'",
        ("spec.timeout: ", "should match"),
    ),
    "duration as a number": Bad(
        with_spec(timeout=30),
        "$.spec.timeout: expected a duration such as 250ms, 5s or 1h30m, got 30",
        ("spec.timeout: ", "must be of type string"),
    ),
    "duration that is too long": Bad(
        with_spec(timeout="721h"),
        "$.spec.timeout: expected a duration of at most 720h, got '721h'",
        ("spec.timeout: ", "expected a duration of at most 720h"),
    ),
    "duration beyond any clock": Bad(
        with_spec(timeout="99999999999999999999h"),
        "$.spec.timeout: expected a duration of at most 720h, got '99999999999999999999h'",
        ("spec.timeout: ",),
    ),
    "share above one": Bad(
        with_spec(retry={"budget": "101%"}),
        "$.spec.retry.budget: expected a share such as 20%, from 0% to 100%, got '101%'",
        ("spec.retry.budget: ", "should match"),
    ),
    "threshold of nothing": Bad(
        with_spec(backpressure={"threshold": 0}),
        "$.spec.backpressure.threshold: expected float > 0.0",
        ("spec.backpressure.threshold: ", "should be greater than 0"),
    ),
    "header name with a line feed": Bad(
        with_spec(correlation={"header": "x-id\n"}),
        "$.spec.correlation.header: expected the name of a header in lower case, such as x-request-id",
        ("spec.correlation.header: ", "should match '^[a-z0-9-]{1,64}$'"),
    ),
    "host that is an URL": Bad(
        with_upstream(host="http://catalog"),
        "$.spec.upstreams[0].host: expected a host name in lower case, such as auth-service or auth.shop.svc",
        ("spec.upstreams[0].host: ", "should match"),
    ),
    "quantity without sense": Bad(
        with_spec(resources={"requests": {"cpu": "fast"}}),
        "$.spec.resources.requests[...]: expected a quantity such as 100m, 0.5 or 64Mi",
        ("spec.resources.requests.cpu: ", "should match"),
    ),
    "too many upstreams": Bad(
        with_spec(upstreams=[{"name": f"u{index}", "host": f"host-{index}", "port": 80} for index in range(65)]),
        "$.spec.upstreams: expected array of length <= 64",
        ("spec.upstreams: ", "must have at most 64 items"),
    ),
    "override out of range": Bad(
        with_upstream(circuitBreaker={"successThreshold": 0}),
        "$.spec.upstreams[0].circuitBreaker.successThreshold: expected int >= 1",
        ("spec.upstreams[0].circuitBreaker.successThreshold: ", "should be greater than or equal to 1"),
    ),
    "override of a nested field": Bad(
        with_upstream(retry={"backoff": {"base": "soon"}}),
        "$.spec.upstreams[0].retry.backoff.base: expected a duration such as 250ms, 5s or 1h30m, got 'soon'",
        ("spec.upstreams[0].retry.backoff.base: ", "should match"),
    ),
    "override with an unknown value": Bad(
        with_upstream(retry={"when": ["always"]}),
        "$.spec.upstreams[0].retry.when[0]:"
        " expected one of connect-failure, reset, timeout, 502, 503, 504, unavailable, resource-exhausted, aborted,"
        " got 'always'",
        ("spec.upstreams[0].retry.when[0]: ", 'supported values: "connect-failure"'),
    ),
    "two ports of one name": Bad(
        with_spec(ports=[{"port": 80}, {"port": 81}]),
        "$.spec: ports: names must be unique",
        ("spec.ports[1]: Duplicate value", '"name":"http"'),
    ),
    "two variables of one name": Bad(
        with_spec(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "$.spec: env: names must be unique",
        ("spec.env[1]: Duplicate value", '"name":"A"'),
    ),
    "two upstreams of one name": Bad(
        with_spec(upstreams=[UPSTREAM, UPSTREAM | {"port": 81}]),
        "$.spec: upstreams: names must be unique",
        ("spec.upstreams[1]: Duplicate value", '"name":"catalog"'),
    ),
    "two ports of one number": _rule(
        with_spec(ports=[{"port": 80}, {"name": "more", "port": 80}]), "spec", "ports: port numbers must be unique"
    ),
    "two upstreams of one address": _rule(
        with_spec(upstreams=[UPSTREAM, UPSTREAM | {"name": "again"}]),
        "spec",
        "upstreams: the pair of host and port must be unique",
    ),
    "no time at all": _rule(with_spec(timeout="0s"), "spec", "timeout and streamIdleTimeout must be longer than 0s"),
    "no time for an upstream": _rule(
        with_upstream(connectTimeout="0ms"),
        "spec.upstreams[0]",
        "timeout, attemptTimeout, connectTimeout and streamIdleTimeout must be longer than 0s",
    ),
    "value twice": _rule(
        with_spec(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "spec.env[0]",
        "value and valueFrom must not both be set",
    ),
    "open longer than the longest": _rule(
        with_spec(circuitBreaker={"openDuration": "10m"}),
        "spec.circuitBreaker",
        "openDuration must not be longer than maxOpenDuration",
    ),
    "open for no time": _rule(
        with_spec(circuitBreaker={"openDuration": "0s"}),
        "spec.circuitBreaker",
        "openDuration must be longer than 0s",
    ),
    "window too long": _rule(
        with_spec(circuitBreaker={"window": {"duration": "10m"}}),
        "spec.circuitBreaker.window",
        "duration must be from 1s to 300s",
    ),
    "endpoints out for too long": _rule(
        with_spec(circuitBreaker={"endpoints": {"ejectDuration": "10m"}}),
        "spec.circuitBreaker.endpoints",
        "ejectDuration must be longer than 0s and not longer than maxEjectDuration",
    ),
    "backoff upside down": _rule(
        with_spec(retry={"backoff": {"base": "1s"}}), "spec.retry.backoff", "base must not be longer than max"
    ),
    "affinity for too long": _rule(
        with_spec(sessionAffinity={"type": "ClientIP", "timeout": "25h"}),
        "spec.sessionAffinity",
        "timeout must be at least 1s, and at most 24h with ClientIP",
    ),
    "grace too short for WebSockets": _rule(
        with_spec(ports=[{"protocol": "websocket", "port": 80}], webSocket={"spread": "31s"}),
        "spec",
        "shutdown.gracePeriod must be at least preStop + webSocket.spread + 5s"
        " where a port has the protocol websocket, so that every connection can be closed in good order",
    ),
    "grace too short for WebSockets whose spread nobody wrote": _rule(
        with_spec(ports=[{"protocol": "websocket", "port": 80}], shutdown={"gracePeriod": "34s"}),
        "spec",
        "shutdown.gracePeriod must be at least preStop + webSocket.spread + 5s"
        " where a port has the protocol websocket, so that every connection can be closed in good order",
    ),
    "grace too short": _rule(
        with_spec(shutdown={"preStop": "30s", "gracePeriod": "34s"}),
        "spec.shutdown",
        "gracePeriod must be at least preStop + 5s, the time in which requests in flight can finish",
    ),
    "a limit of nothing": _rule(
        with_spec(rateLimit={"mode": "Shadow"}),
        "spec.rateLimit",
        "mode needs at least one of limits, or there is nothing to do",
    ),
    "a limit by a header without its name": _rule(
        with_spec(rateLimit={"limits": [{"name": "keys", "by": "Header", "rate": 1}]}),
        "spec.rateLimit.limits[0]",
        "by Header needs header, by Claim needs claim, and neither goes with anything else",
    ),
    "a period in parts of a second": _rule(
        with_spec(rateLimit={"limits": [{"name": "all", "rate": 1, "period": "1500ms"}]}),
        "spec.rateLimit.limits[0]",
        "period must be whole seconds, from 1s to 24h",
    ),
    "two limits of one name": Bad(
        with_spec(rateLimit={"limits": [{"name": "all", "rate": 1}, {"name": "all", "rate": 2}]}),
        "$.spec.rateLimit: limits: names must be unique",
        ("spec.rateLimit.limits", "Duplicate value"),
    ),
    "two tenants of one name": Bad(
        with_spec(tenancy={"tenants": [{"name": "acme"}, {"name": "acme", "weight": 2}]}),
        "$.spec.tenancy: tenants: names must be unique",
        ("spec.tenancy.tenants", "Duplicate value"),
    ),
    "a network that is none": Bad(
        with_spec(rateLimit={"client": {"trustedCidrs": ["10.0.0.0/33"]}}),
        "$.spec.rateLimit.client.trustedCidrs[0]: expected a network such as 10.0.0.0/8 or fd00::/8",
        ("spec.rateLimit.client.trustedCidrs[0]", "should match"),
    ),
    "proxies by number and by network": _rule(
        with_spec(rateLimit={"client": {"trustedProxies": 1, "trustedCidrs": ["10.0.0.0/8"]}}),
        "spec.rateLimit.client",
        "trustedProxies and trustedCidrs exclude each other",
    ),
    "counted together without a Redis": _rule(
        with_spec(rateLimit={"mode": "Enforce", "limits": [{"name": "all", "rate": 1, "scope": "Global"}]}),
        "spec",
        "rateLimit.limits and tenancy: scope Global needs redis, in which all pods count together",
    ),
    "a burst of no rate": _rule(
        with_spec(tenancy={"tenants": [{"name": "acme", "burst": 3}]}),
        "spec.tenancy.tenants[0]",
        "burst goes with rate",
    ),
    "a share of nothing": _rule(
        with_spec(tenancy={"default": {"maxShare": "0%"}}), "spec.tenancy.default", "maxShare must be more than 0%"
    ),
    "a tenant called as all others": _rule(
        with_spec(tenancy={"tenants": [{"name": "other"}]}),
        "spec.tenancy",
        "tenants: other is the name of all tenants that have none here",
    ),
    "tenants that are promised too much": _rule(
        with_spec(
            backpressure={"maxConcurrency": 10, "threshold": 0.7},
            tenancy={
                "mode": "Enforce",
                "tenants": [{"name": "acme", "maxConcurrency": 4}, {"name": "b", "maxConcurrency": 4}],
            },
        ),
        "spec",
        "tenancy.tenants: the maxConcurrency of all of them must not be more than backpressure lets in at once"
        " (maxConcurrency x threshold), or they promise what is not there; overcommit allows it",
    ),
    "tenants that are promised more than the bound that nobody wrote": _rule(
        with_spec(tenancy={"mode": "Enforce", "tenants": [{"name": "acme", "maxConcurrency": 436}]}),
        "spec",
        "tenancy.tenants: the maxConcurrency of all of them must not be more than backpressure lets in at once"
        " (maxConcurrency x threshold), or they promise what is not there; overcommit allows it",
    ),
    "fallback with nothing to answer": _rule(
        with_upstream(fallback={"mode": "Enforce"}),
        "spec.upstreams[0].fallback",
        "mode needs a body or a staleFor longer than 0s, or there is nothing to answer with",
    ),
    "fallback where it cannot be": _rule(
        with_upstream(protocol="grpc", fallback={"mode": "Enforce", "body": "{}"}),
        "spec.upstreams[0]",
        "fallback is only for the protocol http",
    ),
    "an id in place of the host": _rule(
        with_spec(correlation={"header": "host"}),
        "spec.correlation",
        "header must not be one that frames, routes or authenticates requests, such as host or cookie",
    ),
    "a path that is appended": _rule(
        with_spec(tracing={"endpoint": "http://otel-collector:4318/v1/traces"}),
        "spec.tracing",
        "endpoint must be written without /v1/traces, which is appended",
    ),
    "protection that refuses everything": _rule(
        with_spec(selfProtection={"maxMemory": "0.0%"}),
        "spec.selfProtection",
        "maxLoopLag, maxMemory and maxDescriptors must be more than 0; at 0 all would be refused",
    ),
    "coalescing that waits for ever": _rule(
        with_spec(coalescing={"patience": "2m"}), "spec.coalescing", "patience must be from 10ms to 60s"
    ),
    "clients that may hold others up for ever": _rule(
        with_spec(coalescing={"maxHoldUp": "11m"}), "spec.coalescing", "maxHoldUp must be at most 10m"
    ),
    "coalescing across users": _rule(
        with_spec(coalescing={"ignoredHeaders": ["user-agent", "cookie"]}),
        "spec.coalescing",
        "ignoredHeaders must not name authorization, cookie or host",
    ),
    "an issuer without keys": _rule(
        with_jwt({"issuer": "a", "audiences": ["b"]}),
        "spec.jwt.issuers[0]",
        "exactly one of jwksUrl and keys must be set",
    ),
    "an issuer with both": _rule(
        with_jwt(ISSUER | {"keys": OWN_KEYS["keys"]}),
        "spec.jwt.issuers[0]",
        "exactly one of jwksUrl and keys must be set",
    ),
    "a certificate for plain HTTP": _rule(
        with_jwt(ISSUER | {"jwksUrl": "http://auth/keys", "secret": "auth"}),
        "spec.jwt.issuers[0]",
        "secret is for a jwksUrl that begins with https://",
    ),
    "keys fetched all the time": _rule(
        with_jwt(ISSUER | {"refresh": "9s"}),
        "spec.jwt.issuers[0]",
        "refresh must be at least 10s, and staleFor at least as long",
    ),
    "half a key": _rule(
        with_jwt(OWN_KEYS | {"keys": [{"kty": "EC", "crv": "P-256", "x": "AQ"}]}),
        "spec.jwt.issuers[0].keys[0]",
        "an RSA key has n and e; an EC key crv (P-256, P-384 or P-521), x and y; an OKP key crv (Ed25519) and x",
    ),
    "a claim in place of the host": _rule(
        with_jwt(claimHeaders=[{"claim": "sub", "header": "host"}]),
        "spec.jwt.claimHeaders[0]",
        "header must not be one that frames, routes, authenticates or traces requests, nor Nova's own",
    ),
    "a claim in place of the token": _rule(
        with_jwt(source={"header": "x-token"}, claimHeaders=[{"claim": "sub", "header": "x-token"}]),
        "spec.jwt",
        "claimHeaders: the header that the token comes in cannot be one of them",
    ),
    "a claim in place of the id": _rule(
        with_jwt(claimHeaders=[{"claim": "sub", "header": "x-correlation-id"}]),
        "spec",
        "jwt.claimHeaders: a claim cannot come in the header of the correlation id",
    ),
    "a tenant in a header that has a claim": _rule(
        with_spec(
            tenancy={"mode": "Enforce", "header": "x-tenant"},
            jwt={"issuers": [ISSUER], "claimHeaders": [{"claim": "tenant", "header": "x-tenant"}]},
        ),
        "spec",
        "tenancy.header: cannot be one of jwt.claimHeaders, which no caller can set; use by: Claim",
    ),
    "a rate by a header that has a claim": _rule(
        with_spec(
            rateLimit={"mode": "Enforce", "limits": [{"name": "a", "by": "Header", "header": "x-user", "rate": 1}]},
            jwt={"issuers": [ISSUER], "claimHeaders": [{"claim": "sub", "header": "x-user"}]},
        ),
        "spec",
        "rateLimit.limits: header cannot be one of jwt.claimHeaders, which no caller can set; use by: Claim",
    ),
    "one caller's answer for another, by the token": _rule(
        with_spec(
            coalescing={"mode": "Enforce", "ignoredHeaders": ["user-agent", "x-token"]},
            jwt={"issuers": [ISSUER], "source": {"header": "x-token"}},
        ),
        "spec",
        APART,
    ),
    "one caller's answer for another, by a claim": _rule(
        with_spec(
            coalescing={"mode": "Shadow", "ignoredHeaders": ["x-user"]},
            jwt={"issuers": [ISSUER], "claimHeaders": [{"claim": "sub", "header": "x-user"}]},
        ),
        "spec",
        APART,
    ),
    "a token in place of the framing": _rule(
        with_jwt(source={"header": "te"}),
        "spec.jwt.source",
        "header must not be one that frames or routes requests; a cookie has a field of its own",
    ),
    "clocks that agree on nothing": _rule(
        with_jwt(leeway="6m"), "spec.jwt", "leeway must be at most 5m, and cache.lifetime longer than 0s"
    ),
    "an issuer twice": Bad(
        with_jwt(ISSUER, ISSUER),
        "$.spec.jwt: issuers: each issuer must be listed once",
        ("spec.jwt.issuers[1]: Duplicate value", '"issuer":"https://auth.example"'),
    ),
    "a claim required twice": Bad(
        with_jwt(requiredClaims=[{"claim": "sub"}, {"claim": "sub"}]),
        "$.spec.jwt: requiredClaims: each claim must be listed once",
        ("spec.jwt.requiredClaims[1]: Duplicate value", '"claim":"sub"'),
    ),
    "two claims for one header": Bad(
        with_jwt(claimHeaders=[{"claim": "sub", "header": "x-user"}, {"claim": "email", "header": "x-user"}]),
        "$.spec.jwt: claimHeaders: each header must be listed once",
        ("spec.jwt.claimHeaders[1]: Duplicate value", '"header":"x-user"'),
    ),
    "an algorithm with a shared secret": Bad(
        with_jwt(ISSUER | {"algorithms": ["HS256"]}),
        "$.spec.jwt.issuers[0].algorithms[0]: expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,"
        " ES512, EdDSA, Ed25519, got 'HS256'",
        ("spec.jwt.issuers[0].algorithms[0]: ", "supported values"),
    ),
    "a private key": Bad(
        with_jwt(OWN_KEYS | {"keys": [OWN_KEYS["keys"][0] | {"d": "AQ"}]}),
        "$.spec.jwt.issuers[0].keys[0]: object contains unknown field d",
        ('unknown field "spec.jwt.issuers[0].keys[0].d"',),
    ),
    "a cache of last year": _rule(
        with_spec(cache={"staleIfError": "169h"}),
        "spec.cache",
        "staleWhileRevalidate must be at most 24h and staleIfError at most 168h",
    ),
}
