"""The cache folder: where it is, what makes a new entry, and that nobody sees half of one."""

from pathlib import Path

import pytest

from nova_cli.cluster.cache import cache_root, content_key, locked, publish, write_atomically
from nova_cli.errors import MissingRequirementError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NOVA_CACHE": "/big/disk", "XDG_CACHE_HOME": "/xdg"}, Path("/big/disk")),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/nova")),
        ({}, Path.home() / ".cache" / "nova"),
    ],
)
def test_the_environment_chooses_the_folder(environment: dict[str, str], expected: Path) -> None:
    assert cache_root(environment) == expected


def test_a_relative_choice_is_made_absolute() -> None:
    assert cache_root({"NOVA_CACHE": "here"}).is_absolute()


def test_the_key_depends_on_names_contents_and_words_but_not_on_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    key = content_key([one, two], "flags")
    assert len(key) == 16
    assert content_key([two, one], "flags") == key
    assert content_key([one, two], "other flags") != key
    assert content_key([one], "flags") != key
    two.write_text("changed")
    assert content_key([one, two], "flags") != key


def test_equal_names_in_different_folders_are_different_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "main.go").write_text(folder)
    files = [tmp_path / "a" / "main.go", tmp_path / "b" / "main.go"]
    key = content_key(files, relative_to=tmp_path)
    files[0].write_text("edited")
    assert content_key(files, relative_to=tmp_path) != key


def test_publish_makes_a_folder_once(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "binary").write_text("x")

    target = tmp_path / "bin" / "key"
    assert publish(target, make) == publish(target, make) == target
    assert len(made) == 1
    assert (target / "binary").read_text() == "x"


def test_a_failed_publish_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("compiler error")

    target = tmp_path / "bin" / "key"
    with pytest.raises(RuntimeError):
        publish(target, make)
    assert [path.name for path in target.parent.iterdir()] == [".key.lock"]


def test_an_atomic_write_replaces_and_cleans_up(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_atomically(file, "old")
    write_atomically(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MissingRequirementError, match="set NOVA_CACHE") as refusal, locked(tmp_path / "file" / "lock"):
        pass
    assert str(tmp_path / "file") in str(refusal.value)
    assert refusal.value.exit_code == 2
