"""nginx, HAProxy and Nova side by side, each with a listener and an app of its own for every case of a table.

All three are configured as a transparent hop: keep-alive on both sides, the client's Host, bodies passed on as they
come. A case cannot disturb another one, so all cases run at the same time.
"""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nova_api.policies import AccessLogPolicy, BackpressurePolicy, TimeoutPolicy
from nova_api.proxy import Address, Inbound
from nova_api.units import Duration
from tests.bench import tools

from .ports import free_ports
from .sidecar import Sidecar, document
from .waiting import eventually

Protocol = Literal["http", "websocket"]

WRITTEN_FOR: Mapping[str, str] = {"nginx": "1.22", "haproxy": "2.6"}
"""What Debian 12 has. Other versions read some of the cases in another way."""

_NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_timeout 60;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    proxy_request_buffering off; proxy_buffering off;
    {servers}
}}
"""
_NGINX_SERVER = "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{app}; }} }}"
_HAPROXY = """
global
    maxconn 8192
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{proxies}
"""
_HAPROXY_PROXY = """
listen case-{port}
    bind 127.0.0.1:{port}
    server app 127.0.0.1:{app}
"""


@dataclass(frozen=True)
class Reference:
    """A running proxy: the port for each case, in the order of the cases."""

    name: str
    ports: Sequence[int]


def missing(program: str) -> str:
    """Why a program cannot stand beside Nova; empty where it can. It is installed where that is possible."""
    try:
        path = tools.program(program)
    except tools.Unavailable as why:
        return str(why)
    said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"(?:version |nginx/)(\d+\.\d+)", said.stdout + said.stderr)
    version = found[1] if found else "an unknown version"
    wanted = WRITTEN_FOR[program]
    return "" if version == wanted else f"{program} is {version}, and the table is written for {wanted}"


@contextlib.contextmanager
def nginx(apps: Sequence[int], directory: Path) -> Iterator[Reference]:
    """nginx in front of an app on each of these ports."""
    ports = free_ports(len(apps))
    servers = "\n".join(_NGINX_SERVER.format(port=port, app=app) for port, app in zip(ports, apps, strict=True))
    file = directory / "nginx.conf"
    file.write_text(_NGINX.format(servers=servers))
    with _running([tools.program("nginx"), "-p", str(directory), "-c", str(file), "-e", "stderr"], ports, directory):
        yield Reference("nginx", ports)


@contextlib.contextmanager
def haproxy(apps: Sequence[int], directory: Path) -> Iterator[Reference]:
    """HAProxy in front of an app on each of these ports."""
    ports = free_ports(len(apps))
    proxies = "".join(_HAPROXY_PROXY.format(port=port, app=app) for port, app in zip(ports, apps, strict=True))
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY.format(proxies=proxies))
    with _running([tools.program("haproxy"), "-db", "-q", "-f", str(file)], ports, directory):
        yield Reference("haproxy", ports)


@contextlib.contextmanager
def nova(apps: Sequence[int], protocols: Sequence[Protocol], directory: Path) -> Iterator[Reference]:
    """Nova in front of an app on each of these ports; the protocol is what the port is declared as."""
    ports = free_ports(len(apps))
    listeners = [
        Inbound(
            name=f"case-{app}",
            protocol=protocol,
            listen=Address(host="127.0.0.1", port=port),
            app=Address(host="127.0.0.1", port=app),
            timeout=TimeoutPolicy(request=Duration(60)),
        )
        for port, app, protocol in zip(ports, apps, protocols, strict=True)
    ]
    config = document(*listeners, access_log=AccessLogPolicy(mode="Off"), backpressure=BackpressurePolicy(mode="Off"))
    sidecar = Sidecar.start(config, directory)
    try:
        yield Reference("nova", ports)
        assert sidecar.stop() == 0
        assert not sidecar.complaints()
    finally:
        sidecar.kill()


@contextlib.contextmanager
def _running(command: list[str], ports: Sequence[int], directory: Path) -> Iterator[None]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
    try:
        eventually(lambda: _answers(ports, process, directory), within=15)
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        process.kill()
        process.wait()


def _answers(ports: Sequence[int], process: "subprocess.Popen[bytes]", directory: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"ended at once: {(directory / 'output').read_text(errors='replace')[-2000:]}")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[-1]), 1):
        return True
    return False
