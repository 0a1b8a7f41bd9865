"""`nova chart`: lint the Helm charts and render them, as a check before they are published."""

from __future__ import annotations

import argparse
from pathlib import Path

from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.repository import find_repository

CHARTS = ("nova", "nova-crds")
KUBERNETES = "1.34.0"
"""Version to render for; a Helm that was compiled here knows none by itself."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova chart`."""
    parser = subparsers.add_parser(
        "chart",
        help="lint and render the Helm charts",
        description="Lint the Helm charts and print what they render with their default values.",
    )
    parser.add_argument("--quiet", action="store_true", help="lint and render, but print nothing")
    parser.set_defaults(func=_run)


def lint(helm: Path, chart: Path) -> None:
    """Raises CommandError with what Helm has to say."""
    run([helm, "lint", "--strict", "--quiet", chart])


def template(helm: Path, chart: Path, *options: str) -> str:
    """What the chart renders as a release named nova in nova-system. Raises CommandError with Helm's words."""
    command: list[str | Path] = [
        helm,
        "template",
        "nova",
        chart,
        "--namespace=nova-system",
        f"--kube-version={KUBERNETES}",
        *options,
    ]
    return run(command).stdout


def _run(options: argparse.Namespace) -> int:
    console = Console(quiet=options.quiet)
    folder = find_repository() / "charts"
    helm = toolchain.helm(console)
    for name in CHARTS:
        with console.step(f"lint charts/{name}"):
            lint(helm, folder / name)
    rendered = template(helm, folder / "nova")
    if not options.quiet:
        print(rendered)
    return 0
