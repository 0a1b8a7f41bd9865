"""Redis as a store: a single server, one that Sentinels watch over, or a Cluster, by redis-py's asyncio client.

    redis://host:6379/0                          rediss:// by TLS
    redis+sentinel://host:26379,host:26379/master-name/0
    redis+cluster://host:6379,host:6379          the last two by TLS where the Secret has ca.crt

The client finds a new master, or the server of a key, by itself. It resolves names as every program of the machine
does, so a host that is also an upstream is reached through that upstream's listener, at the same port.

Its own deadlines are longer than those of a call (`store.guarded`): they bound how long a connection that nobody waits
for any more may take. It tries a command once more, after a random moment, when a kept connection turns out to be
closed: a server that was restarted does not get all of them at once.
"""

import asyncio
from collections.abc import Callable, Mapping
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError  # the last two are not each other's

from nova_api.redis_url import place
from nova_sidecar.store.port import LARGEST, LONGEST_HOLDER, StoreError

PATIENCE: Final = 2.0
"""Seconds for a connection, and for an answer on it."""
QUIET: Final = 5.0
"""Seconds without a message after which a channel's connection is asked whether it is still there, and for which its
answer is waited for."""

AGAIN: Final = 0.02
"""Longest wait before that, seconds."""

_HOLD: Final = """
local held = redis.call('GETRANGE', KEYS[1], 0, ARGV[4])
if held ~= '' and held ~= ARGV[3] and #held <= tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
"""One script, since Redis runs a script as a single step (redis.io/docs, "Scripting with Lua": atomicity)."""


class RedisBackend:
    """See the module. `connections` bounds those to each server."""

    def __init__(self, url: str, connections: int) -> None:
        self._place = place(url)
        self._connections = connections
        self._client: Redis | RedisCluster | None = None
        self._sentinel: Sentinel | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._digests: dict[str, str] = {}
        self._options: dict[str, Any] = {}

    def login(self, files: Mapping[str, bytes]) -> None:
        """Use these credentials from now on; the connections there are get time to finish what they carry."""
        options: dict[str, Any] = {
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            "max_connections": self._connections,
            "protocol": 2,
            "retry": Retry(FullJitterBackoff(AGAIN, AGAIN), 1),
        }
        for name in ("username", "password"):
            if (value := files.get(name)) is not None:
                options[name] = value.decode("utf-8").strip()
        tls = self._place.scheme == "rediss" or (self._place.scheme != "redis" and "ca.crt" in files)
        if tls:
            options["ssl"] = True
            if "ca.crt" in files:
                options["ssl_ca_data"] = files["ca.crt"].decode("ascii")
        self._options = options
        former, sentinel = self._client, self._sentinel
        self._client, self._sentinel = self._make(options)
        if former is not None:
            task = asyncio.ensure_future(_close_later(former, sentinel))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _make(self, options: dict[str, Any]) -> tuple[Redis | RedisCluster, Sentinel | None]:
        scheme, servers, master, database = self._place
        if scheme == "redis+cluster":
            nodes = [ClusterNode(host, port) for host, port in servers]
            return RedisCluster(startup_nodes=nodes, **options), None
        if scheme == "redis+sentinel":
            plain = {name: options[name] for name in options.keys() - {"username", "password", "max_connections"}}
            sentinel = Sentinel(list(servers), sentinel_kwargs=plain)  # type: ignore[no-untyped-call]  # redis-py's
            return sentinel.master_for(master, db=database, **options), sentinel
        (host, port), *_ = servers
        return Redis(host=host, port=port, db=database, **options), None

    async def get(self, key: str) -> bytes | None:
        """See `Store`."""
        found = await self._run("GETRANGE", key, 0, LARGEST)  # GET without a bound to what comes
        if not isinstance(found, bytes) or len(found) > LARGEST:
            raise StoreError(f"Redis: expected a value of at most {LARGEST} bytes")
        return found or None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See `Store`."""
        await self._run("SET", key, value, "PX", round(seconds * 1000))

    async def hold(self, key: str, value: bytes, seconds: float, instead_of: bytes = b"") -> bytes:
        """See `Store`."""
        holder = await self.run(_HOLD, (key,), (value, round(seconds * 1000), instead_of, LONGEST_HOLDER))
        if not isinstance(holder, bytes) or not 0 < len(holder) <= LONGEST_HOLDER:
            raise StoreError("Redis: expected the holder of a key")
        return holder

    async def delete(self, key: str) -> None:
        """See `Store`."""
        await self._run("DEL", key)

    async def run(self, script: str, keys: tuple[str, ...], arguments: tuple[bytes | int | str, ...]) -> Any:
        """See `Store`. The server has a script it has seen under its hash; only the first call brings its text."""
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            return await self._run("EVALSHA", digest, len(keys), *keys, *arguments)
        except StoreError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self._run("EVAL", script, len(keys), *keys, *arguments)

    async def _run(self, *command: Any) -> Any:
        if self._client is None:
            raise StoreError("the credentials of the store cannot be used")
        try:
            return await self._client.execute_command(*command)
        except (
            Exception
        ) as error:  # what is no Redis answers with anything: ValueError, RecursionError, UnicodeError, …
            raise StoreError(f"Redis: {type(error).__name__}") from error

    async def listen(self, channel: str, heard: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """See `Backend`. In a Cluster every node passes every message on, so any of them will do."""
        client, single = self._client, None
        if client is None:
            raise StoreError("the credentials of the store cannot be used")
        try:
            if isinstance(client, RedisCluster):
                await client.initialize()
                node = client.get_default_node()
                client = single = Redis(host=str(node.host), port=int(node.port), **self._options)
            async with client.pubsub() as messages:
                await messages.subscribe(channel)
                while True:
                    await self._hear(messages, heard, joined)
        except Exception as error:  # as in `_run`
            raise StoreError(f"Redis: {type(error).__name__}") from error
        finally:
            if single is not None:
                await _close(single, None)

    async def _hear(self, messages: Any, heard: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        message = await messages.get_message(timeout=QUIET)
        if message is None:
            await messages.ping()  # of a dead one this says nothing: the kernel takes it, and tries for 15 min
            message = await messages.get_message(timeout=QUIET)
        if message is None:
            raise TimeoutError
        if message["type"] == "message":
            heard(message["data"])
        elif message["type"] == "subscribe":
            joined()  # the client connects and subscribes anew by itself, and says so only thus

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if client is not None:
            await _close(client, self._sentinel)

    def __repr__(self) -> str:
        return f"<RedisBackend {self._place.scheme} {len(self._place.servers)} servers>"


async def _close_later(client: Redis | RedisCluster, sentinel: Sentinel | None) -> None:
    try:
        await asyncio.sleep(PATIENCE)
    finally:
        await _close(client, sentinel)


async def _close(client: Redis | RedisCluster, sentinel: Sentinel | None) -> None:
    try:
        await client.aclose()
        for each in sentinel.sentinels if sentinel is not None else ():
            await each.aclose()
    except (RedisError, RedisClusterException, OSError):
        pass  # it was not to be had anyhow
