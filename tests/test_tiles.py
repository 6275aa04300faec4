"""Chips of whole scenes: what is kept, what it holds, and that grouping changes nothing."""

import numpy as np
import pytest
from fakerasters import FakeBand, FakeRaster, around, reader_of

from embarchive import digests, grid, tiles
from embarchive.errors import BadInput

CHIPS = grid.ChipGrid(6, 25.0, 32, 48)
NAME = "u33dc0"


def scene(height=200, width=260, bands=4, gsd=25.0, seed=0, **more):
    """A raster of noise centred on NAME: about 30 cells."""
    stored = np.random.default_rng(seed).integers(1, 4000, (bands, height, width))
    return around(NAME, stored.astype(np.uint16), gsd, **more)


def box_of(raster):
    height, width = raster.shape
    east, south = raster.west + width * raster.step[0], raster.north - height * raster.step[1]
    return (raster.west, south, east, raster.north)


def cut(*rasters, chips=CHIPS, bands=None, **rule):
    cells = tiles.cells_of([box_of(rasters[0])], chips.precision)
    return merged(tiles.cut(reader_of(*rasters, bands=bands), cells, chips, **rule))


def merged(found):
    """All chips as one."""
    found = list(found)
    assert all(len(one) for one in found)
    if not found:
        return None
    fields = ("geohash", "pixels", "valid", "cover", "valid_fraction")
    joined = [np.concatenate([getattr(one, name) for one in found]) for name in fields]
    return tiles.Chips(*joined, digest=tuple(d for one in found for d in one.digest))


def test_cells_of_a_scene_are_those_that_touch_it():
    raster = scene()
    cells = tiles.cells_of([box_of(raster)], 6)
    assert np.array_equal(cells, grid.cells_in_bbox(box_of(raster), 6))
    west, south, east, north = box_of(raster)
    halves = [(west, south, 13.42, north), (13.4, south, east, north)]
    assert np.array_equal(tiles.cells_of(halves, 6), cells)
    with pytest.raises(BadInput, match="50000000"):
        tiles.cells_of([(-180, -90, 180, 90)], 8)


def test_cells_are_grouped_by_place():
    cells = grid.cells_in_bbox((13, 52, 13.6, 52.3), 6)
    found = tiles.groups(np.random.default_rng(0).permutation(cells), 200)
    assert np.array_equal(np.concatenate(found), cells)
    assert max(map(len, found)) <= 200
    assert all(len({name[:4] for name in run.tolist()}) == 1 for run in found)
    assert tiles.groups([]) == []


def test_chips_have_the_shapes_and_types_that_are_promised():
    found = cut(scene())
    n = len(found)
    assert found.pixels.shape == (n, 4, 32, 48) and found.pixels.dtype == np.float32
    assert found.valid.shape == (n, 32, 48) and found.valid.dtype == bool
    assert found.cover.dtype == found.valid_fraction.dtype == np.float32
    assert len(found.digest) == n and {len(one) for one in found.digest} == {8}
    assert np.array_equal(found.geohash, np.unique(found.geohash)) and n > 15


def test_a_cell_in_the_middle_is_whole_and_its_pixels_are_the_source():
    raster = scene()
    found = cut(raster)
    at = found.geohash.tolist().index(NAME)
    assert found.cover[at] == found.valid_fraction[at] == 1 and found.valid[at].all()
    assert np.array_equal(found.pixels[at], raster.stored[:, 84:116, 106:154])


def test_edge_cells_are_kept_by_their_cover():
    raster = scene(180, 240, shift=(5, 3))
    every, rule = cut(raster, min_cover=0.0), cut(raster, min_cover=0.5)
    assert (every.cover > 0).all() and every.cover.min() < 0.5
    assert np.array_equal(rule.geohash, every.geohash[every.cover >= 0.5])
    # the raster's own area decides: cover is the share of the cell under it
    west, south, east, north = box_of(raster)
    w, s, e, n = grid.bounds(every.geohash).T
    share = (np.minimum(e, east) - np.maximum(w, west)) / (e - w)
    share *= (np.minimum(n, north) - np.maximum(s, south)) / (n - s)
    assert np.abs(every.cover - share).max() < 0.05


