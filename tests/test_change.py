"""Changes between windows of time: arithmetic against Python's integers, and what examples say."""

import math

import numpy as np
import pyarrow as pa
import pytest
from archives import make_table
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import change, grid
from embarchive.change import Asked
from embarchive.errors import BadInput

DIM = 6
VECTORS = st.integers(1, 30).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(-127, 127), min_size=2 * DIM, max_size=2 * DIM), min_size=n, max_size=n
    )
)


def two(rows):
    both = np.array(rows, dtype=np.int8).reshape(len(rows), 2, DIM)
    return both[:, 0], both[:, 1]


def haze(count=600, seed=0):
    """Changes of which three directions move a lot everywhere, all of them less five."""
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(count, 3)) @ rng.normal(0, 20, (3, 16)) + rng.normal(0, 1, (count, 16))
    return np.rint(wide + 9).astype(np.int16)


@settings(deadline=None)
@given(VECTORS)
def test_change_back_is_the_negative_of_change(rows):
    before, after = two(rows)
    there, back = change.differences([before, after]), change.differences([after, before])
    assert there.dtype == np.int16
    assert (there == -back).all()
    assert (change.sizes(there) == change.sizes(back)).all()
    query = there[0]
    moved = change.sizes(there) > 0
    if query.any():
        size = change.sizes(there)[moved]
        ahead = change.cosines(there[moved], size, query)
        assert (ahead == -change.cosines(back[moved], size, query)).all()
        assert (ahead == change.cosines(back[moved], size, -query)).all()


@settings(deadline=None)
@given(VECTORS)
def test_sizes_and_cosines_are_those_of_pythons_integers(rows):
    before, after = two(rows)
    dz = change.differences([before, after])
    plain = [
        [int(b) - int(a) for a, b in zip(*pair, strict=True)]
        for pair in zip(*two(rows), strict=True)
    ]
    assert change.sizes(dz).tolist() == [sum(x * x for x in one) for one in plain]
    own = sum(x * x for x in plain[0])
    for at, one in enumerate(plain):
        size = sum(x * x for x in one)
        if own and size:
            dot = sum(x * y for x, y in zip(one, plain[0], strict=True))
            found = change.cosines(dz[at : at + 1], np.array([size]), dz[0])
            assert found.tolist() == [dot / math.sqrt(size * own)]


def test_longer_sequences_are_joined():
    steps = [np.full((2, 3), value, np.int8) for value in (-127, 127, 0)]
    assert change.differences(steps).tolist() == [[254] * 3 + [-127] * 3] * 2


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(seed):
    table = make_table(120, dates=4, nulls=True)
    index = table.schema.get_field_index("valid_fraction")
    # Many ties.
    coarse = pa.array(np.round(table["valid_fraction"].to_numpy(), 1), pa.float32())
    table = table.set_column(index, table.schema.field(index), coarse)
    mixed = table.take(pa.array(np.random.default_rng(seed).permutation(len(table))))
    best = change.best_rows(table)
    assert best.equals(change.best_rows(mixed))
    halves = [change.best_rows(part) for part in (mixed.slice(0, 50), mixed.slice(50))]
    assert best.equals(change.best_rows(pa.concat_tables(halves).unify_dictionaries()))


def test_the_best_row_is_the_clearest_then_the_first():
    table = make_table(120, dates=4)
    rows = [row for row in table.to_pylist() if row["valid_fraction"] >= np.float32(0.8)]
    expected = {}
    for row in rows:
        key = (-row["valid_fraction"], row["datetime"], row["source"])
        if row["geohash"] not in expected or key < expected[row["geohash"]][0]:
            expected[row["geohash"]] = (key, row)
    found = change.best_rows(table).to_pylist()
    assert found == [expected[name][1] for name in sorted(expected)]


def test_only_places_of_every_window_count():
    table = make_table(60, dates=3)
    windows = [table.slice(0, 10), table.slice(0, 40).take([0, 3, 3 * 7])]
    windows = [change.best_rows(one, 0) for one in windows]
    found = change.together(windows)
    names = set(windows[0]["geohash"].to_pylist()) & set(windows[1]["geohash"].to_pylist())
    assert [one["geohash"].to_pylist() for one in found] == [sorted(names)] * 2


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.75, 1])
def test_the_floor_is_a_value_that_a_share_stays_below(share):
    size = np.random.default_rng(0).permutation(np.arange(5, 105))
    floor = change.floor_of(size, share)
    assert floor in size
    assert (size < floor).sum() == min(math.ceil(share * 100), 99)
    assert change.floor_of(np.zeros(9, np.int64), share) == 1
    assert change.floor_of(np.zeros(0, np.int64), share) == 1


