"""Mean embeddings of cells: exact where they can be, whatever the rows came in."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
from archives import make_cells, make_table
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import cellmeans
from embarchive.cellmeans import (
    FINE,
    Cells,
    cells_of_rows,
    coarser,
    codes_of,
    finest_level,
    merge,
)

FIELDS = ("codes", "count", "mean", "model", "first", "last")
DIM = 3
START = datetime(2023, 5, 1, tzinfo=UTC)


def same(a, b):
    return a.level == b.level and all(np.array_equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@st.composite
def tables(draw):
    """Rows of a few cells near each other, some without a date."""
    n = draw(st.integers(1, 60))
    letters = st.text("0b1z", min_size=2, max_size=2)
    names = draw(st.lists(letters, min_size=n, max_size=n))
    days = draw(st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n))
    models = draw(st.lists(st.sampled_from(["", "a" * 64, "b" * 64]), min_size=n, max_size=n))
    number = st.integers(-127, 127)
    numbers = draw(st.lists(number, min_size=n * DIM, max_size=n * DIM))
    return table_of(
        [f"u3{name}" for name in names],
        [None if day is None else START + timedelta(days=day) for day in days],
        models,
        np.array(numbers, np.int8).reshape(n, DIM),
    )


def table_of(names, when, models, vectors):
    flat = pa.array(vectors.ravel(), pa.int8())
    return pa.table(
        {
            "geohash": names,
            "datetime": pa.array(when, pa.timestamp("us", "UTC")),
            "model_id": models,
            "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )


def rounded(total, count):
    """Half up, in 256ths."""
    return (Fraction(int(total) * FINE, count) + Fraction(1, 2)).__floor__()


@given(tables())
@settings(max_examples=60)
def test_a_mean_is_that_of_its_rows_rounded_half_up(table):
    found = cells_of_rows(table, 3)
    names = np.array([name[:3] for name in table["geohash"].to_pylist()])
    vectors = np.array(table["embedding"].to_pylist(), np.int64)
    when, models = table["datetime"].to_pylist(), table["model_id"].to_pylist()
    assert found.names().tolist() == sorted(set(names.tolist()))
    assert found.count.sum() == len(table)
    for i, name in enumerate(found.names().tolist()):
        mine = np.flatnonzero(names == name)
        sums = vectors[mine].sum(axis=0)
        assert found.mean[i].tolist() == [rounded(total, len(mine)) for total in sums]
        order = [(when[j] or datetime.min.replace(tzinfo=UTC), models[j]) for j in mine]
        assert found.model[i].decode() == max(order)[1]


@given(tables(), st.lists(st.integers(0, 60), max_size=5))
@settings(max_examples=60)
def test_any_chunks_of_rows_give_the_same_cells(table, cuts):
    whole = cells_of_rows(table, 4)
    edges = sorted({0, len(table), *(cut for cut in cuts if cut < len(table))})
    some = [table.slice(a, b - a) for a, b in pairwise(edges)]
    found = merge([cells_of_rows(one, 4) for one in some])
    assert same(found, whole)
    for level in (1, 2, 3):
        assert same(coarser(found, level), coarser(whole, level))
        newest = coarser(whole, level, finest=True)
        assert same(newest, cells_of_rows(table, level))


def test_large_cells_lose_half_a_256th_a_merge_at_most():
    rng = np.random.default_rng(3)
    vectors = rng.integers(-127, 128, (40_000, DIM)).astype(np.int8)
    when = [START] * len(vectors)
    table = table_of(["u33db"] * len(vectors), when, ["a" * 64] * len(vectors), vectors)
    exact, held, worst = vectors.astype(np.int64), None, 0.0
    for turn, start in enumerate(range(0, len(vectors), 1000)):
        fresh = cells_of_rows(table.slice(start, 1000), 4)
        held = fresh if held is None else merge([held, fresh])
        true = exact[: start + 1000].mean(axis=0) * FINE
        worst = max(worst, np.abs(held.mean[0] - true).max())
        assert np.abs(held.mean[0] - true).max() <= 0.5 * (turn + 1)
    assert 0 < worst < 5


def test_most_rows_choose_a_coarser_cells_model_and_the_least_of_equals():
    cells = Cells(
        3,
        codes_of(["u31", "u32", "u33", "u41", "u42"], 3),
        np.array([5, 2, 4, 1, 1]),
        np.zeros((5, DIM), np.int16),
        np.array([b"a", b"b", b"b", b"d", b"c"], "S64"),
        np.zeros(5, np.int64),
        np.zeros(5, np.int64),
    )
    found = coarser(cells, 2)
    assert found.names().tolist() == ["u3", "u4"]
    assert found.model.tolist() == [b"b", b"c"] and found.count.tolist() == [11, 2]


def test_parts_of_work_join_to_the_same_means(monkeypatch):
    table = make_table(3000, dates=4)
    whole = [cells_of_rows(table, level) for level in (1, 4, 5)]
    monkeypatch.setattr(cellmeans, "_BLOCK", 3)
    monkeypatch.setattr(cellmeans, "_STEP", 7)
    for cells in whole:
        assert same(cells, cells_of_rows(table, cells.level))


def test_a_level_is_worth_its_bytes_or_left_out():
    table = make_table(4096, cells=make_cells(4096))
    cells = cells_of_rows(table, 5)
    total = sum(len(coarser(cells, level)) for level in range(1, 6))
    assert finest_level([cells], 4096, total) == 5
    assert finest_level([cells], 4096, total - 1) == 4
    # two rows a cell at the finest: its cells are hardly fewer than the places
    assert finest_level([cells], len(cells) * 2, total) < 5
    assert finest_level([cells], 1, 1) == 1


def test_no_rows_are_no_cells():
    empty = make_table(8).slice(0, 0)
    assert len(cells_of_rows(empty, 3)) == 0 and len(coarser(cells_of_rows(empty, 3), 1)) == 0