def test_clouds_lower_the_valid_fraction_and_not_the_cover():
    clear = np.ones((1, 200, 260), dtype=bool)
    clear[:, :, :130] = False
    cloud = scene(bands=1, cloud=True, valid=clear)
    cloud.bands = ()
    found = cut(scene(), cloud, min_valid=0.1)
    every = cut(scene(), cloud, min_valid=0.0)
    at = found.geohash.tolist().index(NAME)
    assert found.cover[at] == 1 and found.valid_fraction[at] == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(found.valid[at], np.broadcast_to(np.arange(48) >= 24, (32, 48)))
    assert np.array_equal(found.geohash, every.geohash[every.valid_fraction >= 0.1])
    assert (every.valid_fraction == 0).any()
    cloudy = every.pixels[every.valid_fraction == 0]
    assert np.isfinite(cloudy).all() and (cloudy > 0).all()


@pytest.mark.parametrize("coarse", [2, 3])
def test_a_coarser_cloud_layer_counts_where_most_of_the_weight_is_cloudy(coarse):
    clear = np.ones((1, 120, 160), dtype=bool)
    clear[:, :60] = False
    stored = np.zeros((1, 120, 160), dtype=np.uint8)
    cloud = around(NAME, stored, 25.0 * coarse, bands=(), cloud=True, valid=clear)
    found = cut(scene(), cloud)
    at = found.geohash.tolist().index(NAME)
    assert np.array_equal(
        found.valid[at], np.broadcast_to((np.arange(32) >= 16)[:, None], (32, 48))
    )


def test_outside_the_cloud_layer_nothing_is_known_to_be_clear():
    cloud = around(NAME, np.zeros((1, 32, 200), np.uint8), 25.0, bands=(), cloud=True,
                   valid=np.ones((1, 32, 200), bool))  # fmt: skip
    found = cut(scene(), cloud, min_valid=0.0)
    assert found.valid[found.geohash.tolist().index(NAME)].all()
    assert (found.valid_fraction == 0).any()


def test_what_is_not_valid_is_filled_with_the_mean_of_its_own_band():
    raster = scene()
    raster.stored[:, 90:100, 110:130] = 0
    found = cut(raster)
    at = found.geohash.tolist().index(NAME)
    chip, valid = found.pixels[at], found.valid[at]
    assert np.array_equal(np.argwhere(~valid), np.argwhere(raster.stored[0, 84:116, 106:154] == 0))
    for band in chip:
        assert np.allclose(band[~valid], band[valid].mean(dtype=np.float64), rtol=1e-6)


def test_a_pixel_is_valid_when_all_rasters_of_the_scene_have_it():
    fine, coarse = scene(bands=2), scene(100, 130, bands=1, gsd=50.0, seed=1)
    coarse.bands = (2,)
    coarse.stored[:, :50] = 0
    found = cut(fine, coarse)
    at = found.geohash.tolist().index(NAME)
    assert found.pixels.shape[1] == 3
    assert np.array_equal(
        found.valid[at], np.broadcast_to((np.arange(32) >= 16)[:, None], (32, 48))
    )


def test_bands_keep_the_order_of_the_scene():
    first, second = scene(bands=2), scene(bands=1, seed=1)
    first.bands, second.bands = (2, 0), (1,)
    bands = [FakeBand(1.0, 0.0), FakeBand(10.0, 0.0), FakeBand(1.0, 5.0)]
    found = cut(first, second, bands=bands)
    chip = found.pixels[found.geohash.tolist().index(NAME)]
    window = slice(84, 116), slice(106, 154)
    assert np.array_equal(chip[2], first.stored[0][window] + np.float32(5))
    assert np.array_equal(chip[0], first.stored[1][window])
    assert np.array_equal(chip[1], second.stored[0][window] * np.float32(10))


def test_nothing_comes_of_a_scene_without_data():
    empty = around(NAME, np.zeros((2, 200, 260), np.uint16), 25.0)
    assert cut(empty) is None
    assert cut(empty, min_cover=0.0, min_valid=0.0) is None


def test_cells_elsewhere_give_no_chips_and_no_reads():
    raster = scene()
    cells = grid.cells_in_bbox((-122.5, 37.5, -122.4, 37.6), 6)
    assert merged(tiles.cut(reader_of(raster), cells, CHIPS)) is None and not raster.reads


