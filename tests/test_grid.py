"""Cells against pygeohash and brute force, chips against the ellipsoid."""

import logging
import math

import numpy as np
import pygeohash
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from embarchive import grid
from embarchive.errors import BadInput

LON, LAT = st.floats(-180, 179.999999), st.floats(-89.999999, 89.999999)
PRECISION = st.integers(1, 12)
ALL = grid.cells_in_bbox((-180, -90, 180, 90), 3)


@given(LON, LAT, PRECISION)
def test_names_are_those_of_pygeohash(lon, lat, precision):
    ours = grid.encode(lon, lat, precision)
    west, south, east, north = grid.bounds(ours)[0]
    assert west <= lon < east and south <= lat < north
    # pygeohash rounds where it halves, so that points beside a border may fall to either side
    beside = min(lon - west, east - lon, lat - south, north - lat) < 1e-12
    assert beside or ours == pygeohash.encode(latitude=lat, longitude=lon, precision=precision)


@given(st.text(grid.ALPHABET, min_size=1, max_size=12))
def test_bounds_and_centres_are_those_of_pygeohash(name):
    there = pygeohash.decode_exactly(name)
    lon, lat = grid.centers([name])[0]
    assert (lon, lat) == pytest.approx((there.longitude, there.latitude), abs=1e-12)
    west, south, east, north = grid.bounds([name])[0]
    assert (east - west) / 2 == pytest.approx(there.longitude_error, rel=1e-9)
    assert (north - south) / 2 == pytest.approx(there.latitude_error, rel=1e-9)


@given(st.text(grid.ALPHABET, min_size=1, max_size=12))
def test_the_corner_and_the_centre_of_a_cell_lie_in_it(name):
    sides, middle = grid.bounds([name]), grid.centers([name])
    for lon, lat in (sides[0, :2], middle[0]):
        assert grid.encode(lon, lat, len(name)) == name


def test_poles_and_the_antimeridian_fall_into_the_last_cell():
    lon = [180, -180, 0, 0, 180, 190, -190, 540]
    lat = [0, 0, 90, -90, 90, 0, 0, 0]
    assert grid.encode(lon, lat, 3).tolist() == [
        "xbp", "800", "upb", "h00", "zzz", *grid.encode([-170, 170, -180], 0, 3).tolist(),
    ]  # fmt: skip


@pytest.mark.parametrize(("lon", "lat"), [(math.nan, 0), (0, math.inf), (0, 90.1), (0, -91)])
def test_points_off_the_globe_are_refused(lon, lat):
    with pytest.raises(BadInput, match="point"):
        grid.encode([0, lon], [0, lat], 5)


def test_no_cells_have_no_bounds():
    assert grid.bounds([]).shape == (0, 4) and grid.cell_polygons_wkb([]) == []


@given(LON, LAT, st.floats(0, 40), st.floats(0, 40), st.booleans())
def test_cells_in_a_box_are_those_that_touch_it(west, south, width, height, aligned):
    if aligned:
        west, south = west // 1.40625 * 1.40625, south // 1.40625 * 1.40625
    east, north = (west + width + 180) % 360 - 180, min(90, south + height)
    found = grid.cells_in_bbox((west, south, east, north), 3)
    touching = ALL[grid.bbox_intersects(grid.bounds(ALL), (west, south, east, north))]
    assert np.array_equal(found, np.sort(touching))
    assert grid.count_cells((west, south, east, north), 3) >= len(found)


def test_a_box_across_the_antimeridian_has_cells_on_both_sides():
    cells = grid.cells_in_bbox((179.9, 0.1, -179.9, 0.15), 4)
    assert len(cells) == 2
    assert grid.bounds(cells)[:, [0, 2]].tolist() == [[-180, -179.6484375], [179.6484375, 180]]


def test_too_many_cells_are_refused_before_they_are_made():
    with pytest.raises(BadInput, match="at most 50000000 cells, found"):
        grid.cells_in_bbox((-180, -90, 180, 90), 9)
    with pytest.raises(BadInput, match="bbox"):
        grid.cells_in_bbox((0, 1, 1, 0), 3)


def test_a_million_points_take_seconds():
    rng = np.random.default_rng(0)
    names = grid.encode(rng.uniform(-180, 180, 10**6), rng.uniform(-90, 90, 10**6), 7)
    assert grid.bounds(names).shape == (10**6, 4)


