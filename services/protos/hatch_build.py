"""Makes Python of the protos: when the package is built, and by `make protos` after a change.

What is made is the import package `nova`, in services/generated, which nobody edits and git does not keep: modules for
messages and for services, and stubs that say their types. The wheel has it, and an editable installation finds it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from grpc_tools import _proto  # the folder of Google's own
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS: Final = Path(__file__).resolve().parent
TARGET: Final = PROTOS.parent / "generated"
_PATIENCE: Final = 120.0
"""Seconds for the compiler."""


class ProtosHook(BuildHookInterface):
    """Called by hatchling before it collects the files of a wheel, or looks where those of an editable one are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make them anew; an editable installation has their folder in its path (`dev-mode-dirs`)."""
        generate(TARGET)
        if version == "standard":
            build_data["force_include"][str(TARGET / "nova")] = "nova"


def generate(target: Path) -> None:
    """Write the package `nova` into a folder, in place of the one that is there. Raises RuntimeError with what the
    compiler has against the protos, or the name of what is missing."""
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".making-") as scratch:
        done = subprocess.run(  # noqa: S603 - this Python, and files of this folder
            [sys.executable, "-m", "grpc_tools.protoc", *_words(Path(scratch))],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the protos do not compile:\n{done.stderr}")
        shutil.rmtree(target / "nova", ignore_errors=True)
        (Path(scratch) / "nova").rename(target / "nova")


def _words(target: Path) -> list[str]:
    outs = [f"--{name}_out={target}" for name in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{name}={_program(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")]
    files = sorted(str(file.relative_to(PROTOS)) for file in (PROTOS / "nova").rglob("*.proto"))
    return [f"-I{PROTOS}", f"-I{next(iter(_proto.__path__))}", *plugins, *outs, *files]


def _program(name: str) -> str:
    """Beside this Python, or where the build's own tools are."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise RuntimeError(f"{name} is not there: pip install mypy-protobuf")
    return found


if __name__ == "__main__":
    generate(TARGET)