@pytest.mark.parametrize("gsd", [25.0, 11.0, 60.0])
def test_grouping_changes_neither_pixels_nor_digests(monkeypatch, gsd):
    size = int(5000 / gsd)
    whole = scene(size, size, bands=2, gsd=gsd, shift=(0.3, 0.7))
    together = cut(whole, min_cover=0.1)
    for name, value in (("WINDOW_BYTES", 20_000), ("CHIPS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(tiles, name, value)
            raster = scene(size, size, bands=2, gsd=gsd, shift=(0.3, 0.7))
            apart = cut(raster, min_cover=0.1)
        assert len(raster.reads) > len(whole.reads)
        assert together.digest == apart.digest and (together.geohash == apart.geohash).all()
        assert np.array_equal(together.pixels, apart.pixels)
        assert np.array_equal(together.valid_fraction, apart.valid_fraction)


def test_each_raster_is_read_once_a_group():
    raster = scene()
    cells = tiles.cells_of([box_of(raster)], 6)
    list(tiles.cut(reader_of(raster), cells, CHIPS))
    assert len(raster.reads) == len(tiles.groups(cells))


def test_a_digest_changes_with_the_samples_of_any_raster():
    def digest(change):
        one, two, cloud = scene(bands=2), scene(bands=1, seed=1), scene(bands=1, cloud=True)
        two.bands, cloud.bands, cloud.valid = (2,), (), np.ones((1, 200, 260), bool)
        change(one, two, cloud)
        found = cut(one, two, cloud)
        return found.digest[found.geohash.tolist().index(NAME)]

    def set_sample(raster, value):
        raster.stored[0, 100, 130] = value

    same = digest(lambda *_: None)
    assert digest(lambda *_: None) == same
    assert digest(lambda one, two, cloud: set_sample(one, 7)) != same
    assert digest(lambda one, two, cloud: set_sample(two, 7)) != same
    assert digest(lambda one, two, cloud: cloud.valid.__setitem__((0, 100, 130), False)) != same
    assert len(same) == digests.CHIP_DIGEST


@pytest.mark.parametrize("lat", [5, 65])
def test_the_same_ground_gives_the_same_chip_at_any_latitude(lat):
    """A pattern in metres, on a transverse Mercator raster centred on the cell."""
    warp = pytest.importorskip("rasterio.warp")
    chips = grid.choose_grid(10.0, [5, 65])
    name = str(grid.encode(25.0, lat, chips.precision))
    lon0, lat0 = grid.centers([name])[0]
    local = f"+proj=tmerc +lat_0={lat0} +lon_0={lon0} +ellps=WGS84 +units=m"

    class Metric(FakeRaster):
        def project_axes(self, lon, lat):
            shape = (len(lon), lat.shape[1], lon.shape[1])
            points = np.broadcast_to(lon[:, None], shape), np.broadcast_to(lat[:, :, None], shape)
            x, y = warp.transform("EPSG:4326", local, *(axis.ravel() for axis in points))
            return (np.reshape(x, shape) + 1000) / 10, (1000 - np.reshape(y, shape)) / 10

    def pattern(x, y):
        return 500 + 200 * np.sin(x / 60) * np.cos(y / 80 + x / 300)

    axis = np.arange(-995, 1000, 10.0)
    stored = pattern(axis, -axis[:, None])[None].astype(np.float32)
    raster = Metric(stored, (0,), 10.0, 0, 0, (0, 0))
    found = merged(tiles.cut(reader_of(raster), [name], chips))
    x = (np.arange(chips.width) - (chips.width - 1) / 2) * 10
    y = ((chips.height - 1) / 2 - np.arange(chips.height)) * 10
    assert (chips.height, chips.width) == (64, 128) and found.valid.all()
    assert np.abs(found.pixels[0, 0] - pattern(x, y[:, None])).max() < 2.5


@pytest.mark.parametrize("center", [(179.99, 10.0), (-179.99, 10.0), (0.0, 89.9), (0.0, -89.9)])
def test_cells_at_the_poles_and_the_antimeridian_are_cut(center):
    name = str(grid.encode(*center, 6))
    stored = np.full((1, 400, 400), 9, np.uint16)
    raster = around(name, stored, 25.0)

    def near(lon, lat, plain=raster.project_axes):
        return plain((lon - center[0] + 180) % 360 - 180 + center[0], lat)

    raster.project_axes = near
    found = merged(tiles.cut(reader_of(raster), [name], CHIPS))
    assert found.cover[0] > 0.9 and (found.pixels == 9).all()


def test_a_scene_without_cloud_layer_or_a_single_pixel_works():
    dot = around(NAME, np.full((1, 1, 1), 9, np.uint16), 3000.0)
    found = cut(dot)
    assert NAME in found.geohash.tolist() and np.allclose(found.pixels, 9)
