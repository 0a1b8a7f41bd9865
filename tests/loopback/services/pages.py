"""What a service shows on its page of metrics."""

import urllib.request


def page(port: int) -> str:
    """All of it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def metric(port: int, series: str) -> float:
    """The value of one series, with its labels in order of their names; 0 where it is not there."""
    for line in page(port).splitlines():
        name, _, value = line.rpartition(" ")
        if name == series:
            return float(value)
    return 0.0
