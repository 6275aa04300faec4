"""Order, keys and columns of rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute  # slow the first time, which should not be in an example
import pytest
from archives import make_table
from hypothesis import given
from hypothesis import strategies as st

from embarchive import grid, rows
from embarchive.errors import Damaged

GEOHASH = st.text(grid.ALPHABET, min_size=1, max_size=12)


@given(st.lists(GEOHASH, min_size=2, max_size=20))
def test_place_keys_order_like_the_geohashes(names):
    keys = rows.place_keys(pa.array(names)).tolist()
    assert sorted(names) == [name for _, name in sorted(zip(keys, names, strict=True))]
    assert len(set(keys)) == len(set(names))
    assert rows.place_names(np.array(keys)) == names


@pytest.mark.parametrize("name", ["", "u33a", "U33", "u33d8k2m4n6p8", None])
def test_place_keys_refuse_what_is_no_geohash(name):
    with pytest.raises(Damaged, match="geohash column"):
        rows.place_keys(pa.array(["u33", name], pa.string()))


def test_place_keys_of_a_slice_are_those_of_its_rows():
    column = pa.array(["u1", "u2", "u3", "u4"])
    assert rows.place_keys(column.slice(2)).tolist() == rows.place_keys(column).tolist()[2:]


def test_rows_are_sorted_by_place_date_and_source_with_null_dates_last():
    table = make_table(300, seed=3)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    back = rows.sort_rows(shuffled)
    triples = [
        (r["geohash"], r["datetime"] is None, r["datetime"], r["source"])
        for r in back.select(["geohash", "datetime", "source"]).to_pylist()
    ]
    assert triples == sorted(triples, key=lambda t: (t[0], t[1], str(t[2]), t[3]))
    assert back.equals(rows.sort_rows(back))


def test_boxes_are_float32_rounded_outward():
    table = make_table(50)
    exact = grid.bounds(np.array(table["geohash"].to_pylist()))
    stored = pa.Table.from_struct_array(table["bbox"].combine_chunks())
    low, high = (
        np.stack([stored["xmin"], stored["ymin"]], 1),
        np.stack([stored["xmax"], stored["ymax"]], 1),
    )
    assert (low <= exact[:, :2]).all() and (high >= exact[:, 2:]).all()


def test_vectors_and_bits_come_back_from_a_slice():
    table = make_table(40)
    assert (rows.embeddings(table.slice(7)) == rows.embeddings(table)[7:]).all()
    assert (rows.bit_rows(table.slice(7)) == rows.bit_rows(table)[7:]).all()
