"""How long a change takes to the sidecars of real pods: the API server, the operator, a kubelet, the sidecar's file.

A watcher in the demo's client pod asks every sidecar all the time which configuration it runs, and says when that has
changed. Its clock is this machine's, as is that of a kind node.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nova_api import names
from nova_cli.cluster.provider import docker_answers, provider
from nova_cli.console import Console
from nova_cli.demo.bring_up import bring_up
from nova_cli.demo.stage import CLIENT, Stage
from tests.cluster.api import Api

from .after import Times

SERVICE = "catalog"
PATIENCE = 60.0
WATCHER = """\
import http.client, json, select, sys, time
known, last = {}, time.time()
while time.time() - last < float(sys.argv[1]) and not select.select([sys.stdin], [], [], 0.02)[0]:
    for address in sys.argv[3:]:
        try:
            connection = http.client.HTTPConnection(address, int(sys.argv[2]), timeout=2)
            connection.request("GET", "/status")
            found = json.loads(connection.getresponse().read())["configHash"]
        except OSError:
            continue
        finally:
            connection.close()
        if known.get(address) != found:
            known[address], last = found, time.time()
            print(json.dumps([address, found, last]), flush=True)
"""


def available() -> bool:
    """Whether this machine can have a node: kind's, or our own."""
    return docker_answers() or os.geteuid() == 0


def measured(times: int) -> Times:
    """On the demo's cluster, which is left as it was found: running or not."""
    console = Console()
    cluster = provider(console)
    ran = cluster.status().running
    try:
        return delivery(bring_up(cluster, console), times)
    finally:
        if not ran:
            cluster.down()


def delivery(stage: Stage, times: int) -> Times:
    """From the write of a spec until the last sidecar of the service runs it, so many times one after the other."""
    api, before = Api(stage.kubeconfig), stage.spec(SERVICE)["backpressure"]["maxConcurrency"]
    taken = []
    with _watched(stage) as changed:
        try:
            for number in range(times):
                began = time.time()
                api.change(stage.namespace, SERVICE, backpressure={"maxConcurrency": before + 1 + number % 2})
                taken.append(changed() - began)
        finally:
            api.change(stage.namespace, SERVICE, backpressure={"maxConcurrency": before})
            changed()
    return Times.of(taken)


@contextmanager
def _watched(stage: Stage) -> Iterator[Callable[[], float]]:
    """What waits until every sidecar runs another configuration than before, the same one, and says since when."""
    addresses = [pod.ip for pod in stage.pods(SERVICE)]
    program = ["python3", "-c", WATCHER, str(PATIENCE), str(names.STATUS_PORT), *addresses]
    command = stage.command("exec", "--stdin", CLIENT, "--", *program)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        running: dict[str, str] = {}

        def changed() -> float:
            fresh: set[str] = set()
            while len(fresh) < len(addresses) or len(set(running.values())) > 1:
                if not (line := lines.readline()):
                    raise TimeoutError(f"no sidecar of {SERVICE} has changed for {PATIENCE:.0f} s")
                address, found, at = json.loads(line)
                running[address] = found
                fresh.add(address)
            return float(at)

        try:
            changed()
            yield changed
        finally:
            process.kill()
