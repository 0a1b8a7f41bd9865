"""`--compiled`: sidecars that tests start are compiled, as in the image; see tests/compiled.py.

Hypothesis measures no example: on a busy machine the first one, which imports, takes longer than its deadline.
"""

import os

import pytest
from hypothesis import settings

from tests import compiled

settings.register_profile("nova", deadline=None)
settings.load_profile("nova")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--compiled", action="store_true", help="run the sidecar compiled, as its image has it")


def pytest_configure(config: pytest.Config) -> None:
    """Build it before the workers of a parallel run start, so that they find it."""
    if config.getoption("compiled"):
        try:
            os.environ["NOVA_TEST_SIDECAR_PATH"] = str(compiled.tree())
        except compiled.CannotCompileError as error:
            raise pytest.UsageError(str(error)) from error
