"""A cluster for the whole session, kind or local, whichever this machine gets.

The cluster `nova` is used if it runs already, and left running then: `make demo` before `make test-e2e` saves its
start. Otherwise it is started for the tests and removed after them. What takes minutes once (compiling, downloading)
happens before the first test, since a test's timeout covers its fixtures.

These tests come after all others, so that what measures time has no cluster beside it. Last of them are those that
leave many pods or a second node behind: an upgrade replaces the pods of every service that there is.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from nova_cli.cluster.provider import Provider, docker_answers, provider
from nova_cli.console import Console
from nova_cli.demo.bring_up import bring_up
from nova_cli.demo.stage import Stage
from nova_cli.errors import CommandError, MissingRequirementError


@functools.cache
def _prepare(*, network_policies: bool = False) -> str:
    """Get what a start needs; returns why that is impossible here, or nothing."""
    try:
        provider(Console()).prepare(network_policies=network_policies)
    except MissingRequirementError as error:
        return str(error)
    return ""


def _wanted(session: pytest.Session, fixture: str) -> bool:
    """Whether a test that will run needs it."""
    return any(fixture in getattr(item, "fixturenames", ()) for item in session.items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare now, outside of any test, when a test that will run needs it."""
    if _wanted(session, "cluster") and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            _prepare()
            if _wanted(session, "walled"):
                _prepare(network_policies=True)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """A running cluster: `cluster.kubeconfig`, `cluster.load(archives)`, `cluster.inside(command)`."""
    chosen = provider(Console())
    reused = chosen.status().running
    # kind cannot join a node later; the local cluster can, and does when the tests of nodes begin
    nodes = 2 if docker_answers() and not reused and _wanted(request.session, "nodes") else 1
    if reason := _prepare():
        pytest.skip(f"no cluster: {reason}")
    try:
        chosen.up(nodes)
    except MissingRequirementError as error:
        pytest.skip(f"no cluster: {error}")
    except CommandError as error:
        pytest.fail(str(error), pytrace=False)
    yield chosen
    if not reused:
        chosen.down()


SEEN = (
    ("get", "nodes"),
    ("get", "pods", "-A", "-o", "wide"),
    ("get", "nsvc", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name} {.status.conditions}{'\\n'}{end}"),
    ("get", "events", "-A", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"),
    ("logs", "--namespace=nova-system", "-l", "app.kubernetes.io/name=nova", "--tail=60", "--prefix"),
)
"""What is shown of the cluster when a test fails."""
BRING_UP_SECONDS = 600
"""The first test pays for images, chart and examples."""
LAST = ("test_nodes.py", "test_backend.py")
"""Files whose tests leave more behind than others can work beside, in their order: a node that is drained with all of
the backend's pods on it keeps two cores busy for a minute, in which callers time out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a test that may be the first wait for the bring-up; each claim bounds itself far below that."""
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BRING_UP_SECONDS))
    items.sort(key=lambda item: _turn(item.path))


def _turn(file: Path) -> int:
    """Smaller comes earlier."""
    if file.parent != Path(__file__).parent:
        return 0
    return 2 + LAST.index(file.name) if file.name in LAST else 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the cluster looks like when a test of it has failed: it is gone when somebody reads of that."""
    report = yield
    where = getattr(item, "funcargs", {}).get("stage") or getattr(item, "funcargs", {}).get("backend")
    if report.failed and isinstance(where, Stage):
        report.sections.append(("cluster", "\n\n".join(_asked(where, *words) for words in SEEN)))
    return report


def _asked(stage: Stage, *words: str) -> str:
    try:
        return f"$ kubectl {' '.join(words)}\n{stage.kubectl(*words, patience=20)}"
    except CommandError as error:
        return str(error)


@pytest.fixture(scope="session")
def stage(cluster: Provider) -> Stage:
    """Nova and the examples, brought up exactly as the demo does it."""
    return bring_up(cluster, Console())
