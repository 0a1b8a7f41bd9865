"""`nova dev`: the sidecar for a NovaService on this machine, beside a local process, without a cluster."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.proxy import Address, ProxyConfig
from nova_cli.child import Child
from nova_cli.devfile import Elsewhere, load, resolved
from nova_cli.documents import DocumentError
from nova_cli.errors import CommandError
from nova_sidecar.config import Document, Reloader
from nova_sidecar.runtime import CUT_SHORT, Sidecar, StartError, loop_factory
from nova_sidecar.telemetry.sink import LineSink

STDERR: Final = 2
TERMINATED: Final = 128 + signal.SIGTERM

DESCRIPTION = """\
Run the sidecar that a pod of the service would have, on this machine and without a cluster. It needs no root.

Each entry of spec.ports listens on 127.0.0.1:port and forwards to the app on 127.0.0.1:appPort. Each upstream has the
loopback address it would have in the pod (127.77.0.N) and its own port. COMMAND is the app: it gets PORT (the first
appPort), NOVA_UPSTREAM_<NAME>_URL for each upstream and NOVA_CONTROL_URL, and its exit code becomes that of `nova dev`.

The file is watched: an edit is taken over at once, a wrong one is reported and the old one stays. Ctrl-C finishes
what is in flight, then ends the app; a second Ctrl-C ends everything at once. Log lines go to standard error.
"""
EPILOG = """\
examples:
  nova dev -f orders.yaml -- python app.py
  nova dev -f orders.yaml --upstream auth=127.0.0.1:9001 -- npm start
  nova dev -f orders.yaml --redis 127.0.0.1:6379 -- ./orders
  nova dev -f billing.yaml --upstream ledger=tls://127.0.0.1:8443 -- ./billing
  nova dev -f everything.yaml --name orders               the app is started elsewhere

