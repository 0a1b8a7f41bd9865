"""The `nova` command. Each subcommand lives in a module of its own, imported only when it is the one asked for.

A module offers `add_parser(subparsers)`, which adds its parser and sets `func`, a function from the parsed arguments to
an exit code. Importing one module at most keeps `nova dev` up in well under a second.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn, cast

from nova_cli.errors import CommandError
from nova_sidecar.telemetry.descriptors import fill_standard_descriptors

COMMANDS = {
    "dev": ("nova_cli.dev", "run the sidecar for a NovaService beside a local process, without a cluster"),
    "render": ("nova_cli.render", "print the manifests that the operator would apply for a NovaService"),
    "rollout": ("nova_cli.rollout.command", "watch, promote or abort a canary"),
    "demo": ("nova_cli.demo.command", "show against a real cluster what Nova gains a service"),
    "cluster": ("nova_cli.cluster.command", "start, stop and inspect a local Kubernetes"),
    "services": ("nova_cli.services.command", "start and stop PostgreSQL, Redis and Kafka on this machine"),
    "chart": ("nova_cli.chart", "lint and render the Helm charts"),
    "images": ("nova_cli.images.command", "build the container images from the shipped Dockerfiles"),
}

_ABSENT = cast("ModuleType", None)  # what `import` takes for a module that is not installed

EPILOG = """\
examples:
  nova dev -f examples/catalog.yaml -- python app.py   a protected service on this machine, no cluster
  nova render -f examples/catalog.yaml                 see what the operator would create
  nova cluster up                                      a local Kubernetes; `nova cluster --help` says more
  nova demo                                            everything at once, with measured figures

exit codes: 0 done, 1 it failed, 2 wrong usage or something is missing on this machine, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Usage errors raise `SystemExit(2)`, as argparse does."""
    fill_standard_descriptors()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = options.func
    try:
        return run(options)
    except CommandError as error:
        print(f"nova: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("nova: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output, `head` say, has seen enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # the disk is full, which may happen at every write; other errors are translated there
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"nova: {error.filename or 'the output'} cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nova",
        description="Resilience for every service on Kubernetes: operator, sidecar and the tools around them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        if name == asked:
            _imported(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


class _Version(argparse.Action):
    """Says the version; reading it takes a tenth of the time in which `nova dev` starts, so nothing else does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # noqa: PLC0415 - see above

        print(f"nova {version('nova')}")
        parser.exit()


def _imported(module: str) -> ModuleType:
    """The module, soon: a third of the time until `nova dev` serves went into what is left out here.

    What modules make is no garbage to look for, and structlog loads rich, which other tools bring along, for coloured
    tracebacks that nothing here prints. Where rich shows progress, it is imported by then (`nova_cli.console`).
    """
    hidden = sys.modules.setdefault("rich", _ABSENT) is _ABSENT
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if hidden:
            del sys.modules["rich"]
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
