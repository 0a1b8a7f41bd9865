"""Where cert-manager comes from: Go's modules, pinned by go.mod, compiled once into the cache folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_operator.kinds import Kind
from tests.cluster.api import CRDS, Api, until

HERE = Path(__file__).parent
MODULE = "github.com/cert-manager/cert-manager"
GROUP = "cert-manager.io/v1"
CERTIFICATE = Kind(GROUP, "Certificate", "certificates")
ISSUER = Kind(GROUP, "Issuer", "issuers")


def folder(console: Console) -> Path:
    """The program, and beside it the definitions of its kinds. Raises CommandError where it cannot be compiled."""
    what = "cert-manager (once, about five minutes on two cores)"
    return toolchain.program(HERE, what, console, add=_add_definitions)


def _add_definitions(target: Path, go: Path) -> None:
    found = run([go, "list", "-m", "-f", "{{.Dir}}", MODULE], cwd=HERE, env={"GOWORK": "off"}).stdout.strip()
    (target / "crds").mkdir()
    for file in Path(found, "deploy", "crds").glob("cert-manager.io_*.yaml"):
        shutil.copyfile(file, target / "crds" / file.name)  # without its mode: modules are read-only


@contextmanager
def running(home: Path, api: Api, kubeconfig: Path, log: Path) -> Iterator[None]:
    """cert-manager in the cluster, taken away with the block; `home` is its folder."""
    definitions = [yaml.safe_load(file.read_text()) for file in sorted((home / "crds").iterdir())]
    names = [api.create(CRDS, None, one)["metadata"]["name"] for one in definitions]
    until(lambda: all(_established(api, name) for name in names))
    with log.open("w") as output:
        command = [home / HERE.name, f"--kubeconfig={kubeconfig}", "-v=2"]
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.terminate()
        process.wait(timeout=20)
        for name in names:
            api.delete(CRDS, None, name)
        until(lambda: not any(api.find(CRDS, None, name) for name in names), 40)


def _established(api: Api, name: str) -> bool:
    conditions = (api.get(CRDS, None, name).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
