"""Installs the Debian packages that the local cluster needs and the machine lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nova_cli.cluster.cache import cache_root, locked
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.errors import CommandError, MissingRequirementError

NODE = ("containerd", "runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2", "openssl")
IMAGES = ("buildah", "mmdebstrap")
KAFKA = ("openjdk-17-jre-headless", "maven")
_EVIDENCE = {
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iproute2": "ip",
    "maven": "mvn",
    "openjdk-17-jre-headless": "java",
}
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing(packages: Sequence[str]) -> list[str]:
    """Those whose program cannot be found. Programs count, not dpkg's records: they may come from elsewhere."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in packages if not shutil.which(_EVIDENCE.get(name, name), path=path)]


def require(packages: Sequence[str], console: Console) -> None:
    """Install what is missing with apt-get. Raises MissingRequirementError where that cannot be done."""
    if not (lacking := missing(packages)):
        return
    if not shutil.which("apt-get"):
        raise MissingRequirementError(
            f"this machine lacks {', '.join(lacking)}, and has no apt-get to install them with; install them, "
            "or start Docker; `nova dev` needs neither"
        )
    with locked(cache_root() / ".apt.lock"):
        if lacking := missing(packages):
            with console.step(f"install {', '.join(lacking)} with apt-get"), _services_stay_off():
                _install(lacking)


def _install(packages: Sequence[str]) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    run(["apt-get", "update"], env=quiet)
    run(["apt-get", "install", *options, *packages], env=quiet)
    if still := missing(packages):
        raise CommandError(f"apt-get installed {', '.join(still)}, but the programs cannot be found")


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Keep apt from starting a containerd of its own; policy-rc.d is Debian's way to say so (invoke-rc.d(8))."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
