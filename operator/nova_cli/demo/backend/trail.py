"""One correlation id, from a client's header through everything that a request sets off."""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from nova_api import names
from nova_cli.demo.backend.stage import SOON, Backend
from nova_cli.demo.claim import Verdict

_EXPECTED: Final = (
    ("content", True),
    ("content", False),
    ("users", True),
    ("users", False),
    ("notification", False),
)
"""Whose lines must have the id, the sidecar's (True) or the app's: the request, its gRPC call, its event's consumer."""


@dataclass(frozen=True, order=True)
class Stop:
    """Where the id was seen, and when, in seconds since the epoch."""

    at: float
    service: str
    sidecar: bool
    said: str


def trail(backend: Backend) -> Verdict:
    """Anna follows Ben: content asks users by gRPC, tells Kafka by its outbox, and notification hears of it."""
    anna, ben = backend.person("anna"), backend.person("ben")
    backend.ask("DELETE", "content", f"/follows/{ben.user}", by=anna)
    wanted, begin = f"demo-trail-{uuid.uuid4()}", time.monotonic()
    answer = backend.ask("PUT", "content", f"/follows/{ben.user}", by=anna, correlation=wanted)
    in_kafka = backend.messages("follow", containing=wanted, within=SOON)
    stops: list[Stop] = []

    def complete() -> bool:
        lines = backend.lines(time.monotonic() - begin + 5)
        stops[:] = [_stop(pod, container, line) for pod, container, line in lines if wanted in str(line)]
        return {(one.service, one.sidecar) for one in stops} >= set(_EXPECTED)

    whole = Backend.eventually(complete, within=SOON, every=1)
    stops += [_message(one) for one in in_kafka]
    stops.sort()
    first = stops[0].at if stops else 0.0
    echoed = answer.headers.get("x-correlation-id") == wanted
    figures = f"{wanted} echoed: {'yes' if echoed else 'NO'}; {len(stops)} stops" + "".join(
        f"\n     +{one.at - first:6.3f} s  {one.service:<13} {'sidecar' if one.sidecar else '':<8} {one.said}"
        for one in stops
    )
    return Verdict(answer.status == 204 and echoed and bool(in_kafka) and whole, figures)


def _stop(pod: str, container: str, line: dict[str, Any]) -> Stop:
    at = datetime.fromisoformat(line["time"]).timestamp()
    sidecar = container == names.SIDECAR_CONTAINER
    words = [str(line[name]) for name in ("direction", "name", "method", "path", "status", "topic") if line.get(name)]
    return Stop(at, line.get("service") or pod, sidecar, " ".join([line["event"], *words]))


def _message(message: dict[str, Any]) -> Stop:
    headers = message["headers"]
    said = f"{headers.get('event-type', '')} in {message['topic']}/{message['partition']}"
    return Stop(message["time"], "Kafka", False, said)
