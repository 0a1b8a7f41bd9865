"""A server that speaks S3, on loopback and with one bucket: s3rver of npm, as s3/package.json pins it.

It does what Amazon's does with whole objects and with uploads in parts, but for ending one of these before its end, and
it does not judge signatures.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from nova_cli.cluster.cache import cache_root, content_key, publish
from nova_cli.cluster.process import run
from tests.bench.tools import program

from .ports import free_ports, is_free
from .waiting import eventually

BUCKET: Final = "pictures"
_PINS: Final = Path(__file__).parent / "s3/package.json"


class Server:
    """Keeps its objects in a folder. Raises tests.bench.tools.Unavailable without node and npm."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        words = [
            "--directory",
            folder,
            "--address",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--configure-bucket",
            BUCKET,
        ]
        self._process = subprocess.Popen(
            [program("node"), _installed(), "--silent", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        eventually(lambda: not is_free(self.port), within=30)

    @property
    def environment(self) -> dict[str, str]:
        """For who uses it."""
        return {
            "AWS_ACCESS_KEY_ID": "S3RVER",
            "AWS_SECRET_ACCESS_KEY": "S3RVER",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
        }

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


def _installed() -> Path:
    """Where it is, from npm the first time."""
    npm = program("npm")

    def fetch(folder: Path) -> None:
        shutil.copy(_PINS, folder)
        words = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder]
        run([npm, *words], timeout=300)

    return publish(cache_root() / f"s3rver-{content_key([_PINS])}", fetch) / "node_modules/.bin/s3rver"
