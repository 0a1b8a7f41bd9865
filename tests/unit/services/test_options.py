"""Flags that services share."""

import argparse

import pytest

from nova_services.options import above_zero


@pytest.mark.parametrize("text", ["0", "-1", "60.1", "nan", "inf", "soon", ""])
def test_a_number_out_of_range_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected seconds above 0 and at most 60, got {text}"):
        above_zero(60)(text)


@pytest.mark.parametrize(("text", "number"), [("0.5", 0.5), ("60", 60.0)])
def test_a_number_in_range_is_read(text: str, number: float) -> None:
    assert above_zero(60)(text) == number
