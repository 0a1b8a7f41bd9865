"""One function per proxy: its configuration, written into a folder, and its command.

Each runs one thread, keeps its upstream connections open and writes its access log, if it has one, to standard output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nova_api import proxy, v1alpha1
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.units import Duration

from . import tools
from .processes import Address, free_ports


@dataclass(frozen=True)
class Proxy:
    """A program to start and the rows that are measured through its listeners."""

    command: tuple[str, ...]
    rows: Mapping[str, Address]


Build = Callable[[Path, Address], Proxy]
"""Writes the configuration for an upstream into a folder. Raises `tools.Unavailable`."""

_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 12000; }}
http {{
  access_log off;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_temp_path tmp-body;
  proxy_temp_path tmp-proxy;
  fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi;
  scgi_temp_path tmp-scgi;
  {body}
}}
"""
_KEPT = "add_header Cache-Control 'public, max-age=3600';"
"""For the row of a cache, which then answers by itself; the others pass it on."""
_NGINX_STATIC = """
  default_type text/plain;
  server {{
    listen {listen};
    {locations}
  }}
"""
_NGINX_PROXY = """
  upstream app {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 30s
  option http-keep-alive
  http-reuse always
frontend inbound
  bind {listen}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  default_backend app
  {logging}
backend app
  {protection}
  server app {upstream} maxconn 512 {server}
"""
_HAPROXY_LOG = (
    "log stdout len 4096 format raw local0\n"
    '  log-format \'{"time":"%Tl","method":"%HM","path":"%HP","status":%ST,"bytes":%B,"duration_ms":%Ta,'
    '"id":"%ID","upstream":"%s","client":"%ci","termination":"%ts"}\''
)
_HAPROXY_RETRY = "retries 2\n  retry-on conn-failure empty-response 503\n  timeout queue 2s"
_HAPROXY_BREAKER = "observe layer7 error-limit 5 on-error mark-down check inter 30s"


def upstream(folder: Path, sizes: tuple[int, ...], host: str = "127.0.0.1") -> Proxy:
    """nginx answering GET /SIZE with SIZE bytes from memory."""
    (port,) = free_ports(1)
    address = Address(host, port)
    locations = "\n    ".join(f'location = /{size} {{ {_KEPT} return 200 "{"x" * size}"; }}' for size in sizes)
    body = _NGINX_STATIC.format(listen=address, locations=locations)
    return Proxy(command=_nginx_command(folder, body), rows={"direct": address})


def nginx(folder: Path, app: Address) -> Proxy:
    """nginx, one worker, keep-alive to the upstream, no log."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    body = _NGINX_PROXY.format(listen=address, upstream=app)
    return Proxy(command=_nginx_command(folder, body), rows={"nginx": address})


def _nginx_command(folder: Path, body: str) -> tuple[str, ...]:
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(user="user root;" if os.geteuid() == 0 else "", body=body))
    return (tools.program("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr")


def haproxy(folder: Path, app: Address, *, policies: bool) -> Proxy:
    """HAProxy, one thread, a unique id per request; with `policies` also log, retries, queue limit, breaker."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    config = folder / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            listen=address,
            upstream=app,
            logging=_HAPROXY_LOG if policies else "",
            protection=_HAPROXY_RETRY if policies else "",
            server=_HAPROXY_BREAKER if policies else "",
        )
    )
    row = "haproxy_policies" if policies else "haproxy"
    return Proxy(command=(tools.program("haproxy"), "-db", "-q", "-f", str(config)), rows={row: address})


def envoy(folder: Path, app: Address, *, policies: bool) -> Proxy:
    """Envoy, one worker, router only; with `policies` also what Nova's defaults do, as near as Envoy has it."""
    (port,) = free_ports(1)
    address = Address("127.0.0.1", port)
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_bootstrap(address, app, policies=policies)))
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    row = "envoy_policies" if policies else "envoy"
    return Proxy(command=(tools.envoy(), *options, "-c", str(config)), rows={row: address})


