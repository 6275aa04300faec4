"""Where rasters lie, against PROJ point by point."""

from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
from rasterfiles import PLACE, UTM, write
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.warp import transform as warp

from embarchive.errors import BadInput
from embarchive.placement import Placement
from embarchive.rasters import opened


@contextmanager
def placed(path, **how):
    with opened(write(path / "a.tif", **how)) as source:
        yield Placement(source)


def exact(crs, transform, lon, lat):
    x, y = warp("EPSG:4326", crs, np.ravel(lon), np.ravel(lat))
    return ~transform @ (np.array(x), np.array(y))


def test_a_north_up_raster_is_where_proj_says(tmp_path):
    with placed(tmp_path) as place:
        lon, lat = np.array([15.0, 15.001]), np.array([46.0, 46.05])
        assert np.allclose(place.pixels(lon, lat), exact(UTM, PLACE, lon, lat))
        assert place.gsd() == 10.0


def test_a_rotated_raster_goes_there_and_back(tmp_path):
    turned = Affine(8.66, 5, 500_000, 5, -8.66, 5_100_000)
    with placed(tmp_path, transform=turned) as place:
        lon, lat = place.lonlat(np.array([0.0, 7.5, 20]), np.array([0.0, 3.25, 20]))
        assert np.allclose(place.pixels(lon, lat), [[0, 7.5, 20], [0, 3.25, 20]], atol=1e-6)
        assert place.gsd() == pytest.approx(10, abs=0.01)
        ((west, south, east, north),) = place.bounds()
        assert west <= lon.min() and east >= lon.max() and south <= lat.min() and north >= lat.max()


def test_points_that_do_not_project_are_nan_and_spare_the_others(tmp_path):
    with placed(tmp_path) as place:
        column, row = place.pixels(np.array([105.0, 15, np.nan]), np.array([0.0, 46, 1]))
        assert np.isnan(column).tolist() == np.isnan(row).tolist() == [True, False, True]


@pytest.mark.parametrize("west", [170.0, -190.0, 530.0])
def test_a_raster_in_degrees_across_the_antimeridian_finds_both_sides(tmp_path, west):
    with placed(tmp_path, crs="EPSG:4326", transform=Affine(1, 0, west, 0, -1, 10)) as place:
        column, _ = place.pixels(np.array([175.0, -175, 185]), np.zeros(3))
        assert np.allclose(column, [5, 15, 15])
        assert place.bounds() == ((170.0, -10.0, 180.0, 10.0), (-180.0, -10.0, -170.0, 10.0))


def test_a_utm_raster_across_the_antimeridian_has_two_boxes(tmp_path):
    how = {"crs": "EPSG:32601", "transform": Affine(5000, 0, 250_000, 0, -5000, 6_700_000)}
    with placed(tmp_path, **how) as place:
        east, west = place.bounds()
        assert east[2] == 180 and west[0] == -180
        column, _ = place.pixels(np.array([179.9, -180.1]), np.array([60.0, 60.0]))
        assert column[0] == pytest.approx(column[1])


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 3), ("EPSG:3031", 1)])
def test_a_scene_that_holds_a_pole_reaches_it_at_all_longitudes(tmp_path, crs, pole):
    how = {"crs": crs, "transform": Affine(50_000, 0, -400_000, 0, -50_000, 450_000)}
    with placed(tmp_path, **how) as place:
        ((west, south, east, north),) = place.bounds()
        assert (west, east) == (-180, 180)
        assert (north if pole == 3 else -south) == 90
        assert 80 < abs(south if pole == 3 else north) < 86


def test_a_polar_scene_beside_the_pole_has_a_plain_box(tmp_path):
    how = {"crs": "EPSG:3413", "transform": Affine(1000, 0, 500_000, 0, -1000, -500_000)}
    with placed(tmp_path, **how) as place:
        ((west, _, east, north),) = place.bounds()
        assert east - west < 5 and north < 90


