"""`nova images`: the command line over `build`."""

from __future__ import annotations

import argparse

from nova_cli.console import Console

EPILOG = """\
examples:
  nova images                                  build operator, sidecar and services; print the archives' paths
  nova images sidecar                          only that one
  nova cluster load $(nova images --quiet)     build, and make them available to pods

Docker builds where it answers, on the base that the Dockerfiles name; else buildah (root), on a base of this machine's
own distribution. An image whose sources have not changed is not built again.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova images`."""
    parser = subparsers.add_parser(
        "images",
        help="build the container images from the shipped Dockerfiles",
        description="Build the container images from the shipped Dockerfiles.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="operator, sidecar or services (default: all)")
    parser.add_argument("--quiet", action="store_true", help="print the archives' paths only")
    parser.set_defaults(func=_run)


def _run(options: argparse.Namespace) -> int:
    from nova_cli.images.build import build  # noqa: PLC0415 - `nova --help` must not import all this

    for archive in build(Console(quiet=options.quiet), options.names):
        print(archive)
    return 0
