"""Host names to addresses, past /etc/hosts.

In a pod, /etc/hosts points every upstream's name at the sidecar itself, which is how it gets between the app and the
upstream. Asking the machine's resolver would therefore send the sidecar to itself. `DnsResolver` puts the questions
to the name servers of /etc/resolv.conf directly, through c-ares, with ``query``, which knows no hosts file; its
``getaddrinfo`` would read it.

The search list is applied here and not by c-ares: A and AAAA must agree on the candidate, and a candidate that exists
without an address of one family must not send that family on to another name (resolv.conf(5), RFC 8305 section 3).
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pycares

from nova_sidecar.transport.endpoints import Resolution, ResolveError
from nova_sidecar.transport.nameservers import AskError, Family, NameServers

DEADLINE: Final = 2.0
"""Seconds for one name: every candidate of the search list, every server, every repetition."""

RESOLUTION_DELAY: Final = 0.05
"""How long a good answer of one family waits for the other (RFC 8305 section 3)."""

MIN_TTL: Final = 1.0
MAX_TTL: Final = 300.0
SYSTEM_TTL: Final = 5.0
"""Seconds an answer of the machine's own resolver is used; it does not tell how long it is good for."""


class ResolvConf(NamedTuple):
    """What matters of resolv.conf(5)."""

    servers: tuple[str, ...]
    search: tuple[str, ...]
    ndots: int

    @classmethod
    def parse(cls, text: str) -> "ResolvConf":
        """Read the file's text; unknown lines and options are skipped, as the C library does."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        ndots = 1
        for line in text.splitlines():
            keyword, *values = line.split() or [""]
            if keyword == "nameserver" and values:
                servers.append(values[0])
            elif keyword in ("search", "domain"):
                search = tuple(value.rstrip(".") for value in values if value != ".")
            elif keyword == "options":
                given = [value[6:] for value in values if value.startswith("ndots:") and value[6:].isdigit()]
                ndots = min(int(given[-1]), 15) if given else ndots
        return cls(tuple(servers[:3]), search, ndots)

    @classmethod
    def read(cls, path: Path = Path("/etc/resolv.conf")) -> "ResolvConf":
        """Read the file; without one, a name server on this machine is assumed, as the C library does."""
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError:
            text = ""
        found = cls.parse(text)
        return found if found.servers else found._replace(servers=("127.0.0.1",))

    def candidates(self, host: str) -> list[str]:
        """The full names that a host name may mean, in the order to ask for them."""
        if host.endswith("."):
            return [host[:-1]]
        expanded = [f"{host}.{domain}" for domain in self.search]
        return [host, *expanded] if host.count(".") >= self.ndots else [*expanded, host]


class _Found(NamedTuple):
    """What the name servers said about one name: addresses, for how long, and whether the name exists at all."""

    addresses: list[str]
    ttl: float
    exists: bool


class DnsResolver:
    """Resolves through the cluster's DNS."""

    def __init__(
        self,
        conf: ResolvConf | None = None,
        *,
        deadline: float = DEADLINE,
        port: int = 53,
        families: Callable[[], Sequence[Family]] | None = None,
    ) -> None:
        self._conf = conf or ResolvConf.read()
        self._deadline = deadline
        self._families = families or routed_families
        self._name_servers = NameServers(self._conf.servers, port=port)

    def __repr__(self) -> str:
        return f"<DnsResolver servers={','.join(self._conf.servers)} search={','.join(self._conf.search)}>"

    async def resolve(self, host: str, port: int) -> Resolution:
        """All addresses of a host, IPv4 first, and for how long they hold. Raises ResolveError."""
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._first(host)
        except TimeoutError as error:
            raise ResolveError(f"{host}: no answer from {self._servers} within {self._deadline:g} s") from error
        ttl = min(max(found.ttl, MIN_TTL), MAX_TTL)
        return Resolution(tuple((address, port) for address in found.addresses), ttl)

    async def close(self) -> None:
        """Give up questions under way and free the sockets."""
        self._name_servers.close()

    @property
    def _servers(self) -> str:
        return ", ".join(self._conf.servers)

    async def _first(self, host: str) -> _Found:
        """The first candidate with an address. A failing server ends the search: the next candidate could be another
        service of the same name elsewhere."""
        exists = False
        for name in self._conf.candidates(host):
            found = await self._ask(name)
            if found.addresses:
                return found
            exists = exists or found.exists
        what = "has no address" if exists else "is not known"
        raise ResolveError(f"{host}: {what} to {self._servers}")

    async def _ask(self, name: str) -> _Found:
        """Both families at once. One good answer is enough when the other fails or is late."""
        questions = [asyncio.ensure_future(self._query(name, family)) for family in self._families()]
        try:
            done, late = await asyncio.wait(questions, return_when=asyncio.FIRST_COMPLETED)
            if late:
                good = any(not task.exception() and task.result().addresses for task in done)
                await asyncio.wait(late, timeout=RESOLUTION_DELAY if good else None)
        finally:
            for task in questions:
                task.cancel()
        return self._merge(name, [task for task in questions if task.done()])

    def _merge(self, name: str, questions: Iterable[asyncio.Future[_Found]]) -> _Found:
        failure: BaseException | None = None
        answers: list[_Found] = []
        for question in questions:
            if (error := question.exception()) is None:
                answers.append(question.result())
            else:
                failure = error
        addresses = [address for answer in answers for address in answer.addresses]
        if not addresses and failure is not None:
            raise ResolveError(f"{name}: {failure} ({self._servers})") from failure
        ttl = min((answer.ttl for answer in answers if answer.addresses), default=0.0)
        return _Found(addresses, ttl, any(answer.exists for answer in answers))

    async def _query(self, name: str, family: Family) -> _Found:
        try:
            answer = await self._name_servers.ask(name, family)
        except AskError as error:
            if error.absent:
                return _Found([], 0.0, error.exists)
            raise ResolveError(str(error)) from error
        wanted = pycares.ARecordData if family == "A" else pycares.AAAARecordData
        addresses = [record.data.addr for record in answer.answer if isinstance(record.data, wanted)]
        ttl = min((record.ttl for record in answer.answer), default=0)  # of aliases too: they may change first
        return _Found(addresses, float(ttl), True)


class SystemResolver:
    """Resolves as every other program on this machine does: for ``nova dev``, never for a pod."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline

    def __repr__(self) -> str:
        return "<SystemResolver>"

    async def resolve(self, host: str, port: int) -> Resolution:
        """All addresses of a host, in the machine's order of preference. Raises ResolveError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise ResolveError(f"{host}: no answer from this machine within {self._deadline:g} s") from error
        except (OSError, UnicodeError) as error:
            hint = "this machine's resolver; nova dev --upstream says where else it is"
            raise ResolveError(f"{host}: {error} ({hint})") from error
        return Resolution(tuple(dict.fromkeys((str(entry[4][0]), port) for entry in found)), SYSTEM_TTL)

    async def close(self) -> None:
        """Nothing to free."""


def routed_families() -> Sequence[Family]:
    """The families this machine has a route for; both when it has none. An IPv6 address without a route would only
    cost attempts. Connecting a UDP socket looks the route up and sends nothing."""
    routed = [record for record, family, probe in _PROBES if _has_route(family, probe)]
    return routed or ("A", "AAAA")


_PROBES: Final[tuple[tuple[Family, socket.AddressFamily, str], ...]] = (
    ("A", socket.AF_INET, "198.51.100.1"),  # documentation addresses (RFC 5737, RFC 3849): routed, never reached
    ("AAAA", socket.AF_INET6, "2001:db8::1"),
)


def _has_route(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        return error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH)
    return True
