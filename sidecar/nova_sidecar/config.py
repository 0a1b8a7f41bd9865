"""The sidecar's document: loaded once at the start, watched from then on, the last good one kept.

The file is looked at four times a second with one `stat`, about 2 µs each. inotify would save that and cost more: a
ConfigMap is swapped by renaming a symlink two directories up, so every directory on the way needs a watch; instances
are limited per user for the whole node (fs.inotify.max_user_instances, 128), and all sidecars run as the same user;
some file systems never report changes.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.proxy import ProxyConfig, decode, digest
from nova_api.redis_url import place
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.telemetry.tracing import available

MAX_BYTES: Final = 1 << 20  # a ConfigMap holds no more (Kubernetes: "ConfigMaps", 1 MiB)
POLL_INTERVAL: Final = 0.25


class Document(NamedTuple):
    """A document that can be run: its bytes, what they say, and their hash."""

    text: bytes
    config: ProxyConfig
    hash: str


def load(path: Path) -> Document:
    """Read and check a document. Raises ConfigError, naming the field and the rule, for everything that is wrong."""
    return document(read(path))


def load_first(path: Path) -> Document:
    """The document to start with: the one at `path`, or, where that cannot be used, the last good one beside it.

    `Reloader` then looks at `path` again and reports why it was refused, as it does for every document. Raises the
    ConfigError of `path` where there is no other.
    """
    try:
        return load(path)
    except ConfigError:
        try:
            return load(path.with_name(names.LAST_GOOD_KEY))
        except ConfigError:
            pass
        raise


def document(text: bytes) -> Document:
    """Check the bytes of a document. Raises ConfigError."""
    config = decode(text)
    _keep_apart(config)
    _require_packages(config)
    return Document(text, config, digest(text))


def read(path: Path) -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`. Raises ConfigError.

    Opened without waiting, so that a named pipe in its place is an error and not a sidecar that hangs.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError("$", "expected a regular file")
            text = _read_all(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)  # not left to a file object: one that refuses a directory keeps it open
    except OSError as error:
        raise ConfigError("$", f"expected a readable file ({os.strerror(error.errno or 0)})") from error
    if len(text) > MAX_BYTES:
        raise ConfigError("$", f"expected at most {MAX_BYTES} bytes")
    return text


def _read_all(descriptor: int, limit: int) -> bytes:
    """What is in the file, `limit` bytes at most."""
    parts = []
    while limit and (part := os.read(descriptor, limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _require_packages(config: ProxyConfig) -> None:
    if config.tracing.mode == "Enforce" and not available():
        raise ConfigError("$.tracing.mode", "expected Off, since OpenTelemetry is not installed (nova[tracing])")
    if config.affinity is not None and config.affinity.store is not None:
        _require_store(config.affinity.store.url, "$.affinity.store")
    if config.store is not None:
        _require_store(config.store.url, "$.store")


def _require_store(url: str, path: str) -> None:
    if find_spec("redis") is None:
        raise ConfigError(path, "expected none, since redis-py is not installed (nova[store])")
    try:
        place(url)
    except ValueError as error:
        raise ConfigError(f"{path}.url", str(error)) from error


def _keep_apart(config: ProxyConfig) -> None:
    """No request may reach the admin servers through the data path, or go round in it until the pool is used up."""
    admin = {config.admin.status.port, config.admin.control.port} - {0}
    listeners = [port.listen for port in config.outbound]
    targets = [(f"$.inbound[{i}].app", port.app) for i, port in enumerate(config.inbound)]
    targets += [(f"$.outbound[{i}].upstream", port.upstream) for i, port in enumerate(config.outbound)]
    targets += [
        (f"$.outbound[{i}].endpoints", port.endpoints) for i, port in enumerate(config.outbound) if port.endpoints
    ]
    canaries = [(i, port.canary) for i, port in enumerate(config.outbound) if port.canary]
    targets += [(f"$.outbound[{i}].canary.address", canary.address) for i, canary in canaries]
    for path, target in targets:
        if (target.port in admin and _is_this_machine(target.host)) or (target.port and target in listeners):
            raise ConfigError(path, f"expected another address than {target.host}:{target.port}, the sidecar's own")


def _is_this_machine(host: str) -> bool:
    """Whether an address or name stands for the machine itself, in any of the spellings that connect(2) takes."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.rstrip(".") == "localhost"
    plain = getattr(address, "ipv4_mapped", None) or address  # ::ffff:127.0.0.1 is 127.0.0.1 (RFC 4291 section 2.5.5.2)
    return bool(plain.is_loopback or plain.is_unspecified)


