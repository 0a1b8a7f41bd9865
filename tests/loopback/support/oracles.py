"""nginx and HAProxy as reverse proxies in front of the same app, to compare what they let through."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .ports import free_ports
from .waiting import eventually

_NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{app[0]}:{app[1]}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_request_buffering off;
        }}
    }}
}}
"""
_HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 2s
    timeout client 2s
    timeout server 2s
frontend in
    bind 127.0.0.1:{port}
    default_backend app
backend app
    http-reuse never
    server one {app[0]}:{app[1]}
"""


def available(program: str) -> str | None:
    """Path of the program; None where it is not installed."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running(program: str, app: tuple[str, int], directory: Path) -> Iterator[tuple[str, int]]:
    """Run the proxy in front of the app; gives its address."""
    path = available(program)
    assert path
    port = free_ports(1)[0]
    text = {"nginx": _NGINX, "haproxy": _HAPROXY}[program].format(dir=directory, port=port, app=app)
    file = directory / f"{program}.conf"
    file.write_text(text)
    command = [path, "-c", file, "-p", directory] if program == "nginx" else [path, "-db", "-f", file]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
    try:
        eventually(lambda: _answers(port, process))
        yield "127.0.0.1", port
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        process.kill()
        process.wait()


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "ended at once"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
