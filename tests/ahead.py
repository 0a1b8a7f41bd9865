"""Builds what the slow tests need before they ask for it: ``python -m tests.ahead``.

`make test` runs it beside the quick tests at the lowest priority. What cannot be built is not reported here but by the
tests that need it, which build it themselves where it is missing.
"""

import sys

from nova_cli.cluster import toolchain
from nova_cli.console import Console
from nova_cli.errors import CommandError
from nova_cli.images.build import build
from nova_cli.images.stores import build_stores
from tests import compiled
from tests.cluster.cert_manager import program as cert_manager


def main() -> int:
    """Compile cert-manager, which quick tests wait for, build the images, take the compiled sidecar out of its own, and
    compile what enforces policies; always 0."""
    for make in (cert_manager.folder, _images, toolchain.policies, build_stores):
        try:
            make(Console())
        except (compiled.CannotCompileError, CommandError) as error:
            print(error, file=sys.stderr)
    return 0


def _images(console: Console) -> None:
    """Of Nova's programs. The sidecar is compiled even where there can be no image."""
    try:
        image = next(each for each in build(console, ()) if each.name.startswith("nova-sidecar-"))
    except CommandError as error:
        print(error, file=sys.stderr)
        image = None
    print(compiled.tree(image))


if __name__ == "__main__":
    sys.exit(main())
