"""What the demo does where a part of it fails."""

import io
import threading
from pathlib import Path
from typing import Any

import pytest

from nova_cli.console import Console
from nova_cli.demo import bring_up
from nova_cli.errors import CommandError


class Broken:
    """A cluster that does not start."""

    def up(self) -> Path:
        raise CommandError("the API server did not answer within 60 s")


def test_a_cluster_that_does_not_start_is_said_before_the_images_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "did not answer" in text:
                said.set()
            return super().write(text)

    def build(*_: object) -> list[Path]:
        assert said.wait(20)  # it takes minutes, in which nobody should have to wonder
        return []

    monkeypatch.setattr(bring_up, "build", build)
    cluster: Any = Broken()
    with pytest.raises(CommandError, match="the API server did not answer"):
        bring_up.put_up(cluster, Console(Stream()))
    assert said.is_set()
