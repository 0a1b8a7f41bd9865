"""`--compiled`: sidecars that tests start are compiled, as in the image; see tests/compiled.py. `--dist loadfile`: the
order of files is that of tests/turns.py.

Hypothesis measures no example: on a busy machine the first one, which imports, takes longer than its deadline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import compiled, turns

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Files that wait beside files that compute."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by the number of tests, which would put the longest files last
    return turns.Turns(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The queue of files is in the order in which the workers have collected them."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = turns.ordered(items)
