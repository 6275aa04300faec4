"""Rows set aside come back bucket by bucket, in the order of their prefixes and of arrival."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from embarchive.spill import Spill, edges

SCHEMA = pa.schema([("prefix", pa.uint64()), ("row", pa.int64()), ("name", pa.string())])


def rows(prefixes, first):
    numbers = np.arange(first, first + len(prefixes))
    names = [f"row {i}" for i in numbers]
    return pa.table({"prefix": prefixes, "row": numbers, "name": names}, schema=SCHEMA)


def test_buckets_hold_about_as_many_rows_each():
    prefixes = np.sort(np.random.default_rng(0).integers(0, 32**3, 10_000)).astype(np.uint64)
    least = edges(prefixes, 8)
    counts = np.diff([*np.searchsorted(prefixes, least), len(prefixes)])
    assert len(least) == 8 and counts.min() > 1200 and counts.max() < 1300
    assert least[0] == 0


def test_one_prefix_is_one_bucket():
    assert edges(np.full(100, 7, np.uint64), 8).tolist() == [0]
    assert len(edges(np.arange(10_000, dtype=np.uint64), 10_000)) == 256


def test_rows_come_back_whole_and_prefixes_are_not_split():
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 500, 1000).astype(np.uint64) for _ in range(5)]
    with Spill(edges(np.sort(parts[0]), 6), SCHEMA) as aside:
        for number, prefixes in enumerate(parts):
            aside.add(prefixes, rows(prefixes, 1000 * number))
        folder = aside._folder
        found = list(aside.buckets())
        assert folder.is_dir() and not list(folder.iterdir())
    assert not folder.exists()
    assert len(found) == 6
    seen = [set(table["prefix"].to_pylist()) for table in found]
    assert all(max(a) < min(b) for a, b in pairwise(seen))
    whole = pa.concat_tables(found)
    assert sorted(whole["row"].to_pylist()) == list(range(5000))
    assert all((np.diff(table["row"].to_numpy()) > 0).all() for table in found)
    assert whole.sort_by("row") == rows(np.concatenate(parts), 0)


def test_the_folder_goes_away_when_the_work_fails():
    with pytest.raises(ZeroDivisionError), Spill(np.zeros(1, np.uint64), SCHEMA) as aside:
        aside.add(np.zeros(3, np.uint64), rows(np.zeros(3, np.uint64), 0))
        folder = aside._folder
        raise ZeroDivisionError
    assert not folder.exists()
