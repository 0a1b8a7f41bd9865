"""How many connections each process of each service may have, so that all of them together fit into the server.

PostgreSQL refuses who comes beyond `max_connections`, and a rolling update starts new pods before the old ones are
gone. So what counts is pods at their most, times processes, times the size of the pool. A server is busy with about
twice as many connections as it has cores; more of them wait in it instead of in the app.
https://www.postgresql.org/docs/current/runtime-config-connection.html

    sizes(100, {"posts": Service(replicas=4), "search": Service(replicas=2)})       # 90 among processes of 5 and 3 pods
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

RESERVED: Final = 10
"""Connections for people, migrations, replicas and backups; `superuser_reserved_connections` (3) is among them."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """`replicas`, `surge` and `processes` count pods, pods beyond them during an update, and processes in each;
    `weight` is what the service gets beside the others."""

    replicas: int
    surge: int = 1
    processes: int = 1
    weight: float = 1.0

    @property
    def pools(self) -> int:
        """Pools at their most."""
        return (self.replicas + self.surge) * self.processes


def sizes(max_connections: int, services: Mapping[str, Service], *, reserved: int = RESERVED) -> dict[str, int]:
    """The size of one process's pool, for each service, from 1. Raises ValueError where they cannot all have one."""
    for name, service in services.items():
        if service.replicas < 1 or service.surge < 0 or service.processes < 1 or not service.weight > 0:
            raise ValueError(f"{name}: expected replicas and processes from 1, surge from 0 and a weight above 0")
    left = max_connections - reserved - sum(service.pools for service in services.values())
    if left < 0:
        raise ValueError(
            f"max_connections: expected at least {max_connections - left}, one for each process and {reserved} for"
            f" others, got {max_connections}"
        )
    given = dict.fromkeys(services, 1)
    weights = sum(service.weight for service in services.values())
    for name, service in services.items():
        given[name] += int(left * service.weight / weights) // service.pools
    left -= sum((given[name] - 1) * service.pools for name, service in services.items())
    for name in sorted(services, key=lambda name: -services[name].weight / services[name].pools / given[name]):
        if services[name].pools <= left:
            given[name] += 1
            left -= services[name].pools
    return given
