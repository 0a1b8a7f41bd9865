"""All manifests of examples/exposed.yaml, on a cluster that has everything.

After a change that is meant: UPDATE_GOLDEN=1 pytest tests/unit/desired/test_exposed_golden.py
"""

import os
from pathlib import Path

import yaml

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH

REPOSITORY = Path(__file__).resolve().parents[3]
GOLDEN = REPOSITORY / "tests" / "unit" / "operator_golden" / "exposed.out.yaml"
DEFAULTS = Defaults(
    sidecar_image="nova-sidecar:test",
    sidecar_requests={"cpu": "50m", "memory": "64Mi"},
    operator_namespace="nova-system",
    platform=Platform(http_routes=True, session_persistence=True, pod_monitors=True),
)
ELSEWHERE = {"ConfigMap", "Deployment"}
"""Kinds that have golden files of their own; of the Deployment only what this example adds is kept."""


def test_the_manifests_of_the_example_are_the_golden_ones() -> None:
    document = yaml.safe_load((REPOSITORY / "examples" / "exposed.yaml").read_text())
    document["metadata"]["uid"] = "7d0f5b4c-0000-4000-8000-000000000002"
    manifests = list(desired_state(convert(document, NovaService), DEFAULTS))
    kept = [manifest for manifest in manifests if manifest["kind"] not in ELSEWHERE]
    for manifest in kept:
        manifest["metadata"]["annotations"][ANNOTATION_MANIFEST_HASH] = "…"
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
    kept.append({"topologySpreadConstraints": deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]})
    if "UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text(yaml.safe_dump_all(kept, sort_keys=False, allow_unicode=True, width=120))
    assert kept == list(yaml.safe_load_all(GOLDEN.read_text()))
