"""The running best rows beside a sort of all of them; `test_search.py` has the ties."""

import numpy as np
import pytest
from archives import make_table

from embarchive.best import VALUE, Best
from embarchive.rows import place_keys, sort_rows


@pytest.mark.parametrize("per_place", [0, 1])
def test_the_best_rows_of_chunks_are_those_of_a_sort(per_place):
    table = make_table(600, dates=3)
    values = np.random.default_rng(0).integers(0, 40, 600)
    best = Best(12, per_place)
    for start in range(0, 600, 90):
        rows = table.slice(start, 90)
        every = np.arange(len(rows))
        best.add(rows, place_keys(rows["geohash"]), every, values[start : start + 90])
    names = table["geohash"].to_pylist()
    order = np.argsort(values, kind="stable").tolist()
    if per_place:
        seen = set()
        order = [i for i in order if not (names[i] in seen or seen.add(names[i]))]
    expected = table.take(sorted(order[:12]))
    assert best.rows.drop_columns([VALUE]).to_pylist() == expected.to_pylist()
    assert Best.values(best.rows).tolist() == values[sorted(order[:12])].tolist()
    assert sort_rows(best.rows).equals(best.rows)


def test_no_row_leaves_an_empty_table_with_the_columns():
    table = make_table(5)
    best = Best(3, 1)
    best.add(table, place_keys(table["geohash"]), np.arange(0), np.zeros(0))
    assert len(best.rows) == 0 and best.rows.column_names == [*table.column_names, VALUE]
