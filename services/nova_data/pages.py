"""/metrics, /healthz and /readyz of the tools that go on running, in a thread of their own: they answer while the loop
works."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from nova_data.errors import ListenError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

State: TypeAlias = Callable[[], dict[str, Any]]
PATIENCE: Final = 5.0
"""Seconds that a client may take for its request."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 16


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Write nothing: probes would drown the rest."""


@contextmanager
def served(
    host: str, port: int, registry: CollectorRegistry, health: State, ready: State | None = None
) -> Iterator[int]:
    """Serve while the block runs; yields the port, where 0 asked for a free one.

    `health` is what /healthz says, and `ready` what /readyz says, the same when left out; 503 where its `status` is not
    `ok`. Raises ListenError.
    """
    metrics = make_wsgi_app(registry)
    states = {"/healthz": health, "/readyz": ready or health}

    def answer(environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environment["PATH_INFO"] == "/metrics":
            page: Iterable[bytes] = metrics(environment, start)
            return page
        if (asked := states.get(environment["PATH_INFO"])) is not None:
            state = asked()
            start(
                "200 OK" if state["status"] == "ok" else "503 Service Unavailable",
                [("Content-Type", "application/json")],
            )
            return [json.dumps(state).encode()]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics, /healthz, /readyz\n"]

    try:
        made = make_server(host, port, answer, _Server, _Handler)
    except OSError as error:
        raise ListenError(host, port, error) from error
    with made as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
