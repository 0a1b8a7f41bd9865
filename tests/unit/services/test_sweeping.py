"""When contents without a row are believed to be what they seem."""

import pytest

from nova_services.media.sweeping import FEW, suspect


@pytest.mark.parametrize(
    ("orphans", "known", "expected"),
    [(0, 0, False), (FEW, 0, False), (FEW + 1, 0, True), (500, 500, False), (501, 500, True), (7, 100_000, False)],
)
def test_a_database_that_knows_few_of_the_contents_is_not_believed(orphans: int, known: int, expected: bool) -> None:
    assert suspect(orphans, known) is expected