def envoy_bootstrap(listen: Address, app: Address, *, policies: bool) -> dict[str, Any]:
    manager = {
        "@type": _http("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "inbound",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _http("filters.http.router.v3.Router")}},
        ],
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [_envoy_route(policies)]}]},
        **({"access_log": [_ENVOY_LOG], "stream_idle_timeout": "30s"} if policies else {}),
    }
    endpoint = {"endpoint": {"address": _socket(app)}}
    cluster = {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
        **(_ENVOY_PROTECTION if policies else {}),
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "inbound", "address": _socket(listen), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_route(policies: bool) -> dict[str, Any]:
    retry = {
        "retry_on": "connect-failure,reset-before-request,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 2,
        "per_try_timeout": "5s",
    }
    action = {"cluster": "app", "timeout": "15s", **({"retry_policy": retry} if policies else {})}
    return {"match": {"prefix": "/"}, "route": action}


def _http(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


_ENVOY_LOG = {
    "name": "stdout",
    "typed_config": {
        "@type": _http("access_loggers.stream.v3.StdoutAccessLog"),
        "log_format": {
            "json_format": {
                "time": "%START_TIME%",
                "method": "%REQ(:METHOD)%",
                "path": "%REQ(:PATH)%",
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "bytes_in": "%BYTES_RECEIVED%",
                "bytes_out": "%BYTES_SENT%",
                "duration_ms": "%DURATION%",
                "id": "%REQ(X-REQUEST-ID)%",
                "upstream": "%UPSTREAM_HOST%",
                "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
            }
        },
    },
}
_ENVOY_PROTECTION = {
    "circuit_breakers": {
        "thresholds": [
            {
                "max_connections": 256,
                "max_requests": 512,
                "max_pending_requests": 512,
                "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3},
                "track_remaining": True,
            }
        ]
    },
    "outlier_detection": {"consecutive_5xx": 5, "base_ejection_time": "30s", "max_ejection_percent": 100},
}


def nova(
    folder: Path,
    app: Address,
    *,
    python: tools.Interpreter | None = None,
    row: str = "",
    spec: Mapping[str, Any] | None = None,
    redis: Address | None = None,
) -> Proxy:
    """The sidecar with the default policies: `nova` is its inbound listener, `nova_outbound` the upstream's.

    With `spec` also these fields of a NovaService, and the row of that name alone; `redis` stands in for its Redis.
    """
    document = yaml.safe_load(Path(__file__).with_name("novaservice.yaml").read_text())
    (port,) = free_ports(1)
    document["spec"]["ports"][0] |= {"port": port, "appPort": app.port}
    document["spec"]["upstreams"][0] |= {"host": app.host, "port": app.port}
    document["spec"] |= spec or {}
    resolved = resolve(convert(document, v1alpha1.NovaService), "local")
    if redis is not None:
        store = proxy.Store(url=f"redis://{redis}/0", timeout=Duration(0.1))
        resolved = msgspec.structs.replace(resolved, store=store)
    if row:  # several sidecars beside each other cannot all listen for the upstream
        resolved = msgspec.structs.replace(resolved, outbound=())
    config = folder / "config.json"
    config.write_bytes(proxy.encode(resolved))
    rows = {"nova": resolved.inbound[0].listen}
    rows |= zip(("nova_outbound",), (each.listen for each in resolved.outbound), strict=False)
    if row:
        rows = {row: resolved.inbound[0].listen}
    return Proxy(
        command=(*tools.sidecar(python or tools.interpreter()), "--config", str(config)),
        rows={row: Address(listen.host, listen.port) for row, listen in rows.items()},
    )


BUILDERS: Mapping[str, Build] = {
    "nova": nova,
    "envoy": partial(envoy, policies=False),
    "envoy_policies": partial(envoy, policies=True),
    "haproxy": partial(haproxy, policies=False),
    "haproxy_policies": partial(haproxy, policies=True),
    "nginx": nginx,
}
"""In the order of the report, after `direct`."""
