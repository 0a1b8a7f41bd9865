"""The walk through the reference backend, on the cluster with its stores."""

import pytest

from nova_cli.cluster.provider import Provider
from nova_cli.console import Console
from nova_cli.demo.backend.bring_up import bring_up
from nova_cli.demo.backend.stage import Backend
from nova_cli.demo.backend.walk import CLAIMS
from nova_cli.demo.claim import Claim

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1200)]
"""The first test pays for the stores' image and for all services."""


@pytest.fixture(scope="module")
def backend(cluster: Provider) -> Backend:
    return bring_up(cluster, Console())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds(backend: Backend, claim: Claim[Backend]) -> None:
    verdict = claim.check(backend)
    print(verdict.figures)
    assert verdict.passed, verdict.figures


def test_bringing_it_up_once_more_changes_no_pod(cluster: Provider, backend: Backend) -> None:
    before = {pod["metadata"]["uid"] for pod in backend.get("pods")["items"]}
    again = bring_up(cluster, Console())
    pods = {pod["metadata"]["uid"] for pod in again.get("pods")["items"] if pod["status"]["phase"] == "Running"}
    assert pods <= before
