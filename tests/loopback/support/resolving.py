"""The sidecar with its name server on another port than 53, which no test can have: ``resolving.py PORT …``."""

import sys
from functools import partial

from nova_sidecar import runtime
from nova_sidecar.main import main
from nova_sidecar.transport.resolver import DnsResolver, ResolvConf


def ask_on(port: int) -> None:
    """Have this process ask the name server at that port of loopback."""
    runtime.DnsResolver = partial(DnsResolver, ResolvConf(("127.0.0.1",), (), 1), port=port)  # type: ignore[misc,assignment]


if __name__ == "__main__":
    ask_on(int(sys.argv.pop(1)))
    sys.exit(main())