def test_what_moves_all_places_alike_counts_little():
    dz = haze()
    odd = np.random.default_rng(1).normal(size=16)
    dz[77] += np.rint(60 * odd / np.linalg.norm(odd)).astype(np.int16)
    usual = change.fit_usual(dz).apply(dz)
    assert change.ranked(usual, [], [], 1)[0].tolist() == [77]
    assert np.flatnonzero(np.argsort(-change.sizes(dz)) == 77)[0] > 50
    assert change.usual_size(change.sizes(usual)) == np.sort(change.sizes(usual))[299]


def test_the_usual_is_exact_where_it_is_applied_and_the_same_in_any_order():
    dz = haze(300)
    order = np.random.default_rng(2).permutation(300)
    fitted, again = change.fit_usual(dz), change.fit_usual(dz[order])
    assert (fitted.centre == again.centre).all()
    assert np.abs(fitted.weights - again.weights).max() <= 1
    row = [int(x) - int(c) for x, c in zip(dz[5], fitted.centre, strict=True)]
    exact = [sum(int(w) * x for w, x in zip(line, row, strict=True)) for line in fitted.weights]
    assert fitted.apply(dz)[5].tolist() == [(x + 128) // 256 for x in exact]


def test_of_very_many_places_some_are_enough():
    dz = np.repeat(haze(100), 1400, axis=0)
    many, few = change.fit_usual(dz), change.fit_usual(dz[::3])
    assert (many.weights == few.weights).all()


def test_few_places_or_none_have_a_usual_too():
    for count in (0, 1, 2, 7):
        dz = haze(count)
        found = change.fit_usual(dz).apply(dz)
        assert found.shape == dz.shape
        assert found.dtype == np.int32
    still = np.zeros((40, 5), np.int16)
    assert not change.fit_usual(still).apply(still).any()


def test_ties_come_in_the_order_of_places():
    dz = np.array([[0, 3], [3, 0], [0, 0], [0, -3], [5, 0]], np.int16)
    assert change.ranked(dz, [], [], 9)[0].tolist() == [4, 0, 1, 3, 2]
    moved = dz[[0, 1, 3, 4]]
    order, score = change.ranked(moved, [np.array([1, 0], np.int16)], [], 9)
    assert order.tolist() == [1, 3, 0, 2]
    assert score.tolist() == [1, 1, 0, 0]
    order, score = change.ranked(moved, [moved[3]], [moved[0]], 2)
    assert order.tolist() == [1, 2]
    assert score.tolist() == [1, 1]


def test_examples_are_places_perhaps_in_windows_of_their_own():
    here, there = change.parse_examples(
        ["u33d8k", "u33d8k@2020-05-01..2020-06-01/2020-06-30"], 6, 2
    )
    assert here.windows == ()
    assert there.place.geohash == "u33d8k"
    assert [one.dated for one in there.windows] == [True, True]
    assert there.windows[0].end < there.windows[1].start
    for one in ("13.4,52.5", (13.4, 52.5), [13.4, 52.5]):
        assert [e.place.geohash for e in change.parse_examples(one, 6, 2)] == ["u33d8v"]
    assert [
        len(e.windows)
        for e in change.parse_examples("13.4,52.5@2020-01-01..2021-01-01..2022-01-01", 6, 3)
    ] == [3]
    two_points = change.parse_examples([(13.4, 52.5), (13.5, 52.5)], 6, 2)
    assert [e.place.geohash for e in two_points] == grid.encode([13.4, 13.5], 52.5, 6).tolist()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("u33d8k@2020-01-01", "expected PLACE or PLACE@DATE1..DATE2, found 'u33d8k@2020-01-01'"),
        ("u33d8k@2020-01-01..2021-01-01..2022-01-01", "expected PLACE or PLACE@DATE1..DATE2"),
        ("u33d8k@..2021-01-01", "expected PLACE or PLACE@DATE1..DATE2"),
        ("u33d8k@2020-01-01..", "expected PLACE or PLACE@DATE1..DATE2"),
        ("u33d8k@2020-13-01..2021-01-01", "2020-13-01"),
        ("u33", "expected a geohash of 6 characters"),
        (np.zeros(4, np.int8), "expected places as examples"),
    ],
)
def test_other_examples_are_refused(item, said):
    with pytest.raises(BadInput, match=said):
        change.parse_examples([item], 6, 2)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (["2020"], "expected 2 to 16 windows of time, found 1"),
        (["2020"] * 17, "expected 2 to 16 windows of time, found 17"),
        (["2020-01-01", "../.."], "expected a day or a range as window, found '../..'"),
        (["2020-01-01", "2021-01-01/2020-01-01"], "expected the start before the end"),
    ],
)
def test_other_windows_are_refused(items, said):
    with pytest.raises(BadInput, match=said):
        change.windows_of(items)


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": True}, {"floor": 1.5}, {"floor": math.nan}, {"least": -0.1}]
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(BadInput, match=r"^change: .* found "):
        Asked(**options)