def test_cell_polygons_are_closed_boxes():
    names = ["u33", "u33d", "zzzzzz"]
    found = [shapely.from_wkb(one) for one in grid.cell_polygons_wkb(names)]
    assert [shape.bounds for shape in found] == [tuple(b) for b in grid.bounds(names).tolist()]
    assert all(shape.exterior.is_ccw and shape.is_valid for shape in found)


@pytest.mark.parametrize("lat", [0, 5, 45, 65, 80])
def test_metres_per_degree_are_those_of_the_ellipsoid(lat):
    warp = pytest.importorskip("rasterio.warp")
    local = f"+proj=aeqd +lat_0={lat} +lon_0=10 +ellps=WGS84 +units=m"
    step = 1e-3
    x, y = warp.transform("EPSG:4326", local, [10 + step, 10], [lat, lat + step])
    east, north = grid.metres_per_degree(lat)
    assert (x[0], y[1]) == pytest.approx((east * step, north * step), rel=1e-5)


def test_metres_per_degree_do_not_vanish_at_the_poles():
    east, _ = grid.metres_per_degree([89, 89.9, 90, -90])
    assert (east == east[0]).all() and east[0] > 1900


def test_distances_are_great_circles():
    assert grid.distance_m([0, 0], [0, 90]) == pytest.approx(math.pi / 2 * 6_371_008.8)
    assert grid.distance_m([179, 0], [[-179, 0]]) == pytest.approx([2 * 111_195], rel=1e-4)


@pytest.mark.parametrize(
    ("gsd", "lat", "expected"),
    [(120, [46], (5, 48, 32)), (10, [40], (6, 64, 96)), (10, [61, 63], (6, 64, 64)),
     (2.5, [40], (7, 64, 48)), (231.66, [-12], (5, 32, 32)), (5, [46.5], (7, 32, 32)),
     (10, [5, 65], (6, 64, 128))],
)  # fmt: skip
def test_chips_of_known_sensors(gsd, lat, expected):
    chips = grid.choose_grid(gsd, lat)
    assert (chips.precision, chips.height, chips.width) == expected and chips.gsd == gsd


@given(st.floats(0.3, 2000), st.floats(-85, 85), st.floats(0, 20))
def test_the_default_is_the_finest_cell_of_sixteen_pixels(gsd, lat, extent):
    lats = [lat, min(85, lat + extent)]

    def short_side(precision):
        sides = grid.bounds(grid.encode(0, [np.clip(x, -80, 80) for x in lats], precision))
        east, north = grid.metres_per_degree(np.clip(lats, -80, 80))
        return min(
            ((sides[:, 2] - sides[:, 0]) * east).min(), ((sides[:, 3] - sides[:, 1]) * north).min()
        )

    chosen = grid.choose_precision(gsd, lats)
    assert chosen == 1 or short_side(chosen) >= 16 * gsd * (1 - 1e-9)
    assert chosen == 9 or short_side(chosen + 1) < 16 * gsd


@given(st.floats(0.3, 2000), st.floats(-85, 85), st.floats(0, 20), st.data())
def test_chips_cover_every_cell_between_the_latitudes(gsd, lat, extent, data):
    top = min(85, lat + extent)
    chips = grid.choose_grid(gsd, [lat, top])
    assert chips.height % 16 == chips.width % 16 == 0 and max(chips.height, chips.width) <= 128
    name = grid.encode(0.1, data.draw(st.floats(lat, top)), chips.precision)
    west, south, east, north = grid.bounds(name)[0]
    dx, dy = chips.steps(name)[0]
    assert (east - west) / dx <= chips.width + 1e-6 and (north - south) / dy <= chips.height + 1e-6


def test_a_chip_that_would_be_too_large_is_made_of_coarser_pixels(caplog):
    with caplog.at_level(logging.INFO, "embarchive"):
        chips = grid.choose_grid(10, [75], precision=5)
    assert chips.gsd == 38.33 and chips.height == 128 and "38.33" in caplog.text
    assert grid.chip_shape(5, 38.33, [75]) == (128, chips.width)
    with pytest.raises(BadInput, match=r"at least 38\.33 m .* found 10 m"):
        grid.chip_shape(5, 10, [75])


