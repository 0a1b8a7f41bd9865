"""The ``nova-sidecar`` command.

Imports stay inside of functions: ``drain`` runs as a preStop hook in a pod that is going away, and must neither load
a proxy nor wait for one.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from nova_sidecar.telemetry.descriptors import fill_standard_descriptors

if TYPE_CHECKING:
    from nova_api.proxy import ProxyConfig

EPILOG = """\
examples:
  nova-sidecar --config /etc/nova/config.json            serve; the file is watched and taken over when it changes
  nova-sidecar --config /etc/nova/config.json --check    say whether the document is good, and end
  nova-sidecar --config FILE --explain 'GET http://auth-service:8080/users'
                                                         say which policies would touch a call of the app to an upstream
  nova-sidecar --config FILE --explain 'POST /orders'    the same for a request to the app, by its first port
  nova-sidecar --config FILE --explain grpc:/shop.Cart/Add --json
                                                         the same for a gRPC call, as JSON with every value
  nova-sidecar drain                                     make the running sidecar leave, and wait for it

Beside the document there may be last-good.json, the one before it: a sidecar that cannot use the document starts with
that one, and says so in /status, as one that is running keeps what it runs.

The document is what `nova render -f FILE` shows in the ConfigMap: every policy resolved. Without a cluster, and with a
NovaService in place of the document, `nova dev -f FILE` does the same.

signals: TERM and INT drain and end (a second INT ends at once); HUP reads the document again.
exit codes: 0 done, 1 it could not start or not drain in time, 2 wrong document or usage, 130 cut short by a second INT.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    fill_standard_descriptors()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["drain"]:
        from nova_sidecar.drain import main as drain  # noqa: PLC0415 - see above

        return drain(words[1:])
    _end_on_signals()
    options = _parser().parse_args(words)
    from nova_api.errors import ConfigError  # noqa: PLC0415 - after the signals, since imports take time
    from nova_sidecar.config import load, load_first  # noqa: PLC0415 - as above

    only_looks = options.check or options.explain is not None
    try:
        document = load(options.config) if only_looks else load_first(options.config)
    except ConfigError as error:
        print(f"{options.config}: {error}", file=sys.stderr)
        return 2
    if options.explain is not None:
        return _explain(document.config, options.explain, as_json=options.json)
    if options.check:
        print(f"{options.config}: good, service {document.config.service}, hash {document.hash}")
        return 0
    from nova_sidecar.runtime import run  # noqa: PLC0415 - only when there is something to run

    return run(options.config, document)


def _explain(config: "ProxyConfig", request: str, *, as_json: bool) -> int:
    from nova_api.errors import ConfigError  # noqa: PLC0415 - as above
    from nova_sidecar.explain import explain, render  # noqa: PLC0415 - only when asked for

    try:
        print(render(explain(config, request), as_json=as_json))
    except ConfigError as error:
        print(f"nova-sidecar: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nova-sidecar",
        usage="nova-sidecar --config FILE [--check | --explain REQUEST [--json]]\n       nova-sidecar drain [--help]",
        description="Serve the traffic of one pod by the policies of a resolved document.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the resolved document (JSON)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only say whether the document is good")
    only.add_argument(
        "--explain",
        metavar="REQUEST",
        help="only say which policies would touch a request: 'GET /path', 'POST http://host:port/path', "
        "'grpc:/package.Service/Method', or 'tcp://host:port' for a relayed connection",
    )
    parser.add_argument("--json", action="store_true", help="with --explain: as JSON, with every value")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and the build, compiled or pure")
    return parser


class _Version(argparse.Action):
    """Looks the build up when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from nova_sidecar.build import VERSION, build  # noqa: PLC0415 - only when asked for

        print(f"nova-sidecar {VERSION} {build()}")
        parser.exit()


def _end_on_signals() -> None:
    """As process 1 of a container there is no default action: without a handler, TERM during the start would be
    ignored and the pod would wait for its whole grace period. Nothing is served yet, so there is nothing to drain."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


if __name__ == "__main__":
    sys.exit(main())
