"""The cache folder: what nova keeps on a machine lives below it, and deleting it loses nothing but time. Go's caches of
modules and packages are the exception: they stay where Go has them, so that other Go work on the machine shares them.

    bin/KEY/           what was compiled from `node/`, KEY being a hash of everything that went into it
    tools/             tools that the machine lacked: Go, kubectl
    images/            root file systems and image archives
    clusters/NAME/     one running cluster: state, certificates, logs, disks

Two commands may run at once. Whatever takes long is made in a temporary folder under a lock and appears by one rename,
so that nobody ever sees half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nova_cli.errors import MissingRequirementError


def cache_root(environment: dict[str, str] | None = None) -> Path:
    """`$NOVA_CACHE`, else `$XDG_CACHE_HOME/nova`, else `~/.cache/nova`. Always absolute; it may not exist yet."""
    variables = os.environ if environment is None else environment
    if chosen := variables.get("NOVA_CACHE"):
        return Path(chosen).absolute()
    if base := variables.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "nova"
    return Path.home() / ".cache" / "nova"


def content_key(files: Iterable[Path], *words: str, relative_to: Path | None = None) -> str:
    """Sixteen hex digits over the contents of `files` and over `words`; the order of the files does not matter.

    A file's name counts, and with `relative_to` its path from there.
    """
    digest = hashlib.sha256()
    named = {str(file.relative_to(relative_to)) if relative_to else file.name: file for file in files}
    for name, file in sorted(named.items()):
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    for word in words:
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()[:16]


@contextmanager
def locked(path: Path, *, otherwise: str = "set NOVA_CACHE to a folder that can") -> Iterator[None]:
    """Hold the lock file `path`; waits for another holder. The kernel frees it when its holder dies.

    Raises MissingRequirementError where it cannot be made, with what to do `otherwise`. Everything that writes to the
    cache begins here.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise MissingRequirementError(
            f"the folder {path.parent} cannot be written ({error.strerror}); {otherwise}"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def publish(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `target`; if it does not exist, let `make` fill it first. Safe against crashes and rivals."""
    if target.exists():
        return target
    with locked(target.parent / f".{target.name}.lock"):
        if not target.exists():
            scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                make(scratch)
                scratch.chmod(0o755)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the file `path` in one step: a reader or a crash sees the old text or the new, never a part."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(scratch).chmod(mode)
    Path(scratch).rename(path)
