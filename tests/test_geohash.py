"""Geohash text and indices, against pygeohash."""

import numpy as np
import pygeohash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import geohash
from embarchive.errors import BadInput

TEXT = st.text(geohash.ALPHABET, min_size=1, max_size=12)


@given(TEXT)
def test_text_survives_the_round_trip(name):
    column, row, length = geohash.to_indices(geohash.as_names([name]))
    assert length[0] == len(name)
    assert geohash.from_indices(column, row, len(name))[0] == name


@given(st.lists(TEXT, min_size=1, max_size=8))
def test_mixed_lengths_share_the_depth_of_the_longest(names):
    deepest = max(map(len, names))
    column, row, _ = geohash.to_indices(geohash.as_names(names))
    first = geohash.from_indices(column, row, deepest)
    assert first.tolist() == [name.ljust(deepest, "0") for name in names]


@pytest.mark.parametrize("bad", ["", "u33a", "U33", "u3 3", "u33ü", "u" * 13, "u\x003", 7, None])
def test_what_is_no_geohash_is_refused(bad):
    with pytest.raises(BadInput, match="geohash"):
        geohash.check_geohash(bad)
    if isinstance(bad, str):
        with pytest.raises(BadInput, match="geohash"):
            geohash.to_indices(np.array(["u33", bad]))


def test_numbers_are_no_geohashes():
    with pytest.raises(BadInput, match="expected text"):
        geohash.as_names([1, 2])


@pytest.mark.parametrize("bad", [0, 13, True, -1])
def test_precisions_beyond_twelve_are_refused(bad):
    with pytest.raises(BadInput, match="precision"):
        geohash.halvings(bad)


def test_columns_count_from_the_west_and_rows_from_the_south():
    column, row, _ = geohash.to_indices(geohash.as_names(["000", "bpb", "pbp", "zzz"]))
    assert column.tolist() == [0, 0, 255, 255]
    assert row.tolist() == [0, 127, 0, 127]
    assert pygeohash.decode_exactly("bpb").longitude < -179
