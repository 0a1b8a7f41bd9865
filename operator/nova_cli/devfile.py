"""A NovaService file as `nova dev` reads it: the one service that is meant, resolved for this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.proxy import Address, ProxyConfig, encode
from nova_api.resolve import resolve
from nova_api.v1alpha1 import KIND, NovaService
from nova_cli.documents import parse
from nova_sidecar.config import Document, document, read


class Elsewhere(NamedTuple):
    """Where an upstream is on this machine."""

    address: Address
    tls: bool = False
    """By its `tls`, as in the cluster; else plainly."""


def load(
    path: Path,
    name: str | None,
    elsewhere: Mapping[str, Elsewhere],
    certificates: Path = Path("tls"),
    redis: Address | None = None,
) -> Document:
    """The sidecar's document for the NovaService called `name`, or the only one, of a YAML file.

    `elsewhere` sends upstreams to other addresses than the file says, `certificates` has a folder per Secret, `redis`
    is where that of `spec.redis` is on this machine. Raises ConfigError, whose path is that of the NovaService where
    the fault lies there.
    """
    config = redirect(resolved(path, name), elsewhere)
    return document(encode(with_redis(with_certificates(config, certificates), redis)))


def resolved(path: Path, name: str | None) -> ProxyConfig:
    """What the file says, before anything of it is sent elsewhere. Raises ConfigError as `load` does."""
    return resolve(convert(choose(parse(read(path)), name), NovaService), place="local")


def choose(documents: list[Any], name: str | None) -> dict[str, Any]:
    """The NovaService that is meant. Raises ConfigError when there is none or the choice is not clear."""
    services = [found for found in documents if isinstance(found, dict) and found.get("kind") == KIND]
    there = ", ".join(map(_name, services)) or "none"
    if name is None:
        if len(services) != 1:
            raise ConfigError("$", f"expected one NovaService, or --name to choose one; found {there}")
        return services[0]
    meant = [service for service in services if _name(service) == name]
    if len(meant) != 1:  # the last of several would otherwise win without a word
        raise ConfigError("$", f"expected one NovaService named {name}, found {there}")
    return meant[0]


def redirect(config: ProxyConfig, elsewhere: Mapping[str, Elsewhere]) -> ProxyConfig:
    """The same document with upstreams at other addresses. Raises ConfigError for an upstream that is not there, and
    for one that should be called by TLS and has none."""
    names = [port.name for port in config.outbound]
    for name in elsewhere:
        if name not in names:
            raise ConfigError(
                "$.spec.upstreams", f"expected one named {name} (--upstream), found {', '.join(names) or 'none'}"
            )
    outbound = list(config.outbound)
    for index, port in enumerate(outbound):
        if port.name not in elsewhere:
            continue
        there = elsewhere[port.name]
        if there.tls and port.tls is None:
            raise ConfigError(f"$.spec.upstreams[{index}].tls", "expected it to be set, since --upstream says tls://")
        outbound[index] = msgspec.structs.replace(port, upstream=there.address, tls=port.tls if there.tls else None)
    return msgspec.structs.replace(config, outbound=tuple(outbound))


def with_certificates(config: ProxyConfig, parent: Path) -> ProxyConfig:
    """The same document with the files of Secrets from folders on this machine. Raises ConfigError where one is
    missing: without it, the machine's own authorities would count and nobody would know."""
    outbound = list(config.outbound)
    for index, port in enumerate(outbound):
        if port.tls is not None and port.tls.directory:
            path = f"$.spec.upstreams[{index}].tls.secret"
            folder = _folder(parent, port.tls.directory, path, ", or send the upstream elsewhere with --upstream")
            outbound[index] = msgspec.structs.replace(port, tls=msgspec.structs.replace(port.tls, directory=folder))
    jwt = config.jwt
    if jwt is not None:
        directories = tuple(
            _folder(parent, directory, f"$.spec.jwt.issuers[{index}].secret") if directory else ""
            for index, directory in enumerate(jwt.directories)
        )
        jwt = msgspec.structs.replace(jwt, directories=directories)
    return msgspec.structs.replace(config, outbound=tuple(outbound), jwt=jwt)


def _folder(parent: Path, directory: str, path: str, otherwise: str = "") -> str:
    folder = parent / Path(directory).name
    if not folder.is_dir():
        raise ConfigError(
            path,
            f"expected its files (ca.crt, tls.crt, tls.key) in the folder {folder}, which is not there; "
            f"make it, or name another parent with --tls-directory{otherwise}",
        )
    return str(folder.resolve())


def with_redis(config: ProxyConfig, there: Address | None) -> ProxyConfig:
    """The same document with the Redis of request policies there, without a login; without it with none, since one
    sidecar has nobody to share with. Raises ConfigError where the service has no Redis."""
    if there is None:
        return msgspec.structs.replace(config, store=None)
    if config.store is None:
        raise ConfigError("$.spec.redis", "expected it to be set, since --redis says where it is")
    store = msgspec.structs.replace(config.store, url=f"redis://{there.host}:{there.port}/0")
    return msgspec.structs.replace(config, store=store)


def _name(service: dict[str, Any]) -> str:
    metadata = service.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "(no name)"
