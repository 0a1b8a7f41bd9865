"""Several sidecars as the pods of one service: the same port at addresses of their own, found by their name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nova_api.proxy import Address, Affinity, Inbound, ProxyConfig, SessionCookie, Store
from nova_api.units import Duration

from .app import App, Call
from .message import Message, request, response
from .nameserver import NameServer, Record, from_table
from .peer import Peer
from .ports import free_ports
from .sidecar import Sidecar, document, with_fields
from .waiting import eventually

HOST = "shop-endpoints.default.svc"
KEY = b"0123456789abcdef" * 2

ALONE = Affinity(
    timeout=Duration(3600), cookie=SessionCookie(name="nova-session", path="/", same_site="Lax", secure=False)
)
"""As `nova dev` has it: no sibling, and a key of its own."""
STORED = with_fields(ALONE, store=Store(url="redis://127.0.0.1:9", timeout=Duration(0.1)))
"""The same with a Redis that is not there."""


def says(name: str, *lines: str) -> Callable[[Call], bytes]:
    """An app that answers with its name."""
    return lambda _: response("200 OK", *lines, body=name.encode())


TOGETHER = 45.0
"""Seconds within which several sidecars that start at once must serve."""


class Pod:
    """A sidecar and its app."""

    def __init__(self, name: str, address: str, sidecar: Sidecar, app: App) -> None:
        self.name = name
        self.address = address
        self.sidecar = sidecar
        self.app = app

    def connect(self, name: str | None = None) -> Peer:
        """A client of this pod's sidecar."""
        return self.sidecar.connect(name)

    def ask(self, cookie: str | None = None, *lines: str, method: str = "GET", body: bytes | None = None) -> Message:
        """One request on a connection of its own."""
        fields = [f"Cookie: {cookie}"] if cookie else []
        with self.connect() as client:
            client.send(request(method, "/", *fields, *lines, body=body))
            return client.response(method)

    def count(self, result: str) -> float:
        """Requests with this result so far."""
        return self.sidecar.metric("nova_affinity_requests_total", result=result)

    @property
    def siblings(self) -> int:
        """Other pods that it knows."""
        return int(self.sidecar.metric("nova_affinity_siblings"))


def cookie_of(answer: Message) -> str | None:
    """The cookie that a response sets, as a client would send it back."""
    set_cookie = answer.get("set-cookie")
    return None if set_cookie is None else set_cookie.partition(";")[0]


class Fleet:
    """See the module. `start` adds a pod; `close` ends all that are left and looks for complaints."""

    def __init__(self, directory: Path, **affinity: Any) -> None:
        self.directory = directory
        self.names = NameServer(from_table())
        self.port, self.live = free_ports(2)
        self.pods: list[Pod] = []
        self._listed: list[str] = []
        self._killed: list[Pod] = []
        self.expected: tuple[str, ...] = ()
        """Words of complaints that a test knows of."""
        (directory / "keys").mkdir()
        self.write_key(KEY)
        self.affinity = Affinity(**({"timeout": Duration(3600), "cookie": self.cookie(), "siblings": HOST} | affinity))

    def cookie(self, **fields: Any) -> SessionCookie:
        """The cookie's part of the document."""
        defaults = {"name": "nova-session", "path": "/", "same_site": "Lax", "secure": False}
        return SessionCookie(**(defaults | {"directory": str(self.directory / "keys")} | fields))

    def write_key(self, content: bytes) -> None:
        """Replace the file of the Secret, as the kubelet does."""
        fresh = self.directory / "keys" / "key.new"
        fresh.write_bytes(content)
        fresh.rename(self.directory / "keys" / "key")

    def document(self, address: str, app: App, **fields: Any) -> ProxyConfig:
        """What a pod at this address runs."""
        ports = [
            Inbound(name=name, protocol=protocol, listen=Address(host=address, port=port), app=_address(app))  # type: ignore[arg-type]  # both are literals
            for name, protocol, port in (("web", "http", self.port), ("live", "websocket", self.live))
        ]
        return document(*ports, **({"affinity": self.affinity, "resolver": "dns"} | fields))

    def start(self, *, listed: bool = True, **fields: Any) -> Pod:
        """A further pod; the name server knows it, unless not `listed`."""
        pod = self._launch(**fields)
        if listed:
            self.list(*self._listed, pod.address)
        pod.sidecar.wait_until_ready(TOGETHER)
        return pod

    def start_all(self, count: int, **fields: Any) -> list[Pod]:
        """So many pods, each of which knows all others."""
        pods = [self._launch(**fields) for _ in range(count)]
        self.list(*[pod.address for pod in pods])
        for pod in pods:
            pod.sidecar.wait_until_ready(TOGETHER)
        self.settle()
        return pods

    def _launch(self, **fields: Any) -> Pod:
        number = len(self.pods)
        name, address = "abcdefgh"[number], f"127.0.1.{number + 1}"
        app = App(says(name))
        directory = self.directory / name
        directory.mkdir()
        sidecar = Sidecar(self.document(address, app, **fields), directory, self.names)
        self.pods.append(Pod(name, address, sidecar, app))
        return self.pods[-1]

    def list(self, *addresses: str) -> None:
        """What the name server knows from now on."""
        self._listed = [*addresses]
        self.names.answer = from_table(*[Record(HOST, "A", address, 1) for address in addresses])

    def settle(self) -> None:
        """Wait until each pod knows the listed ones."""
        for pod in self.pods:
            if pod not in self._killed:
                pod.ask()  # by which it learns its own address
                others = len([one for one in self._listed if one != pod.address])
                eventually(lambda pod=pod, others=others: pod.siblings == others, within=10)  # type: ignore[misc]  # bound

    def reload(self, pod: Pod, **fields: Any) -> None:
        """Give a pod another document."""
        pod.sidecar.reload(with_fields(pod.sidecar.config, **fields))

    def _expected(self, line: str) -> bool:
        return any(words in line for words in self.expected)

    def kill(self, pod: Pod) -> None:
        """End a pod at once, as a node does that fails."""
        self._killed.append(pod)
        pod.sidecar.kill()

    def close(self) -> None:
        """End every pod that still runs; it must leave in order and without complaint."""
        try:
            codes = [pod.sidecar.stop() for pod in self.pods if pod not in self._killed]
        finally:
            for pod in self.pods:
                pod.sidecar.kill()
                pod.app.stop()
            self.names.close()
        complaints = [line for pod in self.pods for line in pod.sidecar.complaints() if not self._expected(line)]
        assert not complaints, complaints
        assert codes == [0] * len(codes), codes


def _address(app: App) -> Address:
    return Address(host=app.address[0], port=app.address[1])
