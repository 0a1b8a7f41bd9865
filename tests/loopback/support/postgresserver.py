"""A real PostgreSQL, from Debian's package: in a folder of its own, on loopback, as a user that is not root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.tools import Unavailable, program

from .ports import free_ports
from .waiting import eventually

HOST: Final = "127.0.0.1"
USER: Final = "nova"
INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, by version and off the search path."""

_RELAXED: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""What is lost with the machine is lost: a test's data end with it."""


class Server:
    """One cluster of databases with an empty one called `nova`, or a replica of another `primary` that streams from it;
    `stop` kills it, `start` starts it again at the same port. Options are those of postgresql.conf.

    Raises tests.bench.tools.Unavailable where there is no PostgreSQL.
    """

    def __init__(self, primary: "Server | None" = None, **options: str) -> None:
        self.port = free_ports(1)[0]
        self._folder = Path(tempfile.mkdtemp(prefix="nova-postgres-"))  # pytest's folders are closed to other users
        self._process: subprocess.Popen[bytes] | None = None
        self._options = _RELAXED | options
        self._owner = _owner()
        try:
            if self._owner is not None:
                os.chown(self._folder, self._owner.pw_uid, self._owner.pw_gid)
            if primary is None:
                self._create()
            else:
                self._copy(primary)
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        cluster = ["-D", self._data, "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run(binary("initdb"), *cluster)
        self.start()
        self._run(binary("createdb"), "-h", HOST, "-p", str(self.port), "-U", USER, USER)

    def _copy(self, primary: "Server") -> None:
        source = ["-h", HOST, "-p", str(primary.port), "-U", USER]
        self._run(binary("pg_basebackup"), *source, "-D", self._data, "-R", "--checkpoint=fast", "--no-sync")
        self._options = {"wal_retrieve_retry_interval": "100ms"} | self._options  # a primary that is back is found soon
        self.start()

    @property
    def url(self) -> str:
        """Of its database, as libpq and drivers take it."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{USER}"

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        """Start it and wait until it answers."""
        given = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        words = [binary("postgres"), "-D", self._data, "-p", str(self.port), "-h", HOST, "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*words, *given], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self._identity()
            )
        ready = [binary("pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        try:
            eventually(lambda: subprocess.run(ready, check=False).returncode == 0, within=20, every=0.05)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once, as a machine that fails does: nobody is told, nothing is written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def sql(self, text: str) -> str:
        """Run statements by psql; the rows of the last one, columns parted by ``|``."""
        words = ["-h", HOST, "-p", str(self.port), "-U", USER, "-d", USER, "-v", "ON_ERROR_STOP=1", "-qAtX"]
        return self._run(binary("psql"), *words, "-c", text)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/", **self._identity()
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _identity(self) -> dict[str, int]:
        owner = self._owner
        return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid}


def _owner() -> pwd.struct_passwd | None:
    """The user that the server runs as, where it is not the test's own: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def binary(name: str) -> str:
    """The path of one of PostgreSQL's programs, the newest version's. Raises Unavailable."""
    if not INSTALLED.is_dir():
        program("pg_isready")  # installs the package, which brings them
    found = sorted(INSTALLED.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise Unavailable(f"PostgreSQL's {name} is not in {INSTALLED}")
    return str(found[-1])
