"""The proto registry: its form, what a release has promised, and the Python made of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nova_cli.errors import MissingRequirementError
from tests.buf import PROTOS, buf, last_release, program


@pytest.fixture(scope="module", autouse=True)
def _npm() -> None:
    try:
        program()
    except MissingRequirementError as error:
        pytest.skip(str(error))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(PROTOS, tmp_path / "protos")


def changed(registry: Path, name: str, before: str, after: str) -> None:
    file = registry / "nova" / name
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


def broken(registry: Path) -> str:
    """What buf has against a release of this; nothing where it may be released."""
    done = buf("breaking", "--against", str(last_release()), folder=registry)
    assert done.returncode in (0, 100), done.stderr
    return done.stdout


def test_the_registry_is_linted_formatted_and_breaks_nothing() -> None:
    for words in (("lint",), ("format", "--diff", "--exit-code"), ("breaking", "--against", str(last_release()))):
        done = buf(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("users/v1/users.proto", "string display_name = 2", "string name = 2", "changed name from"),
        ("users/v1/users.proto", "string biography = 3", "bytes biography = 3", "changed type from"),
        ("posts/v1/posts.proto", "Visibility visibility = 4;", "", "was deleted"),
        ("posts/v1/posts.proto", "VISIBILITY_FOLLOWERS = 2", "VISIBILITY_FOLLOWERS = 3", "was deleted"),
        ("auth/v1/events.proto", 'reserved "email", "password", "password_hash";', "", "reserved name"),
        ("messages/v1/messages.proto", "package nova.messages.v1", "package nova.chat.v1", "package"),
    ],
)
def test_a_change_that_breaks_readers_is_refused(registry: Path, name: str, before: str, after: str, says: str) -> None:
    changed(registry, name, before, after)
    assert says in broken(registry)


def test_an_addition_is_no_breaking_change(registry: Path) -> None:
    changed(
        registry,
        "posts/v1/posts.proto",
        "  Visibility visibility = 4;",
        "  Visibility visibility = 4;\n  bool pinned = 6;",
    )
    assert broken(registry) == ""


def test_a_method_without_words_is_refused(registry: Path) -> None:
    changed(
        registry,
        "auth/v1/auth.proto",
        "  // End all sessions of a user, before the account is closed or erased. May be repeated.\n",
        "",
    )
    done = buf("lint", folder=registry)
    assert done.returncode == 100
    assert "RevokeSessions" in done.stdout


def test_every_message_reserves_the_same_numbers() -> None:
    for file in (PROTOS / "nova").rglob("*.proto"):
        messages = re.findall(r"^message \w+ \{\n  (.*)", file.read_text(), re.MULTILINE)
        assert messages
        assert set(messages) == {"reserved 1000 to 1999;"}, file


def test_the_changelog_begins_with_the_last_release() -> None:
    versions = re.findall(r"^## (\S+)", (PROTOS / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == last_release().stem


def test_python_is_made_of_it(tmp_path: Path) -> None:
    """By the hook that does it when the package is built."""
    generating = "import runpy, sys, pathlib; runpy.run_path(sys.argv[1])['generate'](pathlib.Path(sys.argv[2]))"
    hook = str(PROTOS / "hatch_build.py")
    for _ in range(2):  # the second time in place of the first
        subprocess.run([sys.executable, "-c", generating, hook, str(tmp_path)], check=True, timeout=60)
    count = len(list((PROTOS / "nova").rglob("*.proto")))
    for form in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi"):
        assert len(list(tmp_path.rglob(form))) == count
    assert {file.name for file in tmp_path.iterdir()} == {"nova"}
    program = "from nova.auth.v1.auth_pb2 import IntrospectTokenResponse as A; print(A(active=True, user_id='u'))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["active:", "true", "user_id:", '"u"']