Names are those of this machine here: where an upstream's host, such as auth-service, is not known, say with --upstream
where to find it. spec.redis is left alone unless --redis says where it is: one sidecar has nobody to share with. What
`kubectl apply` would warn of, `nova render -f FILE` says.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova dev`."""
    parser = subparsers.add_parser(
        "dev",
        help="run the sidecar for a NovaService beside a local process, without a cluster",
        usage="nova dev -f FILE [--name NAME] [--upstream NAME=HOST:PORT]... [--redis HOST:PORT]\n"
        "                [--tls-directory DIR] [-- COMMAND...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-f", "--file", required=True, type=Path, metavar="FILE", help="YAML with the NovaService")
    parser.add_argument("--name", metavar="NAME", help="the NovaService to run, where the file holds several")
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        type=_elsewhere,
        metavar="NAME=HOST:PORT",
        help="send the calls to an upstream there, plainly even if it has tls; by its tls with NAME=tls://HOST:PORT; "
        "may be repeated",
    )
    parser.add_argument(
        "--tls-directory",
        type=Path,
        default=Path("tls"),
        metavar="DIR",
        help="folder with one folder per Secret of upstreams[].tls and jwt.issuers[]: DIR/SECRET/ca.crt, tls.crt, "
        "tls.key (default: tls)",
    )
    parser.add_argument(
        "--redis",
        type=_address,
        metavar="HOST:PORT",
        help="use the Redis there, without a login, for what request policies share by spec.redis; without it none is "
        "used",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="the app, after --")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Serve until the app ends or somebody interrupts; returns the exit code."""
    reload = partial(
        load,
        name=options.name,
        elsewhere=dict(options.upstream),
        certificates=options.tls_directory,
        redis=options.redis,
    )
    try:
        shares = resolved(options.file, options.name).store is not None
        document = reload(options.file)
    except ConfigError as error:
        raise DocumentError(f"{options.file}: {error}") from error
    sink = LineSink(STDERR)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_Session(options.file, document, sink, shares=shares).run(options.command, reload))
    finally:
        sink.drain(1.0)


class _Session:
    """One run: a sidecar, perhaps an app, and the signals that end both."""

    def __init__(self, file: Path, document: Document, sink: LineSink, *, shares: bool) -> None:
        self._file = file
        self._shares = shares
        self._document = document
        self._sink = sink
        self._child: Child | None = None
        self._stop = asyncio.Event()

    async def run(self, command: list[str], reload: partial[Document]) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt)
        sidecar = Sidecar(self._file, self._document, self._sink, reload=reload, notify=self._report)
        try:
            await sidecar.start()
        except StartError as error:
            raise CommandError(f"{self._file}: {error}\n{HINT}") from error
        try:
            control = sidecar.admin.control
            variables = environment(self._document.config)
            variables[names.CONTROL_VARIABLE] = names.upstream_url("http", control.host, control.port)
            print(summary(sidecar, variables, self._file, shares=self._shares), file=sys.stderr, flush=True)
            return await self._serve(sidecar, command, variables)
        finally:
            await sidecar.close()

    async def _serve(self, sidecar: Sidecar, command: list[str], variables: Mapping[str, str]) -> int:
        """Until the app has ended by itself, or been ended: requests in flight first, then the app, which may go on
        calling its upstreams until it is gone."""
        stopped = asyncio.ensure_future(self._stop.wait())
        if not command:
            await stopped
            await sidecar.leave()
            return 0
        self._child = await Child.start(command, variables)
        ended = asyncio.ensure_future(self._child.wait())
        await asyncio.wait((stopped, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            stopped.cancel()
            return ended.result()
        await sidecar.drain.wait()
        code = await self._child.end(sidecar.proxy.config.drain.timeout)
        return 0 if code == TERMINATED else code

    def _interrupt(self) -> None:
        if self._stop.is_set():
            if self._child is not None:
                self._child.kill()
            self._sink.drain(1.0)
            os._exit(CUT_SHORT)
        self._stop.set()

    def _report(self, reloader: Reloader) -> None:
        refusal = reloader.refusal
        if refusal is None:
            text = f"{self._file}: taken over"
        else:
            text = f"{self._file}: {refusal.field}: {refusal.rule}; what ran before goes on"
        print(f"nova dev: {text}", file=sys.stderr, flush=True)


HINT: Final = """\
A port that is taken: change it in the file, or end what has it (`ss -ltnp` names it). A port below 1024: change it, or
`sudo sysctl net.ipv4.ip_unprivileged_port_start=0`. On macOS, 127.77.0.1 needs `sudo ifconfig lo0 alias 127.77.0.1`."""


def environment(config: ProxyConfig) -> dict[str, str]:
    """What the app finds in its environment: where to listen, and where its upstreams are."""
    variables: dict[str, str] = {}
    for port in config.outbound:
        variables |= names.upstream_variables(port.name, port.protocol, port.listen.host, port.listen.port)
    if config.inbound:
        variables["PORT"] = str(config.inbound[0].app.port)
    return variables


def summary(sidecar: Sidecar, variables: Mapping[str, str], file: Path, *, shares: bool) -> str:
    """What listens where, for the person who started it; `shares` where the service has a Redis."""
    config, admin = sidecar.proxy.config, sidecar.admin.control
    rows = [
        (port.name, names.upstream_url(port.protocol, *sidecar.proxy.inbound_addresses[port.name]), port.app)
        for port in config.inbound
    ] + [
        (port.name, names.upstream_url(port.protocol, *sidecar.proxy.outbound_addresses[port.name]), port.upstream)
        for port in config.outbound
    ]
    width = max(len("admin"), *(len(name) for name, _, _ in rows))
    lines = [f"nova dev: {config.service} is up"]
    lines += [f"  {name:{width}}  {url}  ->  {target.host}:{target.port}" for name, url, target in rows]
    lines += [
        f"  {'admin':{width}}  {names.upstream_url('http', admin.host, admin.port)}  (/status /stats /config /metrics)"
    ]
    if shares:
        used = config.store.url if config.store is not None else "left alone; --redis HOST:PORT uses one"
        lines += [f"  {'redis':{width}}  {used}"]
    lines += [f"  {name}={value}" for name, value in variables.items()]
    lines += [f"  an edit of {file} is taken over; Ctrl-C ends it"]
    return "\n".join(lines)


def _address(text: str) -> Address:
    """Read ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return Address(host=host, port=int(port))


def _elsewhere(text: str) -> tuple[str, Elsewhere]:
    """Read ``NAME=HOST:PORT`` or ``NAME=tls://HOST:PORT``."""
    name, _, address = text.partition("=")
    plain = address.removeprefix("tls://")
    try:
        return name, Elsewhere(_address(plain if name else ""), tls=plain != address)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected NAME=HOST:PORT, got {text!r}") from None