def test_the_north_end_of_a_raster_in_degrees_is_no_whole_ring(tmp_path):
    with placed(tmp_path, crs="EPSG:4326", transform=Affine(1, 0, 10, 0, -1, 90)) as place:
        assert place.bounds() == ((10.0, 70.0, 30.0, 90.0),)


def control_points(shift=0.0):
    """A curved 20 x 20 picture around 20 E, 35 S: points on a 5 x 5 lattice."""
    found = []
    for row in range(0, 21, 5):
        for column in range(0, 21, 5):
            lon = 20 + shift + 0.01 * column + 1e-5 * row * column
            found.append(GroundControlPoint(row, column, lon, -35 - 0.01 * row))
    return found


@pytest.mark.parametrize("shift", [0.0, 159.9])
def test_a_raster_with_control_points_alone_is_fitted(tmp_path, shift):
    points = control_points(shift)
    with placed(tmp_path, crs="EPSG:4326", transform=None, gcps=points) as place:
        lon, lat = np.array([p.x for p in points]), np.array([p.y for p in points])
        found = place.pixels((lon + 180) % 360 - 180, lat)
        assert np.allclose(found, [[p.col for p in points], [p.row for p in points]], atol=0.05)
        assert len(place.bounds()) == (2 if shift else 1)
        assert np.isnan(place.pixels(np.array([-100.0]), np.array([-35.0]))[0][0])
        assert 900 < place.gsd() < 1200


def axes(lon, lat, step, size):
    """Chip axes lon (n, size), lat (n, size) around the centres."""
    at = (np.arange(size) - size / 2 + 0.5) * step
    return np.asarray(lon)[:, None] + at, np.asarray(lat)[:, None] - at


@pytest.mark.parametrize("size", [5, 64])
def test_chips_are_placed_as_exactly_as_their_points(tmp_path, size):
    with placed(tmp_path) as place:
        lon, lat = axes([15.0, 15.4], [46.0, 45.7], 1e-4, size)
        column, row = place.axes(lon, lat)
        grid_lon = np.broadcast_to(lon[:, None, :], column.shape)
        grid_lat = np.broadcast_to(lat[:, :, None], row.shape)
        wanted = exact(UTM, PLACE, grid_lon, grid_lat)
        assert np.abs(column.ravel() - wanted[0]).max() < 0.01
        assert np.abs(row.ravel() - wanted[1]).max() < 0.01


def test_a_chip_too_bent_to_interpolate_is_computed_whole(tmp_path):
    how = {"crs": "EPSG:3413", "transform": Affine(1000, 0, -10_000, 0, -1000, 10_000)}
    with placed(tmp_path, **how) as place:
        lon, lat = axes([30.0], [89.0], 0.03, 64)
        column, _ = place.axes(lon, lat)
        wanted, _ = place.pixels(np.broadcast_to(lon[0], (64, 64)), np.tile(lat.T, (1, 64)))
        assert np.allclose(column[0], wanted, atol=1e-9)


def test_a_chip_across_the_antimeridian_is_one_piece(tmp_path):
    how = {"crs": "EPSG:32601", "transform": Affine(10, 0, 304_000, 0, -10, 6_657_000)}
    with placed(tmp_path, **how) as place:
        lon, lat = axes([180.0], [60.0], 1e-4, 32)
        column, _ = place.axes((lon + 180) % 360 - 180, lat)
        assert np.diff(column[0, 0]).min() > 0 and np.diff(column[0, 0]).max() < 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"crs": None}, "expected a coordinate system or ground control points"),
        ({"transform": None}, "expected a transform"),
        ({"crs": None, "transform": None}, "expected a coordinate system"),
    ],
)
def test_a_raster_without_a_place_is_refused_by_name(tmp_path, how, message):
    with pytest.raises(BadInput, match=f"a.tif: {message}"), placed(tmp_path, **how):
        pass


def test_a_world_file_and_side_car_projection_count(tmp_path):
    path = write(tmp_path / "a.png", np.ones((1, 20, 20), np.uint8), driver="PNG")
    assert list(tmp_path.glob("a.png.aux.xml"))
    with opened(path) as source:
        assert Placement(source).crs == rasterio.crs.CRS.from_string(UTM)
