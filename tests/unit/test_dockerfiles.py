"""What every image promises; the end-to-end tests run them under Pod Security *restricted*."""

import json
import re
from pathlib import Path

import pytest

from nova_cli.images.wheels import EXTRAS

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ("operator", "sidecar", "services")


@pytest.fixture(params=IMAGES)
def final_stage(request: pytest.FixtureRequest) -> str:
    """The last stage of a Dockerfile, lines joined, comments gone."""
    text = (REPOSITORY / request.param / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM \$\{(?:BASE|BUILD)_IMAGE\}", text, re.MULTILINE)) == 2
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return kept.replace("\\\n", " ").rpartition("FROM ")[2]


def test_it_runs_as_a_numbered_user_other_than_root(final_stage: str) -> None:
    """Kubernetes can prove runAsNonRoot for a number only."""
    assert re.findall(r"^USER (.*)$", final_stage, re.MULTILINE) == ["65532:65532"]


def test_it_starts_without_a_shell(final_stage: str) -> None:
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", final_stage, re.MULTILINE)
    assert json.loads(entrypoint)[0] in {"nova-operator", "nova-sidecar", "python3"}
    assert "CMD" not in final_stage


@pytest.mark.parametrize("image", IMAGES)
def test_the_build_needs_no_network_and_no_more_of_the_repository_than_wheels(image: str) -> None:
    text = (REPOSITORY / image / "Dockerfile").read_text()
    assert "--no-index" in text
    assert re.findall(r"^(?:COPY|ADD) (?!--from)(\S+)", text, re.MULTILINE) == [f"build/wheels/{image}"]
    assert (REPOSITORY / ".dockerignore").read_text().split("\n")[1:] == ["*", "!build/wheels", ""]


def test_its_user_has_a_name(final_stage: str) -> None:
    """Kopf asks for it and fails where /etc/passwd has none."""
    assert "nova:x:65532:65532:" in final_stage


@pytest.mark.parametrize("image", IMAGES)
def test_what_it_installs_is_what_is_collected_for_it(image: str) -> None:
    (installed,) = re.findall(r"'nova\[([\w,]+)\]'", (REPOSITORY / image / "Dockerfile").read_text())
    assert installed == EXTRAS.get(image, image)
