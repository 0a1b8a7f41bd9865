#!/usr/bin/env python3
"""Compiles the data path of a copy of the sidecar to machine code: ``compile.py FOLDER`` (which holds nova_sidecar).

mypyc turns the typed modules below into one extension module, in place: each `x.py` gets a small library beside it that
Python prefers, and the source stays for tracebacks. Nothing else changes, and without the libraries the same sources
run as they are: that is what developers and most tests do. Only what every request passes through is compiled; the rest
(start, name resolution, admin pages, reload) would gain nothing and cost build time and memory.

It runs on the Python that will run the result and needs the packages of the extra `compile`, a C compiler, Python's
headers, and about a minute and a half of processor time. The image does it in its build stage, the bench and
`pytest --compiled` in a cache folder, see tests/compiled.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PACKAGES = ("policy", "wire", "wire/http2", "transport", "transport/http2", "pipeline", "pipeline/http2")
LEFT_OUT = {
    "wire/http2/secret.py": "extends bytes, which mypyc cannot",
    "transport/certificate.py": "not on the path of a request, like all that follow",
    "transport/connector.py": "",
    "transport/dialer.py": "",
    "transport/discovery.py": "",
    "transport/fetch.py": "",
    "transport/listener.py": "",
    "transport/nameservers.py": "",
    "transport/race.py": "",
    "transport/resolver.py": "",
    "transport/resources.py": "",
    "transport/tls.py": "",
    "pipeline/jwt_desk.py": "",
    "pipeline/keyring.py": "",
    "pipeline/proxy.py": "",
    "pipeline/signatures.py": "",
}
SMALLER = ("-fvisibility=hidden", "-fno-asynchronous-unwind-tables")
"""The libraries find each other by capsules, so their tens of thousands of symbols need not be exported, relocated and
called through tables; and nothing unwinds C frames."""
LIBRARY = "nova_sidecar"
"""The extension module's name before `__mypyc`; it lies beside the package."""


class CannotCompileError(Exception):
    """Nothing was compiled; the message says why."""


class MissingError(CannotCompileError):
    """This machine lacks something."""


def modules(package: Path) -> list[Path]:
    """What is compiled of the package in this folder."""
    found = (file for folder in PACKAGES for file in sorted((package / folder).glob("*.py")))
    return [each for each in found if each.name != "__init__.py" and str(each.relative_to(package)) not in LEFT_OUT]


def compile_in_place(folder: Path) -> None:
    """Compile `folder`/nova_sidecar. Raises CannotCompileError; on any error the folder is left as it was."""
    _require()
    with tempfile.TemporaryDirectory(prefix="nova-compile-") as scratch:
        command = [sys.executable, str(Path(__file__).resolve()), "--into", scratch, str(folder)]
        done = subprocess.run(  # noqa: S603 - itself
            command, capture_output=True, text=True, timeout=1800, check=False
        )
        if done.returncode:
            raise CannotCompileError(f"mypyc failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        shutil.copytree(Path(scratch) / "lib", folder, dirs_exist_ok=True)


def _require() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(os.environ.get("CC", compiler)):
        raise MissingError(f"there is no C compiler ({compiler})")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise MissingError(f"the headers of Python {sysconfig.get_python_version()} are missing")
    try:
        import mypyc.build  # noqa: F401, PLC0415 - what is asked is whether it is there
        import setuptools  # noqa: F401, PLC0415 - as above
    except ImportError as error:
        raise MissingError(f"{error}; pip install 'nova[compile]'") from error


def _build(folder: Path, scratch: Path) -> None:
    """The work itself, in a process of its own: mypyc reads paths from the current folder and ends it on errors."""
    from mypyc.build import mypycify  # noqa: PLC0415 - see _require
    from setuptools import Distribution, Extension  # noqa: PLC0415 - as above
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - as above

    class Parallel(build_ext):
        """As setuptools does it, but the files of one extension at once."""

        def build_extension(self, extension: Extension) -> None:
            """Compile the sources, then leave the objects to be linked."""
            flags = {"extra_postargs": extension.extra_compile_args, "include_dirs": extension.include_dirs}
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(
                    lambda source: self.compiler.compile([source], output_dir=self.build_temp, **flags),
                    extension.sources,
                )
                extension.extra_objects = [each for objects in compiled for each in objects]
            extension.sources = []
            super().build_extension(extension)

    # apart from what else is installed there, which would be taken for ours; its types are Any, as where it is absent
    for package in (LIBRARY, "nova_api"):
        shutil.copytree(folder / package, scratch / "source" / package)
    os.chdir(scratch / "source")
    sources = [str(each) for each in modules(Path(LIBRARY))]
    options = ["--config-file=", "--explicit-package-bases", "--namespace-packages", "--ignore-missing-imports"]
    options += ["--no-site-packages", "--follow-imports=silent"]
    extensions = mypycify(
        [*options, f"--cache-dir={scratch / 'types'}", *sources],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name=LIBRARY,
        target_dir=str(scratch / "c"),
    )
    for extension in extensions:
        extension.extra_compile_args += SMALLER
    command = Parallel(Distribution({"name": LIBRARY, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "objects")
    command.ensure_finalized()
    command.run()


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="compile.py", description="Compile the sidecar's data path in place.")
    parser.add_argument("folder", type=Path, help="what holds nova_sidecar and nova_api")
    parser.add_argument(
        "--optional", action="store_true", help="where something is missing for it, say so and end with 0"
    )
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        _build(options.folder.resolve(), options.into.resolve())
        return 0
    try:
        compile_in_place(options.folder)
    except CannotCompileError as error:
        accepted = options.optional and isinstance(error, MissingError)
        consequence = "; the sidecar stays pure Python, which takes more CPU" if accepted else ""
        print(f"compile.py: {error}{consequence}", file=sys.stderr)
        return 0 if accepted else 1
    print(f"compiled {len(modules(options.folder / LIBRARY))} modules of {LIBRARY}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
