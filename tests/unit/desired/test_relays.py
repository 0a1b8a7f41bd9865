"""The relays of an outbox: what is made of them, when, and what is said of them."""

import argparse
from typing import Any

import msgspec
import pytest

from nova_api import names
from nova_api.database import DatabasePolicy
from nova_api.errors import ConfigError
from nova_api.model import convert, decode_json
from nova_api.outbox import Outbox
from nova_api.v1alpha1 import NovaService
from nova_data.commands.relay import add as add_relay
from nova_operator import database, reasons
from nova_operator.conditions import assess
from nova_operator.database import DatabaseState, Scene, hold
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.metadata import Manifest
from nova_operator.immutable import stuck
from nova_operator.observation import Observation, RelayState
from nova_operator.pods import PodView, Trouble, view
from nova_operator.relays import state_of
from nova_operator.verdict import Verdict

EVERYTHING = Platform(pod_monitors=True, prometheus_rules=True)
DEFAULTS = Defaults(sidecar_image="sidecar:test", sidecar_requests={}, data_image="data:test", platform=EVERYTHING)
OUTBOX: Any = {"brokers": ["kafka-0.kafka:9092", "kafka-1.kafka:9092"]}
LABELS = {"nova.dev/tool-of": "shop", "app.kubernetes.io/name": "shop-relay"}


def service(outbox: Any = None, **spec: Any) -> NovaService:
    metadata = {"name": "shop", "namespace": "market", "uid": "u-1", "generation": 1}
    body = {"image": "shop:1", "ports": [{"port": 8080}], "replicas": 2, **spec}
    body["database"] = {"secretRef": "shop-db", "outbox": OUTBOX | (outbox or {})}
    document = {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}
    return convert(document, NovaService)


def children(outbox: Any = None, defaults: Defaults = DEFAULTS, **spec: Any) -> dict[str, Manifest]:
    """Those of relays, by kind."""
    made = desired_state(service(outbox, **spec), defaults)
    return {one["kind"]: one for one in made if one["metadata"]["name"] == "shop-relay"}


def container(outbox: Any = None) -> Manifest:
    (one,) = children(outbox)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def test_there_is_nothing_of_them_without_an_outbox_or_with_mode_off() -> None:
    assert children({"mode": "Off"}) == {}
    assert list(children()) == ["PodDisruptionBudget", "PodMonitor", "PrometheusRule", "Deployment"]


