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
    """Compile the sidecar, cert-manager and what enforces policies, then build the images; always 0."""
    try:
        print(compiled.tree())
    except compiled.CannotCompileError as error:
        print(error, file=sys.stderr)
    for make in (cert_manager.folder, toolchain.policies, lambda console: build(console, ()), build_stores):
        try:
            make(Console())
        except CommandError as error:
            print(error, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
