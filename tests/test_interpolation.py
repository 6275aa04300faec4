"""The line between two vectors, and how its steps take places."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import interpolation
from embarchive.errors import BadInput

INT8 = st.integers(-127, 127)


@given(st.lists(st.tuples(INT8, INT8), min_size=1, max_size=8), st.integers(2, 40))
def test_steps_are_the_nearest_integers_of_the_line(pairs, steps):
    a, b = np.array(pairs, dtype=np.int8).T
    found = interpolation.line(a, b, steps)
    assert found.dtype == np.int8
    for i, row in enumerate(found.tolist()):
        exact = [x + Fraction((y - x) * i, steps - 1) for x, y in pairs]
        assert row == [floor(value + Fraction(1, 2)) for value in exact]
    assert (found[0] == a).all()
    assert (found[-1] == b).all()


@pytest.mark.parametrize("steps", [1, 0, 257, 2.5, True])
def test_other_numbers_of_steps_are_refused(steps):
    with pytest.raises(BadInput, match="path: expected 2 to 256 steps, found"):
        interpolation.line(np.zeros(2, np.int8), np.ones(2, np.int8), steps)


def test_ends_take_their_place_first_and_no_place_is_taken_twice():
    ranked = [["a", "b"], ["z", "a", "c"], ["z", "a", "c", "d"], ["z", "y"]]
    chosen = interpolation.distinct(ranked)
    assert [ranked[i][at] for i, at in enumerate(chosen)] == ["a", "c", "d", "z"]


def test_fewer_places_than_steps_are_refused():
    with pytest.raises(BadInput, match="expected at least 3 places, found 2"):
        interpolation.distinct([["a", "b"], ["a", "b"], ["b", "a"]])
