"""The demo's claims, held against the same running pods."""

import pytest

from nova_cli.demo.claims import CLAIMS, Claim
from nova_cli.demo.stage import Stage

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds(stage: Stage, claim: Claim) -> None:
    verdict = claim.check(stage)
    assert verdict.passed, verdict.figures
