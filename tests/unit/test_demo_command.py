"""`nova demo` as people call it."""

from nova_cli.demo.claims import CLAIMS
from nova_cli.demo.command import EPILOG, NAMES


def test_every_claim_can_be_chosen_and_is_explained() -> None:
    """The names stand apart from the claims, whose module is slow to import."""
    assert tuple(claim.name for claim in CLAIMS) == NAMES
    assert all(f"\n  {name} " in EPILOG for name in NAMES)
