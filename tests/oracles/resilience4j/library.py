"""Where resilience4j comes from: Maven, pinned by pom.xml, kept in the project's cache folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench.tools import Unavailable, cache_folder, program

HERE = Path(__file__).parent


def replay(vectors: str) -> list[str]:
    """What the driver prints for these vectors, a line each.

    Raises:
        Unavailable: there is no Java compiler or no library, and they could not be had.
    """
    java = Path(program("javac")).resolve().with_name("java")
    command = [java, "-XX:TieredStopAtLevel=1", "-cp", f"{_jars()}/*", HERE / "Replay.java"]
    done = subprocess.run(command, input=vectors, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _jars() -> Path:
    """The folder with the library and what it needs."""
    pom = HERE / "pom.xml"
    folder = cache_folder().with_name("oracles") / f"resilience4j-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=folder.parent)
    command = [program("mvn"), "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        shutil.rmtree(fresh)
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise Unavailable(f"mvn could not fetch resilience4j: {said[0]}")
    try:
        os.rename(fresh, folder)
    except OSError:  # somebody else was faster
        shutil.rmtree(fresh)
    return folder
