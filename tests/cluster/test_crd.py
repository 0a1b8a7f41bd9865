"""The CustomResourceDefinition as a real API server sees it."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from nova_api import schema
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import GROUP, PLURAL, VERSION, NovaService
from nova_cli.cluster.toolchain import kubectl as find_kubectl
from nova_cli.console import Console
from tests.documents import BAD, GOOD, Bad, Document, named, with_spec, with_upstream

REPOSITORY = Path(__file__).resolve().parents[2]
CRD = REPOSITORY / "crds" / f"{PLURAL}.{GROUP}.yaml"
EXAMPLES = REPOSITORY / "examples"
NAMESPACE = "crd-tests"

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kubectl(apiserver: Path) -> Kubectl:
    """Runs kubectl; returns what it prints, raises CalledProcessError with what it says."""
    program = find_kubectl(Console())

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [str(program), f"--kubeconfig={apiserver}", "--request-timeout=20s", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def services(apiserver: Path, kubectl: Kubectl) -> Iterator[client.CustomObjectsApi]:
    """The API of NovaServices, with the definition installed and a namespace to use."""
    kubectl("apply", "--server-side", "--filename", str(CRD))
    names = "--for=jsonpath={.status.acceptedNames.plural}=" + PLURAL
    kubectl("wait", names, f"crd/{PLURAL}.{GROUP}", "--timeout=20s")  # it fails while there are no conditions at all
    kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=20s")
    kubectl("create", "namespace", NAMESPACE)
    with config.new_client_from_config(str(apiserver)) as api:
        yield client.CustomObjectsApi(api)


def create(services: client.CustomObjectsApi, document: Document, **options: Any) -> Document:
    """Create the object as kubectl would: unknown fields are errors. `dry_run="All"` keeps nothing."""
    answer: Document = services.create_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, PLURAL, document, field_validation="Strict", _request_timeout=20, **options
    )
    return answer


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_a_good_document_is_taken_and_its_defaults_are_the_models(
    services: client.CustomObjectsApi, document: Document
) -> None:
    stored = create(services, document, dry_run="All")
    written = document | {"metadata": document["metadata"] | {"namespace": NAMESPACE}}
    assert resolve(convert(stored, NovaService)) == resolve(convert(written, NovaService))


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_taken(services: client.CustomObjectsApi, kubectl: Kubectl, example: Path) -> None:
    said = kubectl("apply", "--dry-run=server", "--namespace", NAMESPACE, "--filename", str(example))
    written = [one for one in yaml.safe_load_all(example.read_text()) if one["kind"] == "NovaService"]
    assert all(f"novaservice.nova.dev/{one['metadata']['name']} created" in said for one in written)
    assert written


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_document_is_refused_with_field_and_rule(services: client.CustomObjectsApi, bad: Bad) -> None:
    with pytest.raises(ApiException) as refused:
        create(services, bad.document, dry_run="All")
    message = json.loads(refused.value.body)["message"]
    assert [part for part in bad.server if part not in message] == [], message


def test_overrides_keep_only_what_was_written(services: client.CustomObjectsApi) -> None:
    stored = create(services, with_upstream(circuitBreaker={"failureThreshold": 5}), dry_run="All")
    assert stored["spec"]["upstreams"][0]["circuitBreaker"] == {"failureThreshold": 5}
    assert stored["spec"]["ports"] == [{"name": "http", "port": 8080, "protocol": "http"}]


def test_a_section_that_nobody_wrote_is_not_stored_and_one_that_somebody_began_is_whole(
    services: client.CustomObjectsApi,
) -> None:
    stored = create(services, with_spec(retry={"attempts": 2}, shutdown={}), dry_run="All")["spec"]
    assert "circuitBreaker" not in stored
    assert stored["timeout"] == "30s"
    assert stored["shutdown"] == {"preStop": "10s", "gracePeriod": "45s"}
    assert (stored["retry"]["attempts"], stored["retry"]["mode"]) == (2, "Enforce")
    assert "backoff" not in stored["retry"]


def test_an_unknown_field_is_pruned_where_the_client_does_not_ask_for_strictness(
    services: client.CustomObjectsApi,
) -> None:
    document = with_spec(unknown=1, readinessProbe={"exec": {"command": ["true"]}})
    stored = services.create_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, PLURAL, document, dry_run="All", field_validation="Ignore", _request_timeout=20
    )
    assert "unknown" not in stored["spec"]
    assert stored["spec"]["readinessProbe"] == {"exec": {"command": ["true"]}}


def test_an_update_that_breaks_a_rule_is_refused(services: client.CustomObjectsApi) -> None:
    create(services, named("updated"))
    with pytest.raises(ApiException, match="gracePeriod must be at least preStop"):
        services.patch_namespaced_custom_object(
            GROUP,
            VERSION,
            NAMESPACE,
            PLURAL,
            "updated",
            {"spec": {"shutdown": {"preStop": "41s"}}},
            _content_type="application/merge-patch+json",
            _request_timeout=20,
        )


def test_kubectl_scales_it(services: client.CustomObjectsApi, kubectl: Kubectl) -> None:
    create(services, named("scaled"))
    kubectl("scale", "nsvc/scaled", "--replicas=3", "--namespace", NAMESPACE)
    stored = services.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "scaled", _request_timeout=20)
    assert stored["spec"]["replicas"] == 3


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "PodsNotReady",
            "message": "1 of 2 pods is ready",
            "observedGeneration": 1,
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
    ],
    "replicas": 2,
    "readyReplicas": 1,
    "selector": "nova.dev/service=printed",
    "configHash": "0123456789abcdef",
    "sidecars": {"configured": 1, "total": 2, "summary": "1/2"},
    "upstreams": "2/3",
}


def test_columns_scale_and_wait_read_the_status(services: client.CustomObjectsApi, kubectl: Kubectl) -> None:
    create(services, named("printed") | {"status": STATUS})
    patch = json.dumps({"status": STATUS})
    in_namespace = ("--namespace", NAMESPACE)
    assert "status" not in json.loads(kubectl("get", "nsvc/printed", "-o", "json", *in_namespace))
    kubectl("patch", "nsvc/printed", "--subresource=status", "--type=merge", f"--patch={patch}", *in_namespace)

    short = kubectl("get", "nsvc", "printed", *in_namespace).splitlines()
    assert short[0].split() == ["NAME", "READY", "REPLICAS", "SIDECARS", "UPSTREAMS", "AGE"]
    assert short[1].split()[:5] == ["printed", "False", "1", "1/2", "2/3"]
    wide = kubectl("get", "nova", "-o", "wide", *in_namespace)
    assert "REASON" in wide
    assert "PodsNotReady" in wide

    scale = json.loads(kubectl("get", "nsvc/printed", "--subresource=scale", "-o", "json", *in_namespace))
    assert scale["status"] == {"replicas": 2, "selector": "nova.dev/service=printed"}
    assert "condition met" in kubectl("wait", "--for=condition=Ready=false", "nsvc/printed", *in_namespace)


def test_kubectl_explains_every_field(services: client.CustomObjectsApi, kubectl: Kubectl) -> None:
    explained = kubectl("explain", "novaservice.spec.upstreams.circuitBreaker")
    assert "Differences from the service's circuitBreaker." in explained
    assert "Consecutive failures" in explained
    assert "<no description>" not in explained
    for part in ("spec", "status"):
        tree = kubectl("explain", f"novaservice.{part}", "--recursive")
        fields = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
        assert [name for name in names_in(fields) if not re.search(rf"^ +{name}\t", tree, re.MULTILINE)] == []


def names_in(node: dict[str, Any]) -> Iterator[str]:
    """Names of all fields of an object's schema, however deep."""
    for name, below in node.get("properties", {}).items():
        yield name
        yield from names_in(below)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from names_in(node[key])


def test_the_definition_is_served_as_written(services: client.CustomObjectsApi, kubectl: Kubectl) -> None:
    """The server must neither complain (NonStructuralSchema) nor warn about the definition."""
    stored = json.loads(kubectl("get", f"crd/{PLURAL}.{GROUP}", "-o", "json"))
    conditions = {one["type"]: one["status"] for one in stored["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert stored["spec"]["names"]["shortNames"] == ["nsvc"]
