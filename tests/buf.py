"""``python -m tests.buf WORD…``: buf as services/protos/package.json pins it, in the folder of the protos.

It comes from npm into Nova's cache the first time. https://buf.build/docs/reference/cli/buf/
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nova_cli.cluster.cache import cache_root, content_key, publish
from nova_cli.cluster.process import run
from nova_cli.errors import MissingRequirementError

PROTOS: Final = Path(__file__).resolve().parents[1] / "services/protos"
_PINS: Final = PROTOS / "package.json"


def program() -> Path:
    """Where buf is. Raises MissingRequirementError without npm, CommandError where it cannot fetch."""
    if not shutil.which("npm"):
        raise MissingRequirementError("buf needs npm: apt-get install npm")

    def fetch(folder: Path) -> None:
        shutil.copy(_PINS, folder)
        # the package's script only saves the launcher a process; what is fetched runs nothing of its own here
        run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder],
            timeout=300,
        )

    return publish(cache_root() / f"buf-{content_key([_PINS])}", fetch) / "node_modules/.bin/buf"


def last_release() -> Path:
    """The image of the newest version that was released."""
    return max((PROTOS / "released").glob("*.binpb"), key=lambda file: [int(part) for part in file.stem.split(".")])


def buf(*words: str, folder: Path = PROTOS) -> "subprocess.CompletedProcess[str]":
    """Run buf in this folder with this Python first in the path, which generating asks for; 60 s at most."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [program(), *words],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def main(words: Sequence[str]) -> int:
    """Show what buf says; its exit code."""
    if words == ["breaking"]:
        words = ["breaking", "--against", str(last_release())]
    done = buf(*words)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
