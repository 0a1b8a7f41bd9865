"""PostgreSQL from Debian's package, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Final

from nova_cli.cluster.process import run
from nova_cli.errors import MissingRequirementError

USER: Final = "nova"
END: Final = signal.SIGINT
"""Ends sessions that are open, too; at SIGTERM it waits until their clients leave.
https://www.postgresql.org/docs/current/server-shutdown.html"""
_INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, by version and off the search path."""


def binary(name: str) -> str:
    """The path of one of PostgreSQL's programs, the newest version's. Raises MissingRequirementError."""
    found = sorted(_INSTALLED.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise MissingRequirementError(f"PostgreSQL's {name} is not in {_INSTALLED}: apt-get install postgresql")
    return str(found[-1])


def prepare(folder: Path) -> None:
    """Make a cluster of databases in `folder`, unless there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "data" / "PG_VERSION").exists():
        return
    if (owner := _owner()) is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    cluster = ["-D", str(folder / "data"), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    run([*_as_owner(), binary("initdb"), *cluster], cwd=Path("/"), timeout=60)


def command(folder: Path, port: int) -> list[str]:
    """What starts the server. Its socket lies in its folder."""
    words = [binary("postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    return [*_as_owner(), *words]


def ready(port: int) -> bool:
    """Whether it takes connections; then its database is there, too."""
    asked = [binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    if subprocess.run(asked, check=False).returncode != 0:  # noqa: S603 - no shell, and every word is ours
        return False
    made = run([binary("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, USER], check=False)
    return made.returncode == 0 or "already exists" in made.stderr


def url(port: int) -> str:
    """Of its database."""
    return f"postgresql://{USER}@127.0.0.1:{port}/{USER}"


def _owner() -> pwd.struct_passwd | None:
    """The user that it runs as, where it is not our own: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _as_owner() -> list[str]:
    """setpriv becomes the command, so that its process is the server's. https://man7.org/linux/man-pages/man1/setpriv.1.html"""
    owner = _owner()
    if owner is None:
        return []
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
