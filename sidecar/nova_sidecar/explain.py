"""``nova-sidecar --explain REQUEST``: which policies would touch a request, in the order in which they see it.

Nothing is sent and nothing listens: the document alone says it. The order is that of `pipeline.chain.build_chain`,
with what follows per attempt behind it; a test holds the two together.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from nova_api.errors import ConfigError
from nova_api.model import builtins
from nova_api.proxy import Inbound, Outbound, ProxyConfig
from nova_sidecar import explain_policies as policies
from nova_sidecar.explain_step import Step
from nova_sidecar.wire.grammar import TOKEN

FORMS: Final = "'GET /path', 'POST http://host:port/path', 'grpc:/package.Service/Method' or 'tcp://host:port'"
_WIDTH: Final = 100
_PORTS: Final = {"http": 80, "https": 443, "grpc": 80}
_TARGET: Final = re.compile(r"(?:(https?|grpc|tcp)://[^/?#\s]+)?(/[!-~]*)?")


@dataclass(frozen=True)
class Request:
    """What is asked about."""

    method: str
    path: str
    """Without the query string."""
    grpc: bool = False
    host: str = ""
    """Empty: a request to the app itself."""
    port: int = 0
    tcp: bool = False
    """No request: a connection."""

    def __str__(self) -> str:
        where = f"{self.host}:{self.port}" if self.host else ""
        if self.tcp:
            return f"TCP {where}"
        return (
            f"gRPC {where}{self.path}"
            if self.grpc
            else f"{self.method} {f'http://{where}' if where else ''}{self.path}"
        )


@dataclass(frozen=True)
class Explanation:
    """The answer: through which listener the request goes, and what happens to it there."""

    request: Request
    port: Inbound | Outbound
    steps: list[Step] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The answer as plain data."""
        inbound = isinstance(self.port, Inbound)
        return {
            "request": str(self.request),
            "direction": "inbound" if inbound else "outbound",
            "name": self.port.name,
            "protocol": self.port.protocol,
            "listen": builtins(self.port.listen),
            "target": builtins(self.port.app if isinstance(self.port, Inbound) else self.port.upstream),
            "policies": [
                {"policy": step.policy, "mode": step.mode, "does": list(step.does), "values": builtins(step.values)}
                for step in self.steps
            ],
        }


def explain(config: ProxyConfig, text: str) -> Explanation:
    """Which policies touch a request written as one of `FORMS`. Raises ConfigError when it is none, or has no way."""
    request = parse(text)
    port = _outbound(config, request) if request.host else _inbound(config, request)
    seen = policies.relayed(config, port) if port.protocol == "tcp" else policies.steps(config, port, request)
    return Explanation(request, port, list(seen))


def parse(text: str) -> Request:
    """Read a request. Raises ConfigError."""
    grpc = text.startswith("grpc:/")
    method, _, target = ("POST " + text if grpc else text).strip().rpartition(" ")
    if grpc and not target.startswith("grpc://"):
        target = target.removeprefix("grpc:")
    if not TOKEN.fullmatch((method or "GET").encode()) or not _TARGET.fullmatch(target) or not target:
        raise ConfigError("--explain", f"expected {FORMS}, got {text!r}")
    try:
        url = urlsplit(target)
        port = url.port or _PORTS.get(url.scheme, 80)
    except ValueError:
        raise ConfigError("--explain", f"expected a host and a port from 0 to 65535, got {target!r}") from None
    host = url.hostname or ""
    return Request(method or "GET", url.path or "/", grpc, host, port if host else 0, url.scheme == "tcp")


def _inbound(config: ProxyConfig, request: Request) -> Inbound:
    wanted = ("grpc",) if request.grpc else ("http", "websocket")
    for port in config.inbound:
        if port.protocol in wanted:
            return port
    there = ", ".join(f"{port.name} ({port.protocol})" for port in config.inbound) or "none"
    raise ConfigError("--explain", f"expected a port of protocol {' or '.join(wanted)}; there is {there}")


def _outbound(config: ProxyConfig, request: Request) -> Outbound:
    for port in config.outbound:
        if _same_host(port.upstream.host, request.host) and port.upstream.port == request.port:
            return port
    there = ", ".join(f"{port.upstream.host}:{port.upstream.port}" for port in config.outbound) or "none"
    raise ConfigError(
        "--explain",
        f"expected an upstream of the document, got {request.host}:{request.port}, which the app would call past the "
        f"sidecar; there is {there}",
    )


def _same_host(configured: str, asked: str) -> bool:
    """Whether two names may stand for one host: ``auth`` is ``auth.shop.svc.cluster.local`` in its namespace."""
    a, b = configured.lower().rstrip("."), asked.lower().rstrip(".")
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")


def render(explanation: Explanation, *, as_json: bool) -> str:
    """The answer for a person, or as JSON."""
    if as_json:
        return json.dumps(explanation.document(), indent=2)
    return "\n".join(_lines(explanation))


def _lines(explanation: Explanation) -> Iterator[str]:
    port = explanation.port
    target = port.app if isinstance(port, Inbound) else port.upstream
    way = "to the app" if isinstance(port, Inbound) else "from the app to an upstream"
    yield str(explanation.request)
    yield f"{port.name} ({port.protocol}), {way}: {port.listen.host}:{port.listen.port} -> {target.host}:{target.port}"
    for number, step in enumerate(explanation.steps, 1):
        yield ""
        yield f"{number:>2}. {step.policy}: {step.mode}"
        for sentence in step.does:
            yield textwrap.fill(
                sentence, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
            )
