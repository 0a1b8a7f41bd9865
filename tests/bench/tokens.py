"""`python -m tests.bench.tokens`: what a token costs a request, remembered and not, beside the bare sidecar in one run.

Three sidecars in front of one nginx, with the same policies but for `jwt`: `bare` has none, `remembered` has seen the
token before, `verified` remembers none (`cache.entries: 0`) and checks each request's signature (RS256, 2048 bits). One
client sends one request after the other and takes turns between the three, a few hundred requests each, so that what
else the machine does meets all alike. CPU is the sidecar process's own; latencies are as good as the machine is quiet.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt as pyjwt
import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from nova_api import proxy, v1alpha1
from nova_api.model import convert
from nova_api.resolve import resolve

from . import tools
from .machine import Cores, cpu_ns
from .processes import Address, free_ports, running, wait_until_accepting
from .proxies import upstream

ROUNDS = 6
REQUESTS = 300
"""In each round, for each sidecar."""
_KEY = rsa.generate_private_key(65537, 2048)
_END = b"\r\n\r\n"


def main() -> None:
    """Measure and print JSON."""
    print(json.dumps(measured(), indent=2))


def measured() -> dict[str, Any]:
    """CPU and latency of each row, and what a remembered and a verified token cost beyond the bare sidecar, µs."""
    cores = Cores.choose()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        app = upstream(folder, (100,))
        target = app.rows["direct"]
        process = stack.enter_context(running(app.command, core=cores.load, errors=folder / "nginx.err"))
        wait_until_accepting(target, process, folder / "nginx.err")
        rows = {
            "bare": stack.enter_context(_sidecar(folder, "bare", target, cores.proxy, None)),
            "remembered": stack.enter_context(_sidecar(folder, "remembered", target, cores.proxy, _policy(4096))),
            "verified": stack.enter_context(_sidecar(folder, "verified", target, cores.proxy, _policy(0))),
        }
        return _measure(rows)


def _policy(entries: int) -> dict[str, Any]:
    public: dict[str, Any] = RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    keys = [{"kid": "k1", **{name: public[name] for name in ("kty", "n", "e")}}]
    issuer = {"issuer": "https://auth.example", "audiences": ["shop"], "keys": keys}
    return {"issuers": [issuer], "cache": {"entries": entries}}


def _token() -> str:
    now = int(time.time())
    said = {"iss": "https://auth.example", "aud": "shop", "sub": "anna", "exp": now + 3600, "roles": ["reader"] * 8}
    return pyjwt.encode(said, _KEY, "RS256", {"kid": "k1"})


@contextlib.contextmanager
def _sidecar(
    folder: Path, name: str, app: Address, core: int, policy: dict[str, Any] | None
) -> Iterator[tuple[int, Address]]:
    document = yaml.safe_load(Path(__file__).with_name("novaservice.yaml").read_text())
    (port,) = free_ports(1)
    document["spec"]["ports"][0] |= {"port": port, "appPort": app.port}
    document["spec"]["upstreams"] = []
    if policy is not None:
        document["spec"]["jwt"] = policy
    resolved = resolve(convert(document, v1alpha1.NovaService), "local")
    status, control = free_ports(2)
    admin = proxy.Admin(
        status=proxy.Address(host="127.0.0.1", port=status), control=proxy.Address(host="127.0.0.1", port=control)
    )
    place = folder / name
    place.mkdir()
    (place / "config.json").write_bytes(proxy.encode(msgspec.structs.replace(resolved, admin=admin)))
    command = (*tools.sidecar(tools.interpreter()), "--config", str(place / "config.json"))
    address = Address(resolved.inbound[0].listen.host, port)
    with running(command, core=core, errors=place / "err") as process:
        wait_until_accepting(address, process, place / "err")
        yield process.pid, address


def _measure(rows: dict[str, tuple[int, Address]]) -> dict[str, Any]:
    request = f"GET /100 HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {_token()}\r\n\r\n".encode()
    took: dict[str, list[float]] = {name: [] for name in rows}
    cpu: dict[str, list[float]] = {name: [] for name in rows}
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(socket.create_connection((address.host, address.port)))
            for name, (_pid, address) in rows.items()
        }
        for client in clients.values():
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _ask(client, request, REQUESTS)  # warm up
        for _ in range(ROUNDS):
            for name, (pid, _address) in rows.items():
                before = cpu_ns(pid)
                took[name] += _ask(clients[name], request, REQUESTS)
                cpu[name].append((cpu_ns(pid) - before) / REQUESTS / 1000)
    shown = {
        name: {
            "cpu_us": round(statistics.median(cpu[name]), 1),
            "p50_ms": round(statistics.median(took[name]) * 1000, 3),
            "p99_ms": round(statistics.quantiles(took[name], n=100)[98] * 1000, 3),
        }
        for name in rows
    }
    bare = shown["bare"]["cpu_us"]
    hit, miss = shown["remembered"]["cpu_us"] - bare, shown["verified"]["cpu_us"] - bare
    return {"rows": shown, "hit_cost_us": round(hit, 1), "verification_cost_us": round(miss, 1)}


def _ask(client: socket.socket, request: bytes, count: int) -> list[float]:
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        client.sendall(request)
        answer = b""
        while _END not in answer or len(answer.partition(_END)[2]) < 100:
            part = client.recv(65536)
            if not part:
                raise http.client.RemoteDisconnected(answer.decode("latin-1"))
            answer += part
        took.append(time.perf_counter() - begun)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise http.client.HTTPException(answer[:200].decode("latin-1"))
    return took


if __name__ == "__main__":
    main()
