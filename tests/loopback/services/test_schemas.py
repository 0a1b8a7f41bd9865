"""What services publish of themselves is kept as files, and is true: requests that are made of it, right ones and wrong
ones, to the real process with its real stores, are answered as it says, and never with a 5xx."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nova_services import schemas
from tests.crowd import CROWD
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres

from .backend import SHAPES, Backend
from .process import Service
from .test_auth import write_key

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
"""What schemathesis holds answers against; who may do what is the sidecars' to say, and is tried with them."""
USUAL = ("--phases", "coverage,fuzzing", "--max-examples", "15")
DEAR = ("--phases", "fuzzing", "--max-examples", "6")
"""Where an answer takes a third of a second of a processor, as it does with passwords."""
GRAPHQL_CHECKS = ("every_error_is_expected", "response_schema_conformance")


def fuzz(
    service: Service, folder: Path, *words: str, checks: Sequence[str] = CHECKS, effort: Sequence[str] = USUAL
) -> None:
    """Requests of all kinds, always the same ones; schemathesis keeps notes in the folder."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run", *words),
            *("--checks", ",".join(checks), *effort),
            *("--seed", "1", "--generation-deterministic", "--no-color", "--request-timeout", "10"),
            *("--header", f"x-nova-subject: {uuid.uuid4()}"),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "fuzzing_checks", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=200 * CROWD,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert service.process.poll() is None


DESCRIBED = [api.name for api in schemas.apis()]


@pytest.fixture(scope="module")
def backend(postgres: Postgres, kafka: Kafka) -> Iterator[Backend]:
    with Backend(postgres, kafka) as made:
        yield made


def started(backend: Backend, name: str, folder: Path) -> Service:
    """With the services that it calls; once for all tests."""
    if name in backend.services:
        return backend.services[name]
    if name == "graphql":
        return backend.start_graphql()
    for peer in SHAPES[name].peers:
        started(backend, peer, folder)
    if name == "auth":
        write_key(folder, "2026-01-01")
        return backend.start(name, "--keys", str(folder))
    if name == "media":
        return backend.start(name, "--store", str(folder / "contents"))
    return backend.start(name)


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_service_answers_as_it_says(name: str, backend: Backend, tmp_path: Path) -> None:
    service = started(backend, name, tmp_path)
    kept = (schemas.REPOSITORY / f"services/openapi/{name}.json").read_text()
    assert service.call("/openapi.json").body == json.loads(kept)
    effort = DEAR if name == "auth" else USUAL
    fuzz(service, tmp_path, f"http://127.0.0.1:{service.port}/openapi.json", effort=effort)


def test_the_gateway_answers_as_its_schema_says(backend: Backend, tmp_path: Path) -> None:
    kept = schemas.REPOSITORY / "services/openapi/schema.graphql"
    for name in ("content", "recommendations", "messaging", "notification", "search"):
        started(backend, name, tmp_path)
    service = backend.start_graphql()
    assert service.call("/schema.graphql").body == kept.read_text()
    url = f"http://127.0.0.1:{service.port}/graphql"
    fuzz(service, tmp_path, str(kept), "--url", url, checks=GRAPHQL_CHECKS)


def test_the_files_are_what_the_code_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main(["--check"]) == 0
    assert schemas.main(["--check", "--root", str(tmp_path)]) == 1
    assert "services/openapi/search.json is stale" in capsys.readouterr().err
    assert schemas.main(["--root", str(tmp_path)]) == 0
    assert schemas.main(["--check", "--root", str(tmp_path)]) == 0