def test_they_pass_pod_security_restricted_and_get_the_database_from_its_secret() -> None:
    made = children()["Deployment"]
    template, (one,) = made["spec"]["template"], made["spec"]["template"]["spec"]["containers"]
    assert (made["spec"]["replicas"], one["image"]) == (2, "data:test")
    assert made["spec"]["selector"] == {"matchLabels": LABELS}
    assert template["metadata"]["labels"] == LABELS
    assert names.LABEL_SERVICE not in template["metadata"]["labels"]  # the Service must not lead to them
    assert one["env"] == [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "shop-db", "key": "url"}}}]
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one["securityContext"]["readOnlyRootFilesystem"]
    assert template["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert template["spec"]["automountServiceAccountToken"] is False
    assert one["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}}
    assert one["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert one["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}


def test_what_the_spec_says_of_kafka_reaches_the_relay() -> None:
    """The command line is read by the command itself."""
    kafka = {"security.protocol": "SSL", "client.rack": "a=b"}
    words = container({"kafka": kafka, "topicPrefix": "-shop.", "retention": "50h"})["args"]
    parser = argparse.ArgumentParser()
    add_relay(parser.add_subparsers())
    given = parser.parse_args([*words, "--database", "postgresql://x"])
    assert (given.brokers, given.topic_prefix) == ("kafka-0.kafka:9092,kafka-1.kafka:9092", "-shop.")
    assert (dict(given.kafka), given.keep, given.port) == (kafka, 3, 9464)


def test_the_kubelet_puts_nothing_secret_into_arguments() -> None:
    """`$(NAME)` would be the value of the variable, `$$(NAME)` is `$(NAME)`."""
    words = container({"kafka": {"client.rack": "$(DATABASE_URL) $$"}})["args"]
    assert words[-1] == "--kafka=client.rack=$$(DATABASE_URL) $$$$"


def test_what_is_secret_comes_as_files() -> None:
    one = container({"kafkaSecretRef": "shop-kafka"})
    pod = children({"kafkaSecretRef": "shop-kafka"})["Deployment"]["spec"]["template"]["spec"]
    assert one["args"][-1] == "--kafka-file=/etc/nova-kafka"
    assert one["volumeMounts"] == [{"name": "kafka", "mountPath": "/etc/nova-kafka", "readOnly": True}]
    assert pod["volumes"] == [{"name": "kafka", "secret": {"secretName": "shop-kafka"}}]


@pytest.mark.parametrize(
    ("outbox", "rule"),
    [
        ({"kafka": {"sasl.password": "hunter2"}}, "settings that are secrets belong into the Secret"),
        ({"kafka": {"request.required.acks": "0"}}, "cannot be set, since the order of events hangs on them"),
        ({"kafka": {"metadata.broker.list": "a:1"}}, "cannot be set, since the order of events hangs on them"),
        ({"kafka": {"acks": "0"}}, "cannot be set, since the order of events hangs on them"),
        ({"retention": "23h"}, "retention must be at least 24h"),
        ({"brokers": ["kafka"]}, "expected a host and a port such as kafka:9092"),
        ({"brokers": []}, "length >= 1"),
        ({"topicPrefix": "a/b"}, "letters, digits, dots, hyphens and underscores"),
    ],
)
def test_what_cannot_work_is_refused_with_the_rule(outbox: Any, rule: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        service(outbox)
    assert rule in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_single_relay_has_no_budget() -> None:
    assert "PodDisruptionBudget" not in children({"replicas": 1})
    assert children()["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": LABELS}


def test_they_reach_what_the_service_may_reach_and_the_brokers() -> None:
    upstreams = [
        {"name": "db", "host": "db.data.svc", "port": 5432, "protocol": "tcp"},
        {"name": "web", "host": "web.other.svc", "port": 80},
    ]
    allowed = {"mode": "Enforce", "allowTo": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]}
    policy = children(networkPolicy=allowed, upstreams=upstreams)["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": LABELS}
    assert policy["ingress"] == [{"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 9464}]}]
    _, *egress = policy["egress"]
    namespaces = [
        rule["to"][0]["namespaceSelector"]["matchLabels"] for rule in egress if "namespaceSelector" in str(rule)
    ]
    assert [one["kubernetes.io/metadata.name"] for one in namespaces] == ["kafka", "data"]
    assert {"ports": [{"protocol": "TCP", "port": 9092}]} in egress  # kafka-0.kafka may be a name of the internet
    assert egress[-1] == {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]}
    assert "NetworkPolicy" not in children()
    unwatched = children(networkPolicy=allowed, monitoring={"mode": "Off"})
    assert unwatched["NetworkPolicy"]["spec"]["ingress"] == []
    assert not {"PodMonitor", "PrometheusRule"} & unwatched.keys()


def test_they_are_watched_where_the_cluster_has_the_kinds() -> None:
    bare = msgspec.structs.replace(DEFAULTS, platform=Platform())
    assert not {"PodMonitor", "PrometheusRule"} & children(defaults=bare).keys()
    monitor = children(monitoring={"interval": "15s", "labels": {"release": "p"}})["PodMonitor"]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "15s"}]
    assert (monitor["spec"]["jobLabel"], monitor["metadata"]["labels"]["release"]) == ("app.kubernetes.io/name", "p")


def test_alerts_are_those_of_the_spec() -> None:
    (group,) = children({"backlogAlert": 250, "ageAlert": "90s"})["PrometheusRule"]["spec"]["groups"]
    expressions = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    of = '{namespace="market",job="shop-relay"}'
    assert expressions == {
        "NovaOutboxBacklog": f"max(nova_outbox_backlog{of}) >= 250",
        "NovaOutboxLate": f"max(nova_outbox_oldest_seconds{of}) >= 90",
        "NovaOutboxQuarantined": f"max(nova_outbox_quarantined{of}) > 0",
        "NovaOutboxUnattended": f"(sum(nova_outbox_slots{of}) or vector(0)) < 16",
    }


# --- the Job makes the tables first


def job(outbox: Any = None) -> Manifest:
    return next(one for one in desired_state(service(outbox), DEFAULTS) if one["kind"] == "Job")


def test_the_job_makes_the_tables_and_does_not_run_for_what_concerns_relays_alone() -> None:
    (one,) = job()["spec"]["template"]["spec"]["containers"]
    words = dict(zip(one["args"][1::2], one["args"][2::2], strict=True))
    assert words["--service"] == "shop"
    asked = decode_json(words["--spec"].encode(), DatabasePolicy).outbox
    assert asked == Outbox(brokers=tuple(OUTBOX["brokers"]))
    assert stuck(job({"replicas": 5, "backlogAlert": 7, "kafka": {"linger.ms": "1"}}), job()) is None
    assert stuck(job({"mode": "Off"}), job()) is None


def relays_among(made: tuple[Manifest, ...]) -> Manifest | None:
    found = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "shop-relay"]
    return found[0] if found else None


def scene(of: NovaService | None = None, *, complete: bool = False, relay: Manifest | None = None) -> Scene:
    made = {
        one["kind"]: one for one in desired_state(of or service(), DEFAULTS) if one["metadata"]["name"] != "shop-relay"
    }
    conditions = [{"type": "Complete", "status": "True"}] if complete else []
    job = {**made["Job"], "metadata": {**made["Job"]["metadata"], "uid": "j-1"}, "status": {"conditions": conditions}}
    return Scene(job=job, stable=made["Deployment"], canary=None, config_map=made["ConfigMap"], relay=relay)


