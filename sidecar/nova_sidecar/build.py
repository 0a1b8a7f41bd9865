"""Whether this sidecar runs compiled; see sidecar/compile.py."""

from importlib.util import find_spec
from typing import Literal

Build = Literal["compiled", "pure"]


def build() -> Build:
    """`compiled` when the data path is machine code, `pure` when it is Python's bytecode."""
    found = find_spec("nova_sidecar.policy.reasons")
    return "pure" if found is None or (found.origin or "").endswith((".py", ".pyc")) else "compiled"
