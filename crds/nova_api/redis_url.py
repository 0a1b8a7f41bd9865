"""Where a Redis is, as its URL says (`nova_api.policies.RedisStore`)."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

_PORTS: Final = {"redis": 6379, "rediss": 6379, "redis+cluster": 6379, "redis+sentinel": 26379}


class Place(NamedTuple):
    """Where Redis is."""

    scheme: str
    servers: tuple[tuple[str, int], ...]
    master: str = ""
    database: int = 0


def place(url: str) -> Place:
    """Read a URL. Raises ValueError, saying what is expected."""
    found = urlsplit(url)
    default = _PORTS.get(found.scheme)
    if default is None:
        raise ValueError("expected redis://, rediss://, redis+sentinel:// or redis+cluster://")
    servers = tuple(_server(part, default) for part in found.netloc.split(",") if part)
    path = [part for part in found.path.split("/") if part]
    master = path.pop(0) if found.scheme == "redis+sentinel" and path else ""
    if not servers or (found.scheme == "redis+sentinel") != bool(master):
        raise ValueError("expected a server, and after those of redis+sentinel the name of the master")
    if len(path) > 1 or (path and (not path[0].isdecimal() or found.scheme == "redis+cluster")):
        raise ValueError("expected the number of a database after the last slash, and none with redis+cluster")
    if len(servers) > 1 and found.scheme in ("redis", "rediss"):
        raise ValueError("expected one server; several are redis+sentinel or redis+cluster")
    return Place(found.scheme, servers, master, int(path[0]) if path else 0)


def _server(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port or default
    except ValueError:
        raise ValueError("expected ports from 1 to 65535") from None
    if not parts.hostname:
        raise ValueError("expected a host before each port")
    return parts.hostname, port
