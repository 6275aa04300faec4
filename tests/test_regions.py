"""Regions, shards, parts and held-out cells against what a plain loop says."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from embarchive import grid, regions
from embarchive.errors import BadInput


@dataclass(frozen=True)
class Grouping:
    region_prefix: int = 3
    regions: dict = field(default_factory=dict)


def square(side, precision=6, west=13.0, south=52.0):
    """Cells of a square, sorted."""
    step = grid.bounds(grid.encode([west], [south], precision))[0]
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    lon = step[0] + x.ravel() * (step[2] - step[0])
    lat = step[1] + y.ravel() * (step[3] - step[1])
    return np.sort(grid.encode(lon, lat, precision))


def touches_a_test_cell(cells, test):
    """Chebyshev neighbours by brute force."""
    column, row = grid.cell_indices(cells)
    dx = np.abs(column[:, None] - column[None, test])
    dy = np.abs(row[:, None] - row[None, test])
    return (np.maximum(dx, dy) <= 1).any(axis=1)


def test_a_region_is_a_prefix():
    found = regions.region_of(["u33dc0", "u33dc1", "9q8yyk"], Grouping())
    assert found.tolist() == ["u33", "u33", "9q8"]


def test_the_longest_named_prefix_wins_and_the_rest_keep_their_own():
    named = {"u3": "north", "u33d": "the park", "u33dc0": "home"}
    cells = ["u33dc0", "u33dc1", "u33e00", "u31000", "9q8yyk"]
    found = regions.region_of(cells, Grouping(2, named))
    assert found.tolist() == ["home", "the park", "north", "north", "9q"]


@given(
    st.dictionaries(st.text("01", min_size=1, max_size=4), st.text("ab", min_size=1), max_size=8)
)
def test_named_regions_are_what_a_loop_finds(named):
    cells = [f"{i:05b}" for i in range(32)]

    def one(cell):
        return next((named[cell[:n]] for n in (4, 3, 2, 1) if cell[:n] in named), cell[:2])

    assert regions.region_of(cells, Grouping(2, named)).tolist() == [one(c) for c in cells]


def test_no_cells_have_no_regions():
    assert regions.region_of([], Grouping()).tolist() == []
    assert regions.choose_region_prefix([], 6) == regions.choose_shard_prefix([], 5) == 1


def test_regions_are_the_longest_prefix_with_a_hundred_cells_at_the_median():
    cells = grid.cells_in_bbox((13, 52, 14, 52.5), 6)
    chosen = regions.choose_region_prefix(np.tile(cells, 3), 6)
    medians = [np.median(np.unique(cells.astype(f"U{n}"), return_counts=True)[1]) for n in range(7)]
    assert chosen == max(n for n in range(1, 7) if medians[n] >= 100) == 4
    assert regions.choose_region_prefix(cells[:30], 6) == 1


def test_shards_are_the_shortest_prefix_that_holds_their_rows():
    cells = grid.cells_in_bbox((10, 50, 14, 52), 6)
    for dates, expected in ((0.1, 1), (1, 3), (30, 4), (1000, 5), (40_000, 6)):
        chosen = regions.choose_shard_prefix(cells, dates)
        full = np.unique(cells.astype(f"U{chosen}"), return_counts=True)[1].max() * dates
        assert chosen == expected and (full <= 32_768 or chosen == 6)


@pytest.mark.parametrize("side", [5, 7, 9, 12, 17, 30, 80])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_about_a_fifth_is_held_out_and_the_gap_is_small(side, seed):
    cells = square(side)
    train, test = regions.held_out(cells, 6, seed=seed)
    assert 0.12 <= test.mean() <= 0.3
    assert 1 - train.mean() - test.mean() < 0.35
    assert np.array_equal(train, ~touches_a_test_cell(cells, test))


def test_scattered_cells_are_split_too():
    rng = np.random.default_rng(0)
    cells = np.sort(rng.choice(square(25), 120, replace=False))
    train, test = regions.held_out(cells, 6)
    assert 0.1 <= test.mean() <= 0.3 and train.mean() > 0.45
    assert not (train & touches_a_test_cell(cells, test)).any()


def test_every_date_of_a_cell_is_on_one_side_and_order_does_not_matter():
    cells = square(12)
    train, test = regions.held_out(cells, 6)
    order = np.random.default_rng(0).permutation(3 * len(cells))
    many = np.tile(cells, 3)[order]
    train3, test3 = regions.held_out(many, 6)
    assert np.array_equal(train3, np.tile(train, 3)[order])
    assert np.array_equal(test3, np.tile(test, 3)[order])


def test_every_region_of_twenty_cells_has_test_cells_and_no_gap_is_crossed():
    cells = grid.cells_in_bbox((13, 52, 14, 52.5), 6)
    owner = cells.astype("U5")
    train, test = regions.held_out(cells, 6, regions=owner)
    for name, size in zip(*np.unique(owner, return_counts=True), strict=True):
        assert size < 20 or test[owner == name].any()
    assert not (train & touches_a_test_cell(cells, test)).any()
    assert 0.1 < test.mean() < 0.3 and train.mean() > 0.3


def test_small_regions_are_split_together():
    cells = square(10)
    owner = np.arange(100) // 10
    train, test = regions.held_out(cells, 6, regions=owner.astype(str))
    assert 0.1 < test.mean() < 0.3 and train.mean() > 0.5


def test_a_new_region_elsewhere_leaves_the_others_split_as_they_were():
    here, there = square(12), square(12, west=20)
    both = np.concatenate([here, there])
    owner = np.repeat(["a", "b"], 144)
    _, alone = regions.held_out(here, 6, regions=owner[:144])
    _, together = regions.held_out(both, 6, regions=owner)
    assert np.array_equal(together[:144], alone)


def test_fewer_than_twenty_cells_are_all_trained_on():
    train, test = regions.held_out(square(4), 6)
    assert train.all() and not test.any()
    assert [len(m) for m in regions.held_out([], 6)] == [0, 0]


def test_the_gap_reaches_across_the_antimeridian():
    cells = grid.cells_in_bbox((179.95, 10.0, -179.95, 10.1), 6)
    column, row = grid.cell_indices(cells)
    for seed in range(8):
        train, test = regions.held_out(cells, 6, seed=seed)
        dx = np.abs(column[:, None] - column[None, test])
        near = (np.minimum(dx, 2**15 - dx) <= 1) & (np.abs(row[:, None] - row[None, test]) <= 1)
        assert not (train & near.any(axis=1)).any()


def test_the_seed_decides_and_another_share_holds():
    cells = square(20)
    assert np.array_equal(
        regions.held_out(cells, 6, seed=5)[1], regions.held_out(cells, 6, seed=5)[1]
    )
    assert not np.array_equal(regions.held_out(cells, 6)[1], regions.held_out(cells, 6, seed=5)[1])
    assert 0.3 < regions.held_out(cells, 6, share=0.4)[1].mean() < 0.5
    with pytest.raises(BadInput, match="share"):
        regions.held_out(cells, 6, share=1)


def test_names_are_spread_evenly_and_few_move_to_a_new_part():
    names = [f"region {i}" for i in range(4000)]
    seven, eight = regions.assign(names, 7), regions.assign(names, 8)
    assert np.bincount(seven, minlength=7).min() > 480
    assert set(eight[seven != eight].tolist()) == {7} and (seven != eight).mean() < 0.16
    assert np.array_equal(regions.assign(names[::-1], 7)[::-1], seven)
    assert regions.assign(names[:3], 1).tolist() == [0, 0, 0] and not len(regions.assign([], 3))
    with pytest.raises(BadInput, match="parts"):
        regions.assign(names, 0)


def written(tmp_path, text, name="regions.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["prefix,name\nu33,Berlin\nu3,rest\n", "u33,Berlin\r\n\r\nu3, rest\n",
     "geohash, Name\nu3,rest\nu33,Berlin",
     '{"u33": "Berlin", "u3": "rest"}'],
)  # fmt: skip
def test_regions_are_read_from_csv_and_json(tmp_path, text):
    assert regions.read_regions(written(tmp_path, text), 6) == {"u3": "rest", "u33": "Berlin"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found none"), ("u33", "expected prefix,name"), ("u33,a,b", "expected prefix,name"),
        ("u3a,x", "geohash"), ("u33dc00,x", "at most 6"), ("u33,x\nu33,y", "both"),
        ("u33,", "printable"), ("u33," + "x" * 101, "100"), ("{", "JSON"),
        ('{"features": []}', "features"),
        ('{"u33": "a\\u0007"}', "printable"),
    ],
)  # fmt: skip
def test_region_files_that_make_no_sense_are_refused(tmp_path, text, said):
    with pytest.raises(BadInput, match=said):
        regions.read_regions(written(tmp_path, text), 6)


def test_a_missing_region_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        regions.read_regions(tmp_path / "none.csv", 6)


def feature(name, shape):
    return {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": shapely.geometry.mapping(shape),
    }


def test_polygons_own_the_cells_whose_centres_they_hold_and_the_first_wins(tmp_path):
    circle, box = shapely.Point(13.4, 52.5).buffer(0.2), shapely.box(13.4, 52.3, 14, 52.6)
    document = {"type": "FeatureCollection", "features": [feature("a", circle), feature("b", box)]}
    named = regions.read_regions(written(tmp_path, json.dumps(document)), 6)
    cells = grid.cells_in_bbox((13, 52, 14.2, 53), 6)
    points = shapely.points(grid.centers(cells))
    expected = np.where(
        circle.covers(points), "a", np.where(box.covers(points), "b", cells.astype("U1"))
    )
    assert np.array_equal(regions.region_of(cells, Grouping(1, named)), expected)
    assert min(map(len, named)) < 6 and len(named) < len(cells)


def test_polygons_that_need_too_many_prefixes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "MAX_PREFIXES", 500)
    ring = shapely.Point(13.4, 52.5).buffer(2)
    text = json.dumps({"features": [feature("a", ring)]})
    with pytest.raises(BadInput, match="more than 500 prefixes"):
        regions.read_regions(written(tmp_path, text), 8)
