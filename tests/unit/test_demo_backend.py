"""The reference backend on the cluster: what is made of its examples, and what is read of its logs."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from nova_api import names
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_cli.demo.backend import services, stage, stores
from nova_cli.demo.backend.walk import CLAIMS
from nova_cli.demo.command import BACKEND_NAMES, EPILOG
from nova_cli.images.stores import RECIPE, REFERENCE
from nova_cli.services import kafka
from nova_services.auth.keys import read, signer

ROOT = Path(__file__).resolve().parents[2]
FOUND = services.find(ROOT)
STORES = Path(stores.__file__).with_name("stores.yaml")


def test_every_claim_can_be_chosen_and_is_explained() -> None:
    assert tuple(claim.name for claim in CLAIMS) == BACKEND_NAMES
    assert all(f"\n  {name} " in EPILOG for name in BACKEND_NAMES)


@pytest.mark.parametrize("service", FOUND, ids=lambda one: one.name)
def test_a_service_is_made_small_and_stays_what_it_is(service: services.Service) -> None:
    spec = services.fitted(service)["spec"]
    assert spec["replicas"] == services.REPLICAS.get(service.name, 1)
    assert all(one["resources"]["requests"]["cpu"] == services.CPU for one in services._reserving(spec))
    assert spec["ports"] == service.document["spec"]["ports"]
    convert(services.fitted(service), NovaService)


@pytest.mark.parametrize("service", [one for one in FOUND if one.has_database], ids=lambda one: one.name)
def test_a_database_has_files_and_what_the_demo_makes_for_it(service: services.Service) -> None:
    database = service.document["spec"]["database"]
    assert database["secretRef"] == f"{service.name}-db"
    assert database["migrations"] == {"configMap": f"{service.name}-migrations-1"}
    assert database.get("outbox", {}).get("brokers", [stores.BROKERS]) == [stores.BROKERS]
    assert service.files()


def test_other_migrations_are_another_try(tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("SELECT 1")
    shop = {"template": {"spec": {"containers": []}}, "database": {}}
    service = services.Service("shop", {"metadata": {"name": "shop"}, "spec": shop}, tmp_path)
    before = services.fitted(service)["metadata"]["annotations"][names.ANNOTATION_RETRY]
    (tmp_path / "0001_one.sql").write_text("SELECT 2")
    assert services.fitted(service)["metadata"]["annotations"][names.ANNOTATION_RETRY] != before


def test_the_key_that_is_made_signs_today(tmp_path: Path) -> None:
    now = datetime(2026, 11, 29, 0, 5, tzinfo=UTC)
    for name, text in services.signing_keys(now).items():
        (tmp_path / name).write_text(text)
    assert signer(read(tmp_path), now.date()).kid == "2026-11-28"


def test_a_log_line_is_read_with_its_place() -> None:
    line = {"event": "request", "correlation_id": "a"}
    assert stage._line(f"[pod/auth-5d9-x/nova-sidecar] {json.dumps(line)}") == ("auth-5d9-x", "nova-sidecar", line)


@pytest.mark.parametrize("text", ["", "[pod/auth/app] Traceback", "[pod/auth/app] 7", "no prefix"])
def test_what_is_no_log_line_is_left_out(text: str) -> None:
    assert stage._line(text) is None


def test_kafka_in_a_pod_tells_clients_its_name_and_keeps_its_controller_to_itself() -> None:
    text = kafka.properties(Path("/data/log"), listens="0.0.0.0", port=9092, controller=9093, known="kafka.data")
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert settings["listeners"] == "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["advertised.listeners"] == "PLAINTEXT://kafka.data:9092"
    assert settings["log.dirs"] == "/data/log"


def test_the_image_of_the_stores_runs_as_a_numbered_user_with_a_name() -> None:
    """Kubernetes can prove runAsNonRoot for a number only, and initdb asks for the name."""
    text = RECIPE.read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["65532:65532"]
    assert "nova:x:65532:65532:" in text
    assert re.findall(r"^(?:COPY|ADD) (\S+)", text, re.MULTILINE) == ["kafka"]


def test_pods_of_the_stores_may_run_under_restricted_and_say_when_they_are_ready() -> None:
    documents = list(yaml.safe_load_all(STORES.read_text()))
    sets = [one for one in documents if one["kind"] == "StatefulSet"]
    assert [one["metadata"]["name"] for one in sets] == list(stores.STORES)
    for pod in (one["spec"]["template"]["spec"] for one in sets):
        (container,) = pod["containers"]
        assert container["image"] == REFERENCE
        assert {"readinessProbe", "resources"} <= container.keys()
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