class Refusal(NamedTuple):
    """A document that was not taken over: the field and the rule it breaks."""

    field: str
    rule: str
    hash: str | None
    """Hash of the refused bytes, by which the operator knows which document this speaks of; None without any."""


class Reloader:
    """Keeps a running sidecar at its file: takes over what is good, refuses what is not and keeps the old one.

    `load` turns the file into a document and `apply` puts it into force, all or nothing; both raise ConfigError.
    `notify` is called after each document that was applied or refused, and when a refused file is right again.
    `applied` and `refused` count reloads, `generation` the documents that ran, the first included.
    """

    def __init__(
        self,
        path: Path,
        first: Document,
        *,
        apply: Callable[[Document], Awaitable[None]],
        load: Callable[[Path], Document] = load,
        notify: "Callable[[Reloader], None] | None" = None,
        interval: float = POLL_INTERVAL,
    ) -> None:
        self.document = first
        self.generation = 1
        self.applied = 0
        self.refused = 0
        self.refusal: Refusal | None = None
        self._path = path
        self._apply = apply
        self._load = load
        self._notify = notify
        self._interval = interval
        self._seen: _Signature | None = None
        self._suspect: _Signature | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Reloader generation={self.generation} hash={self.document.hash} refused={self.refused}>"

    def start(self) -> None:
        """Look at the file from now on, every `interval` seconds, until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def stop(self) -> None:
        """Look no more. A document that is just being applied is finished."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look_now(self) -> None:
        """Read the file again even if it looks unchanged: what SIGHUP asks for."""
        self._seen = None
        self._suspect = _signature(self._path)
        if self._timer is not None:
            self._timer.cancel()
            self._tick()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._tick)
        signature = _signature(self._path)
        if signature != self._seen and (self._check is None or self._check.done()):
            self._check = loop.create_task(self._reload(signature))

    async def _reload(self, signature: "_Signature") -> None:
        """Read the file as it is now. One that cannot be used is looked at a second time before it is refused: some
        editors write in place, and half a file is not a mistake."""
        try:
            found = self._load(self._path)
        except ConfigError as error:
            if signature == self._suspect:
                self._refuse(Refusal(error.path, error.rule, _file_hash(self._path)), signature)
            self._suspect = signature
            return
        self._suspect = None
        if found.hash == self.document.hash:
            self._mended(signature)
            return
        try:
            await self._apply(found)
        except ConfigError as error:
            self._refuse(Refusal(error.path, error.rule, found.hash), signature)
        except Exception as error:  # a fault of ours must not end the watching with it
            get_logger().error("configuration not applied", file=str(self._path), exc_info=error)
            rule = "expected a document that can be applied (internal error, see log)"
            self._refuse(Refusal("$", rule, found.hash), signature)
        else:
            self._accept(found, signature)

    def _mended(self, signature: "_Signature") -> None:
        """The file says what runs already: nothing to apply, and a refusal that was told is over."""
        refused, self._seen, self.refusal = self.refusal, signature, None
        if refused is not None:
            get_logger().info("configuration is the one in force again", hash=self.document.hash)
            self._tell()

    def _accept(self, found: Document, signature: "_Signature") -> None:
        self._seen, self.refusal, self.document = signature, None, found
        self.generation += 1
        self.applied += 1
        get_logger().info("configuration applied", hash=found.hash, generation=self.generation)
        self._tell()

    def _refuse(self, refusal: Refusal, signature: "_Signature") -> None:
        self._seen, self.refusal = signature, refusal
        self.refused += 1
        get_logger().error(
            "configuration refused, the old one stays in force",
            file=str(self._path),
            field=refusal.field,
            rule=refusal.rule,
            hash=self.document.hash,
        )
        self._tell()

    def _tell(self) -> None:
        if self._notify is not None:
            self._notify(self)


def _file_hash(path: Path) -> str | None:
    try:
        return digest(read(path))
    except ConfigError:
        return None


_Signature = tuple[int, ...]


def _signature(path: Path) -> _Signature:
    """What changes when the file behind a path does, symlinks followed: its identity, its times and its size.

    Empty where there is no file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
