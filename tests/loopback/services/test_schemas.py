"""What services publish of themselves is kept as files, and is true: requests that are made of it, right ones and wrong
ones, to the real process with its real stores, are answered as it says, and never with a 5xx."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nova_services import schemas
from tests.loopback.data.database import Database
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres

from .events import Topics
from .process import Service, running
from .test_auth import write_key
from .test_graphql import addresses

SERVICES = Path(schemas.__file__).parent
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
GRAPHQL_CHECKS = ("every_error_is_expected", "response_schema_conformance")


def fuzz(service: Service, folder: Path, *words: str, checks: tuple[str, ...] = CHECKS) -> None:
    """Requests of all kinds, always the same ones; schemathesis keeps notes in the folder."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run", *words),
            *("--checks", ",".join(checks), "--phases", "coverage,fuzzing", "--max-examples", "15"),
            *("--seed", "1", "--generation-deterministic", "--no-color", "--request-timeout", "10"),
            *("--header", f"x-nova-subject: {uuid.uuid4()}"),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "fuzzing_checks", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.process.poll() is None


@contextmanager
def stored(postgres: Postgres, name: str, *installed: str) -> Iterator[Database]:
    """A database with the tables of a service."""
    made = Database(postgres)
    for words in (*((one, "install") for one in installed), ("migrate", SERVICES / name / "migrations")):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@contextmanager
def auth(postgres: Postgres, _kafka: Kafka, folder: Path) -> Iterator[Service]:
    write_key(folder, "2026-01-01")
    words = ("--keys", str(folder), "--metrics-port", "0", "--grpc-port", "0")
    with stored(postgres, "auth", "outbox") as database, running("auth", *words, DATABASE_URL=database.url) as service:
        yield service


@contextmanager
def search(postgres: Postgres, kafka: Kafka, _folder: Path) -> Iterator[Service]:
    words = (*Topics(kafka, "post", "profile", "user").words, "--metrics-port", "0")
    with stored(postgres, "search") as database, running("search", *words, DATABASE_URL=database.url) as service:
        yield service


@contextmanager
def graphql(_postgres: Postgres, _kafka: Kafka, _folder: Path) -> Iterator[Service]:
    with running("graphql", "--metrics-port", "0", *addresses()) as service:
        yield service


Started = Callable[[Postgres, Kafka, Path], AbstractContextManager[Service]]
STARTED: dict[str, Started] = {one.__name__: one for one in (search, graphql)}


def test_every_service_that_is_described_is_tried() -> None:
    assert set(STARTED) == {api.name for api in schemas.apis()}


@pytest.mark.parametrize("name", STARTED)
def test_a_service_answers_as_it_says(name: str, postgres: Postgres, kafka: Kafka, tmp_path: Path) -> None:
    with STARTED[name](postgres, kafka, tmp_path) as service:
        kept = (schemas.REPOSITORY / f"services/openapi/{name}.json").read_text()
        assert service.call("/openapi.json").body == json.loads(kept)
        fuzz(service, tmp_path, f"http://127.0.0.1:{service.port}/openapi.json")


def test_the_gateway_answers_as_its_schema_says() -> None:
    kept = schemas.REPOSITORY / "services/openapi/schema.graphql"
    with running("graphql", "--metrics-port", "0", *addresses()) as service:
        assert service.call("/schema.graphql").body == kept.read_text()
        fuzz(service, str(kept), "--url", f"http://127.0.0.1:{service.port}/graphql", checks=GRAPHQL_CHECKS)


def test_the_files_are_what_the_code_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main(["--check"]) == 0
    assert schemas.main(["--check", "--root", str(tmp_path)]) == 1
    assert "services/openapi/search.json is stale" in capsys.readouterr().err
    assert schemas.main(["--root", str(tmp_path)]) == 0
    assert schemas.main(["--check", "--root", str(tmp_path)]) == 0
