"""What stands for a measurement on a board."""

import io

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from bench.cells.fingerprint import worded

HEX = "0123456789abcdef"


@given(st.one_of(st.text(HEX, min_size=63, max_size=63), st.text("0123456789e", min_size=63, max_size=63)))
def test_fingerprint_does_not_look_like_a_number(digits: str) -> None:
    digits += "a"
    found = worded(digits)
    assert digits.startswith(found)
    assert len(found) >= 12
    read = pd.read_csv(io.StringIO(f"fingerprint\n{found}\n"))["fingerprint"]
    assert read.tolist() == [found]


def test_fingerprint_with_a_letter_has_twelve_digits() -> None:
    assert worded("b5d95a826baa707c950d") == "b5d95a826baa"
    assert worded("123456789012345a") == "123456789012345a"
    assert worded("1234567e90123f45") == "1234567e90123f"
