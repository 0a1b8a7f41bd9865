"""What the relay decides: when to look, and its share of the work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.outbox.policy import Pace, share


def test_looks_become_rare_while_nothing_is_found() -> None:
    pace = Pace(0.02, 1.0)
    waits = []
    for _ in range(8):
        pace.looked(found=False)
        waits.append(pace.wait)
    assert waits == pytest.approx([0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0])
    pace.looked(found=True)
    assert pace.wait == 0.02


@given(st.integers(1, 64), st.integers(0, 100))
def test_all_slots_are_held_and_evenly(slots: int, relays: int) -> None:
    assert share(slots, relays) * max(1, relays) >= slots
    assert (share(slots, relays) - 1) * max(1, relays) < slots