def test_the_pixels_of_the_largest_cell_are_counted():
    west, south, east, north = grid.bounds("s00000")[0]
    across, up = grid.metres_per_degree(0.0)
    metres = (east - west) * across * (north - south) * up
    assert grid.pixels_a_cell(6, 10, [0]) == pytest.approx(metres / 100, rel=1e-3)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_a_gsd_that_is_none_is_refused(bad):
    with pytest.raises(BadInput, match="gsd"):
        grid.choose_grid(bad, [5])
    with pytest.raises(BadInput, match="gsd"):
        grid.ChipGrid(5, bad, 16, 16)


@pytest.mark.parametrize("lat", [-89.99, -65, 5, 65, 89.99])
@pytest.mark.parametrize("lon", [-179.999, 13.4, 179.999])
def test_axes_transform_and_crop_tell_of_the_same_pixels(lon, lat):
    chips = grid.ChipGrid(6, 10.0, 64, 128)
    name = str(grid.encode(lon, lat, 6))
    x, y = chips.pixel_lonlat([name])
    a, b, c, d, e, f = chips.transform(name)
    assert b == d == 0 and x.shape == (1, 128) and y.shape == (1, 64)
    there = c + a * (np.arange(128) + 0.5)
    assert np.allclose((x[0] - there + 180) % 360, 180, atol=1e-9)
    assert np.allclose(y[0], f + e * (np.arange(64) + 0.5), atol=1e-9)
    assert (x >= -180).all() and (x < 180).all()
    rows, columns = chips.crop(name)
    west, south, east, north = grid.bounds([name])[0]
    inside = (there >= west) & (there < east)
    assert np.array_equal(np.flatnonzero(inside), np.arange(columns.start, columns.stop))
    inside = (y[0] > south) & (y[0] <= north)
    assert np.array_equal(np.flatnonzero(inside), np.arange(rows.start, rows.stop))


def test_subsampled_axes_average_to_the_pixel_centres():
    chips = grid.ChipGrid(6, 10.0, 32, 48)
    x, y = chips.pixel_lonlat(["u33dc0", "u33dc1"])
    fine_x, fine_y = chips.pixel_lonlat(["u33dc0", "u33dc1"], 3)
    assert np.allclose(fine_x.reshape(2, 48, 3).mean(axis=2), x, atol=1e-12)
    assert np.allclose(fine_y.reshape(2, 32, 3).mean(axis=2), y, atol=1e-12)


def test_pixels_are_square_on_the_ground_at_every_latitude():
    warp = pytest.importorskip("rasterio.warp")
    for lat in (5, 65):
        name = str(grid.encode(13.4, lat, 6))
        lon, middle = grid.centers([name])[0]
        x, y = grid.ChipGrid(6, 10.0, 64, 64).pixel_lonlat([name])
        local = f"+proj=tmerc +lat_0={middle} +lon_0={lon} +ellps=WGS84 +units=m"
        mesh = np.meshgrid(x[0], y[0])
        east, north = warp.transform("EPSG:4326", local, mesh[0].ravel(), mesh[1].ravel())
        want = (np.arange(64) - 31.5) * 10
        assert np.allclose(np.reshape(east, (64, 64)), want, atol=0.1)
        assert np.allclose(np.reshape(north, (64, 64)), -want[:, None], atol=0.1)


def test_a_crop_keeps_at_least_one_pixel():
    tiny = grid.ChipGrid(9, 500.0, 16, 16)
    rows, columns = tiny.crop("u33dc0000")
    assert rows.stop - rows.start >= 1 and columns.stop - columns.start >= 1
    odd = grid.ChipGrid(9, 500.0, 15, 15).crop("u33dc0000")
    assert odd == (slice(7, 8), slice(7, 8))


def test_the_distance_to_a_box_is_that_to_its_nearest_point():
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 200)
    for _ in range(60):
        west, south = rng.uniform(-180, 120), rng.uniform(-85, 40)
        box = west, south, west + rng.uniform(0.1, 60), south + rng.uniform(0.1, 45)
        here = np.array([rng.uniform(-180, 180), rng.uniform(-90, 90)])
        east, north = np.meshgrid(box[0] + t * (box[2] - west), box[1] + t * (box[3] - south))
        least = grid.distance_m(here, np.stack([east, north], axis=-1)).min()
        found = grid.box_distance_m(here, [box])[0]
        assert found <= least + 1e-6 and least - found < 40_000
    assert grid.box_distance_m(np.array([5.0, 5.0]), [[0, 0, 10, 10]]) == 0
