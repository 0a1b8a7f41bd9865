"""The proxies as in `proxies.py`, for gRPC: HTTP/2 without TLS on both sides."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nova_api import proxy, v1alpha1
from nova_api.model import convert
from nova_api.resolve import resolve

from . import tools
from .processes import Address, free_ports
from .proxies import Build, Proxy, envoy_bootstrap

PATH = "/bench.Service/Call"
RESPONSE_BYTES = 1024

_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 1000;
  client_body_temp_path tmp-body;
  proxy_temp_path tmp-proxy;
  fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi;
  scgi_temp_path tmp-scgi;
  upstream app {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {listen} http2;
    location / {{ grpc_pass grpc://app; }}
  }}
}}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 4096
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 30s
  http-reuse always
frontend inbound
  bind {listen} proto h2
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  default_backend app
backend app
  server app {upstream} proto h2
"""


def upstream(folder: Path) -> Proxy:
    """nghttpd, answering a call with 1 KB and `grpc-status: 0` in the trailers."""
    (port,) = free_ports(1)
    file = folder / "www" / PATH.removeprefix("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\x00" + (RESPONSE_BYTES - 5).to_bytes(4, "big") + b"x" * (RESPONSE_BYTES - 5))
    options = ("--no-tls", "-d", str(folder / "www"), "--trailer", "grpc-status: 0", "-m", "1000", "-a", "127.0.0.1")
    return Proxy(command=(tools.program("nghttpd"), *options, str(port)), rows={"direct": Address("127.0.0.1", port)})


def nova(folder: Path, app: Address, *, python: tools.Interpreter | None = None) -> Proxy:
    """The sidecar with the default policies: `nova` is its inbound listener, `nova_outbound` the upstream's."""
    (port,) = free_ports(1)
    document = {
        "apiVersion": v1alpha1.API_VERSION,
        "kind": v1alpha1.KIND,
        "metadata": {"name": "bench"},
        "spec": {
            "image": "example.org/bench:1",
            "ports": [{"name": "grpc", "protocol": "grpc", "port": port, "appPort": app.port}],
            "upstreams": [{"name": "upstream", "host": app.host, "port": app.port, "protocol": "grpc"}],
        },
    }
    resolved = resolve(convert(document, v1alpha1.NovaService), "local")
    config = folder / "config.json"
    config.write_bytes(proxy.encode(resolved))
    rows = {"nova": resolved.inbound[0].listen, "nova_outbound": resolved.outbound[0].listen}
    return Proxy(
        command=(*tools.sidecar(python or tools.interpreter()), "--config", str(config)),
        rows={row: Address(listen.host, listen.port) for row, listen in rows.items()},
    )


def envoy(folder: Path, app: Address, *, policies: bool) -> Proxy:
    """Envoy, one worker, HTTP/2 on both sides; with `policies` as for HTTP/1.1."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    bootstrap = envoy_bootstrap(address, app, policies=policies)
    options: dict[str, Any] = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    bootstrap["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = options
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap))
    command = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c", str(config))
    return Proxy(command=(tools.envoy(), *command), rows={"envoy_policies" if policies else "envoy": address})


def haproxy(folder: Path, app: Address) -> Proxy:
    """HAProxy, one thread, a unique id per call."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(listen=address, upstream=app))
    return Proxy(command=(tools.program("haproxy"), "-db", "-q", "-f", str(config)), rows={"haproxy": address})


def nginx(folder: Path, app: Address) -> Proxy:
    """nginx, one worker; it carries one call at a time on each connection to the upstream."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(user=user, listen=address, upstream=app))
    command = (tools.program("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr")
    return Proxy(command=command, rows={"nginx": address})


BUILDERS: Mapping[str, Build] = {
    "nova": nova,
    "envoy": partial(envoy, policies=False),
    "envoy_policies": partial(envoy, policies=True),
    "haproxy": haproxy,
    "nginx": nginx,
}
"""In the order of the report, after `direct`."""
