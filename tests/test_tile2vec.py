"""Triplets: never a neighbour beyond the radius, never a distant tile within it."""

import numpy as np
import pytest
from archives import make_cells

from embarchive import grid, tile2vec
from embarchive.errors import BadInput


def pool(side=9, dates=2, radius=None, precision=6, west=13.0, south=52.0):
    """Tiles of a square of cells on each of some dates."""
    cells = make_cells(side * side, west, south, precision)
    found = radius or tile2vec.default_radius(cells)
    lonlat = np.tile(grid.centers(cells), (dates, 1))
    return tile2vec.make_pool(lonlat, np.repeat(np.arange(dates), len(cells)), found)


def away(some, a, b):
    return grid.distance_m(some.lonlat[a], some.lonlat[b])


@pytest.mark.parametrize("temporal", [0.0, 0.5])
@pytest.mark.parametrize(("south", "precision"), [(52.0, 6), (0.0, 5), (-70.0, 7)])
def test_neighbours_are_within_the_radius_and_distant_tiles_beyond_it(temporal, south, precision):
    some = pool(south=south, precision=precision)
    rng = np.random.default_rng(1)
    for _ in range(50):
        pairs = tile2vec.draw(some, 24, temporal, rng)
        assert (away(some, pairs.anchor, pairs.neighbour) <= some.radius).all()
        row, column = np.nonzero(pairs.distant)
        assert (away(some, pairs.anchor[row], pairs.anchor[column]) > some.radius).all()
        assert pairs.distant.any(axis=1).all()
        assert len(set(some.date[pairs.anchor])) == 1


def test_the_lists_of_neighbours_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-0.2, 0.2, 150), rng.uniform(60, 60.2, 150)], axis=1)
    lonlat[:, 0] = (lonlat[:, 0] + 360) % 360 - 180  # on both sides of the antimeridian
    date = rng.integers(0, 2, 150)
    some = tile2vec.make_pool(lonlat, date, 2_000.0)
    square = grid.distance_m(lonlat[:, None], lonlat[None])
    wanted = (square <= 2_000.0) & (square > 0) & (date[:, None] == date)
    assert wanted.sum() > 200
    for i in range(150):
        assert set(some.near[some.starts[i] : some.starts[i + 1]]) == set(np.flatnonzero(wanted[i]))


@pytest.mark.parametrize(("south", "precision"), [(52.0, 6), (0.0, 5), (70.0, 8)])
def test_by_default_the_eight_cells_around_a_cell_are_its_neighbours(south, precision):
    some = pool(5, 1, south=south, precision=precision)
    column, row = grid.cell_indices(grid.encode(*some.lonlat.T, precision))
    beside = np.abs(column[:, None] - column) <= 1
    beside &= np.abs(row[:, None] - row) <= 1
    np.fill_diagonal(beside, False)
    for i in range(25):
        assert set(np.flatnonzero(beside[i])) <= set(
            some.near[some.starts[i] : some.starts[i + 1]].tolist()
        )


def test_temporal_neighbours_are_the_same_place_on_another_date():
    some = pool(dates=3)
    pairs = tile2vec.draw(some, 60, 1.0, np.random.default_rng(0))
    assert (away(some, pairs.anchor, pairs.neighbour) == 0).all()
    assert (some.date[pairs.anchor] != some.date[pairs.neighbour]).all()
    pairs = tile2vec.draw(some, 60, 0.0, np.random.default_rng(0))
    assert (away(some, pairs.anchor, pairs.neighbour) > 0).all()
    assert (some.date[pairs.anchor] == some.date[pairs.neighbour]).all()


def test_a_batch_of_one_and_a_wide_radius_still_make_triplets():
    cells = make_cells(100)
    wide = 0.6 * float(grid.distance_m(*grid.centers(cells[[0, -1]])))
    some = pool(10, 1, radius=wide)
    for seed in range(20):
        pairs = tile2vec.draw(some, 1, 0.0, np.random.default_rng(seed))
        assert len(pairs.anchor) == 2
        assert pairs.distant.any(axis=1).all()
    assert np.diff(some.starts).max() <= tile2vec.MOST_NEAR


def test_a_seed_gives_the_same_triplets():
    some = pool()
    first, again = (tile2vec.draw(some, 24, 0.5, np.random.default_rng(3)) for _ in range(2))
    assert (first.anchor == again.anchor).all()
    assert (first.neighbour == again.neighbour).all()


def test_judging_tells_vectors_that_follow_the_ground_from_those_that_do_not():
    some = pool(12, 1)
    follow = some.lonlat.astype(np.float32)
    assert tile2vec.judge(some, follow - follow.mean(axis=0), 500)[0] > 0.97
    noise = np.random.default_rng(0).normal(size=(144, 4)).astype(np.float32)
    assert abs(tile2vec.judge(some, noise, 2000)[0] - 0.5) < 0.06


def test_a_sample_is_of_whole_blocks_of_neighbours():
    cells = make_cells(4096)
    assert tile2vec.together(cells, 6, 4096) is None
    kept = tile2vec.together(np.tile(cells, 3), 6, 3 * 1000)
    assert 500 < len(kept) <= 1000
    owner = np.unique(kept.astype("U5"))
    whole = cells[np.isin(cells.astype("U5"), owner)]
    assert (kept == whole).all()


@pytest.mark.parametrize(
    ("side", "radius", "said"),
    [
        (2, None, r"^tile2vec: expected at least 8 places with another within 981 m .*found 4$"),
        (1, None, "at least 8 places .* found 0$"),
        (5, 1.0, "at least 8 places with another within 1 m on the same date, found 0$"),
        (5, 1e6, "expected places more than 1000000 m apart, found all within it$"),
        (5, -1.0, "expected a radius above 0 m, found -1$"),
    ],
)
def test_too_few_places_are_refused_in_one_line(side, radius, said):
    with pytest.raises(BadInput, match=said) as caught:
        pool(side, radius=radius)
    assert "\n" not in str(caught.value)