def test_the_first_relays_are_made_when_the_tables_are_there() -> None:
    desired = desired_state(service(), DEFAULTS)
    waiting, _ = hold(desired, scene())
    assert relays_among(waiting) is None
    assert [one["kind"] for one in waiting if one["metadata"]["name"] == "shop"] == [
        one["kind"] for one in desired if one["metadata"]["name"] == "shop"
    ]
    ready, _ = hold(desired, scene(complete=True))
    assert ready == desired


def test_relays_that_there_are_stay_as_they_are_meanwhile() -> None:
    old = relays_among(desired_state(service({"topicPrefix": "old."}), DEFAULTS))
    assert old is not None
    new = service({"topicPrefix": "new.", "replicas": 3})
    kept = relays_among(hold(desired_state(new, DEFAULTS), scene(new, relay=old))[0])
    assert kept is not None
    assert kept["spec"]["template"] == old["spec"]["template"]
    assert kept["spec"]["replicas"] == 3


# --- what is said of them

ROLLED_OUT = {
    "metadata": {"generation": 1},
    "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
}
DONE = DatabaseState(phase="Done", message="")


def pod(**status: Any) -> PodView:
    metadata = {"name": "shop-relay-1", "uid": "p-1", "resourceVersion": "1", "labels": LABELS}
    return view({"metadata": metadata, "status": status})


def state(outbox: Any = None, **given: Any) -> RelayState:
    policy = service(outbox).spec.database
    assert policy is not None
    assert policy.outbox is not None
    return state_of("shop", policy.outbox, **{"prepared": DONE, "deployment": ROLLED_OUT, "pods": (), **given})


def said(outbox: Any = None, **given: Any) -> tuple[str, str, str]:
    verdict = state(outbox, **given).verdict
    return verdict.status, verdict.reason, verdict.message


def test_relays_that_are_ready_reach_both() -> None:
    assert said() == ("True", reasons.RELAYS_READY, "all 2 relays reach PostgreSQL and Kafka")


def test_relays_that_are_not_say_where_to_look() -> None:
    behind = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "replicas": 2, "availableReplicas": 1}}
    status, reason, message = said(deployment=behind)
    assert (status, reason) == ("False", reasons.RELAYS_NOT_READY)
    assert message.startswith("1 of 2 relays are ready")
    assert "kubectl logs deployment/shop-relay" in message


def test_a_secret_that_cannot_be_mounted_is_named() -> None:
    scheduled = {"type": "PodScheduled", "status": "True"}
    waits = pod(conditions=[scheduled, {"type": "PodReadyToStartContainers", "status": "False"}])
    _, reason, message = said({"kafkaSecretRef": "shop-kafka"}, deployment={"metadata": {}}, pods=(waits,))
    assert reason == reasons.RELAYS_NOT_READY
    assert "is Secret/shop-kafka there? see: kubectl describe pod shop-relay-1" in message


def test_what_keeps_a_relay_from_running_is_degraded_and_nothing_else() -> None:
    words = "couldn't find key url in Secret market/shop-db"
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    ill = pod(containerStatuses=[{"name": "relay", "image": "data:test", "state": waiting}])
    found = state(pods=(ill,))
    assert (found.verdict.reason, words in found.verdict.message) == (reasons.CONTAINER_REFUSED, True)
    assert "as soon as that is there it goes on by itself" in found.verdict.message
    verdicts = assess(seen(found), ())
    assert verdicts["Degraded"] == Verdict("True", reasons.CONTAINER_REFUSED, found.verdict.message)
    assert (verdicts["Ready"].status, verdicts["Progressing"].reason) == ("True", reasons.NO_PODS)  # and not Stalled
    assert "Stalled" not in verdicts


def seen(relays: RelayState) -> Observation:
    return Observation(replicas=2, deployment=ROLLED_OUT, pods=(), reports={}, config_hash="0", relays=relays)


def test_the_first_ones_wait_for_the_database_and_say_why() -> None:
    trouble = Trouble(reasons.IMAGE_PULL_FAILED, "no image")
    stuck = DatabaseState(phase="Stuck", message="no image", reason=trouble.reason)
    assert database.trouble(stuck) == trouble
    assert said(prepared=stuck, deployment=None)[:2] == ("False", reasons.IMAGE_PULL_FAILED)
    preparing = DatabaseState(phase="Preparing", message="")
    assert said(prepared=preparing, deployment=None)[:2] == ("False", reasons.DATABASE_PREPARING)


def test_mode_off_says_that_events_wait() -> None:
    status, reason, message = said({"mode": "Off"}, deployment=None)
    assert (status, reason) == ("False", reasons.RELAYS_OFF)
    assert "events wait in the outbox" in message
