"""What clean logs cost, as a share of the processor time that a request takes in the sidecar.

Both are measured in one run on one machine, so that its speed and whoever else uses it cancel out. `pytest --compiled`
has the share of the image's sidecar.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from nova_sidecar.policy.correlation import _SAFE, LONGEST, acceptable
from nova_sidecar.telemetry.accesslog import AccessLogWriter
from nova_sidecar.telemetry.entry import AccessEntry

from .conftest import StartApp, StartSidecar
from .support.sidecar import Sidecar, document, inbound

REQUESTS: Final = 6_000
BATCH: Final = 40
"""Requests that a client sends at once: a sidecar at full load wakes up for more than one."""
MOST: Final = 0.02
"""Share of a request's processor time that cleaning may take."""

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


def test_cleaning_takes_less_than_two_percent_of_a_request(start: StartSidecar, app: StartApp) -> None:
    alike = ["/v1/orders"] * REQUESTS
    unlike = [f"/v1/orders/{number}/items" for number in range(REQUESTS)]
    ids = [str(uuid.uuid4()).encode() for _ in range(REQUESTS)]
    named = [f"/v1/orders/{one.decode()}" for one in ids]
    sidecar = start(document(inbound(app().address)))
    served(sidecar, unlike[:2000], ids)  # what is done once is done
    for kind, paths in (("alike", alike), ("unlike", unlike), ("by UUID", named)):
        whole = served(sidecar, paths, ids)
        cleaned = best(lambda paths=paths: cleaning(paths, ids))  # type: ignore[misc]  # bound
        share = cleaned / whole
        print(f"{kind}: {cleaned * 1e6:.2f} of {whole * 1e6:.1f} us, {share:.2%}")
        assert share < MOST, (kind, cleaned, whole)


def served(sidecar: Sidecar, paths: Sequence[str], ids: Sequence[bytes]) -> float:
    """Processor seconds of the sidecar for each request, whose lines are written by the end."""
    before = sidecar.cpu_seconds
    with sidecar.connect() as client:
        for at in range(0, len(paths), BATCH):
            some = zip(paths[at : at + BATCH], ids[at : at + BATCH], strict=True)
            heads = [
                f"GET {path} HTTP/1.1\r\nHost: shop\r\nX-Correlation-Id: {one.decode()}\r\n\r\n" for path, one in some
            ]
            client.send("".join(heads).encode())
            for _ in heads:
                assert client.response().status == 200
    return (sidecar.cpu_seconds - before) / len(paths)


def cleaning(paths: Sequence[str], ids: Sequence[bytes]) -> float:
    """Processor seconds for each of them: of the batches of their lines, and of what ids are looked at for."""
    writer = AccessLogWriter(Nowhere(), lambda *_: None, service="shop", namespace="default")  # type: ignore[arg-type]  # all it asks of a sink
    batches = [[entry(path) for path in paths[at : at + BATCH]] for at in range(0, len(paths), BATCH)]
    began = time.process_time()
    for batch in batches:
        writer._clean(batch)
    for one in ids:
        acceptable(one)
    middle = time.process_time()
    for one in ids:
        well_formed(one)
    return (2 * middle - began - time.process_time()) / len(paths)


def well_formed(one: bytes) -> bool:
    """What an id has to be anyhow."""
    return 0 < len(one) <= LONGEST and not one.translate(None, _SAFE)


class Nowhere:
    """Takes no lines: they are only cleaned."""


def entry(path: str) -> AccessEntry:
    return AccessEntry(0.0, "inbound", "web", "GET", path, 200, "", 1.0, 1.0, 1, 0, 2, "", "127.0.0.1", "127.0.0.1:80")


def best(measure: Callable[[], float]) -> float:
    """The least of three: what disturbs a measurement makes it longer."""
    return min(measure() for _ in range(3))
