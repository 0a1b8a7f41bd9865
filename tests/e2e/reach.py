"""Who reaches whom, for tests of NetworkPolicies: TCP connections tried from within a container.

What a policy refuses is dropped, so nobody answers, and a connection is given up after `PATIENCE` seconds. One that was
reset has passed: there is only nobody who listens.
"""

from __future__ import annotations

import json
from typing import Final

from nova_cli.demo.stage import Stage

OPEN: Final = "open"
DROPPED: Final = "dropped"
PATIENCE: Final = 2.5
"""Seconds. The first packet is sent once more after one of them: what enforces policies may not know a new pod yet."""
PROGRAM: Final = """\
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reach(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), float(sys.argv[1])).close()
    except TimeoutError:
        return "dropped"
    except OSError as error:
        return str(error)
    return "open"

places = sys.argv[2:]
with ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps(dict(zip(places, pool.map(reach, places)))))
"""


def reached(stage: Stage, pod: str, *places: str, container: str = "") -> dict[str, str]:
    """What became of a connection from the pod to each HOST:PORT: `OPEN`, `DROPPED`, or the system's words."""
    words = ["exec", pod, *(["-c", container] if container else []), "--", "python3", "-c", PROGRAM]
    found: dict[str, str] = json.loads(stage.kubectl(*words, str(PATIENCE), *places))
    return found
