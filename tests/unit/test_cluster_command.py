"""The command line: what it teaches, what it refuses, and that it imports little."""

import subprocess
import sys
from pathlib import Path

import pytest

from nova_cli import main
from nova_cli.cluster import packages
from nova_cli.cluster.local import LocalCluster
from nova_cli.cluster.requirements import require_root
from nova_cli.console import Console
from nova_cli.errors import MissingRequirementError
from nova_cli.images import base, wheels
from nova_cli.images.catalog import IMAGES, select
from nova_cli.repository import find_repository


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in main.COMMANDS)
    assert "exit codes" in text


@pytest.mark.parametrize("words", [["cluster"], ["images"], ["cluster", "up"]])
def test_help_of_a_command_is_its_own(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main([*words, "--help"])
    assert f"usage: nova {' '.join(words)}" in capsys.readouterr().out


def test_a_cluster_without_a_node_has_nothing_to_enforce_policies_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["cluster", "up", "--no-node", "--network-policies"])
    assert "--network-policies: not allowed with argument --no-node" in capsys.readouterr().err


def test_no_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["cluster"])
    assert "VERB" in capsys.readouterr().err


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys; from nova_cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'kopf', 'kubernetes', 'aiohttp', 'pytest_kind'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_root_it_says_what_is_missing_and_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingRequirementError, match=r"needs root or a Docker daemon.*`nova dev`") as caught:
        require_root()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Nova", "a/b", "-x", "x" * 31])
def test_a_cluster_name_must_do_for_a_folder_and_a_cgroup(name: str) -> None:
    with pytest.raises(MissingRequirementError, match="cannot name a cluster"):
        LocalCluster(name, Console(quiet=True))


def test_a_cluster_that_never_was_is_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVA_CACHE", str(tmp_path))
    cluster = LocalCluster("nova", Console(quiet=True))
    cluster.down()
    assert not cluster.status().running
    assert repr(cluster) == "<LocalCluster nova stopped>"


@pytest.mark.parametrize("number", ["0", "10", "two"])
def test_a_cluster_has_one_to_nine_nodes(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["cluster", "up", "--nodes", number])
    assert "--nodes" in capsys.readouterr().err


def test_missing_packages_are_found_by_their_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.missing(["no-such-package"]) == ["no-such-package"]
    (tmp_path / "no-such-package").touch(mode=0o755)
    assert packages.missing(["no-such-package"]) == []


def test_the_console_prints_plain_lines_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with console.step("count to three") as step:
        step.note("two")
    with pytest.raises(ValueError, match="four"), console.step("count to four"):
        raise ValueError("four")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("✓ count to three (")
    assert lines[1].startswith("✗ count to four (")
    assert "\x1b" not in "".join(lines)


def test_outside_of_a_clone_it_says_what_is_missing_and_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nova_cli.repository.__file__", str(tmp_path / "site-packages/nova_cli/repository.py"))
    with pytest.raises(MissingRequirementError, match="run it in a clone; `nova dev`"):
        find_repository(tmp_path)


def test_every_image_has_a_dockerfile_and_an_extra() -> None:
    root = find_repository()
    project = (root / "pyproject.toml").read_text()
    for image in select([]):
        assert (root / image.dockerfile).is_file()
        assert f"\n{image.name} = [" in project
        assert all((root / source).is_dir() for source in image.sources)


def test_the_key_of_an_image_follows_its_own_sources_only(tmp_path: Path) -> None:
    for file in ("pyproject.toml", "sidecar/Dockerfile", "sidecar/nova_sidecar/a.py", "operator/nova_operator/b.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    sidecar = next(image for image in IMAGES if image.name == "sidecar")
    key = sidecar.key(tmp_path, "base")
    (tmp_path / "operator/nova_operator/b.py").write_text("changed")
    assert sidecar.key(tmp_path, "base") == key
    assert sidecar.key(tmp_path, "another base") != key
    (tmp_path / "sidecar/nova_sidecar/a.py").write_text("changed")
    assert sidecar.key(tmp_path, "base") != key


def test_wheels_fit_the_base_and_not_this_machine() -> None:
    shipped = base.shipped_base(find_repository() / "operator" / "Dockerfile")
    assert (shipped.reference, shipped.python) == ("python:3.13-slim", "3.13")
    platforms = wheels.platforms("arm64")
    assert (platforms[0], platforms[-1]) == ("--platform=manylinux_2_28_aarch64", "--platform=manylinux2014_aarch64")
