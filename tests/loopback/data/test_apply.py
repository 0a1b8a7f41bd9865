"""`nova-data apply`, which the operator's Job runs: everything that `spec.database` asks for."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_data.main import main
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults

from .database import Database

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = ("migrations.md", "soft-delete.md", "indexes.md")
FILE = re.compile(r"^`migrations/(\S+\.sql)`\n\n```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def folder_of_the_page(tmp_path: Path) -> Path:
    """The migrations that docs/migrations.md shows."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    found = FILE.findall((DOCS / "migrations.md").read_text())
    assert len(found) == 4
    for name, text in found:
        (folder / name).write_text(text)
    return folder


def arguments_of_the_job() -> list[str]:
    """What the operator makes of the NovaService that the page shows."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / "migrations.md").read_text(), re.MULTILINE | re.DOTALL)
    children = desired_state(
        convert(yaml.safe_load(text), NovaService), Defaults(sidecar_image="s", sidecar_requests={})
    )
    (job,) = (one for one in children if one["kind"] == "Job")
    words: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return words


def test_all_that_a_spec_asks_for_is_there_afterwards(database: Database, tmp_path: Path) -> None:
    folder = folder_of_the_page(tmp_path)
    words = [str(folder) if word == "/migrations" else word for word in arguments_of_the_job()]
    done = database.command(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert database.rows("SELECT version, state FROM nova_migrations ORDER BY 1") == [
        (number, "applied") for number in range(1, 5)
    ]
    indexes = {name for (name,) in database.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'posts'")}
    assert {"posts_of_a_user", "posts_active", "posts_deleted", "posts_user_id_created_at_active"} <= indexes
    database.sql("INSERT INTO posts (user_id) VALUES (gen_random_uuid()); DELETE FROM posts")
    assert database.value("SELECT count(*) FROM posts") == 1
    assert database.value("SELECT event_type FROM outbox_events") == "posts.deleted"
    again = database.command(*words)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "the database is as it should be")
    assert "0 applied, 4 were applied before" in again.stdout


def test_an_outbox_alone_is_made(database: Database) -> None:
    spec = json.dumps({"secretRef": "d", "outbox": {"brokers": ["kafka:9092"]}})
    done = database.command("apply", "--service", "shop", "--spec", spec)
    assert (done.returncode, done.stderr) == (0, "")
    assert "outbox: 8 partitions made" in done.stdout
    database.sql("SELECT nova_outbox_append('order', '7', 'order-paid', '{}')")
    assert database.value("SELECT count(*) FROM outbox_events") == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"secretRef": "d"}, "at least one of migrations, softDelete, outbox and indexes must be set"),
        ({"secretRef": "d", "migrations": {"configMap": "m"}}, "expected their folder in --folder"),
        ({"secretRef": "d", "softDelete": {"tables": ["nowhere"]}}, "table nowhere: there is none of that name"),
    ],
)
def test_what_cannot_be_done_is_said_and_fails_the_job(database: Database, spec: Any, said: str) -> None:
    done = database.command("apply", "--spec", json.dumps(spec))
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read by the command itself, up to the point where it would do something."""
    lines = [line for block in BLOCK.findall((DOCS / page).read_text()) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("nova-data ")]
    assert commands
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    for words in commands:
        assert main(words) == 1, words  # it can be read, and there is no such database
