"""Geometries as points: WKB, geoarrow, coordinate systems."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
from vectorfiles import wkb

from embarchive import points
from embarchive.errors import BadInput, MissingExtra

LON, LAT = np.array([10.5, -3.25, 179.9]), np.array([45.0, -12.5, 0.0])
POINT = pa.struct([("x", pa.float64()), ("y", pa.float64())])
RINGS = [[[(0, 0), (4, 0), (4, 2), (0, 2), (0, 0)]], [[(-2, 5), (0, 5), (0, 9), (-2, 5)]]]


def native(rings):
    said = [[[{"x": x, "y": y} for x, y in ring] for ring in rings] for rings in rings]
    return pa.array(said, pa.list_(pa.list_(POINT)))


def test_points_in_wkb_are_read_as_they_are():
    found = points.centres(wkb(shapely.points(LON, LAT)), True)
    np.testing.assert_array_equal(found, (LON, LAT))


def test_a_slice_of_points_is_the_slice():
    found = points.centres(wkb(shapely.points(LON, LAT)).slice(1), True)
    np.testing.assert_array_equal(found, (LON[1:], LAT[1:]))


def test_polygons_give_the_centre_of_their_bounds_and_missing_ones_nan():
    shapes = [shapely.box(0, 0, 4, 2), None, shapely.Point(), shapely.box(-10, -4, -8, 0)]
    x, y = points.centres(wkb(shapes), True)
    np.testing.assert_array_equal(x, [2, np.nan, np.nan, -9])
    np.testing.assert_array_equal(y, [1, np.nan, np.nan, -2])


def test_what_crosses_the_antimeridian_has_its_centre_there():
    halves = shapely.MultiPolygon([shapely.box(178, 0, 180, 2), shapely.box(-180, 0, -176, 2)])
    assert points.centres(wkb([halves]), True)[0][0] == -179
    assert points.centres(wkb([halves]), False)[0][0] == 0


@pytest.mark.parametrize("make", [
    lambda: pa.array([{"x": x, "y": y} for x, y in zip(LON, LAT, strict=True)], POINT),
    lambda: pa.array(np.stack([LON, LAT], axis=1).tolist(), pa.list_(pa.float64(), 2)),
])  # fmt: skip
def test_native_points_are_read_as_they_are(make):
    np.testing.assert_array_equal(points.centres(make(), True), (LON, LAT))
    np.testing.assert_array_equal(points.centres(make().slice(1), True), (LON[1:], LAT[1:]))


def test_native_polygons_are_those_of_wkb():
    column = native([RINGS[0], RINGS[1], RINGS[0]])
    shapes = [shapely.Polygon(rings[0]) for rings in (RINGS[0], RINGS[1], RINGS[0])]
    expected = points.centres(wkb(shapes), True)
    np.testing.assert_array_equal(points.centres(column, True), expected)
    later = points.centres(column.slice(1), True)
    np.testing.assert_array_equal(later, np.array(expected)[:, 1:])


def test_native_polygons_may_be_missing_or_empty():
    column = pa.concat_arrays([native(RINGS[:1]), native([[]]), pa.nulls(1, native(RINGS).type)])
    assert np.isnan(points.centres(column, True)[0]).tolist() == [False, True, True]


def test_native_polygons_may_cross_the_antimeridian():
    ring = [(178, 0), (-178, 0), (-178, 2), (178, 2), (178, 0)]
    assert abs(points.centres(native([[ring], RINGS[0]]), True)[0][0]) == 180


def test_what_is_no_geometry_is_refused():
    with pytest.raises(BadInput, match="f: row 7: expected WKB, found"):
        points.centres(pa.array([None, b"no"]), True, "f", 6)
    with pytest.raises(BadInput, match="expected WKB or geoarrow coordinates, found int64"):
        points.centres(pa.array([1]), True)


def test_degrees_are_known_by_their_names_and_by_silence():
    field = pa.field("geometry", pa.binary())
    lonlat = {"id": {"authority": "OGC", "code": "CRS84"}, "name": "WGS 84"}
    for said in ({}, {"crs": None}, {"crs": lonlat}, {"crs": "EPSG:4326"}):
        assert points.crs_of(field, said) is None
    utm = {"id": {"authority": "EPSG", "code": 32633}, "name": "UTM 33N"}
    assert points.crs_of(field, {"crs": utm}) == utm
    tagged = field.with_metadata({"ARROW:extension:metadata": '{"crs": "EPSG:32633"}'})
    assert points.crs_of(tagged, None) == "EPSG:32633"
    assert points.name(utm) == "EPSG:32633"


def test_other_systems_are_turned():
    pytest.importorskip("pyproj")
    lon, lat = points.to_degrees(np.array([500_000.0]), np.array([0.0]), "EPSG:32633", "f")
    np.testing.assert_allclose((lon[0], lat[0]), (15, 0), atol=1e-9)
    with pytest.raises(BadInput, match="f: expected a known coordinate system"):
        points.to_degrees(lon, lat, "EPSG:999999", "f")


def test_other_systems_are_refused_by_name_without_pyproj(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyproj", None)
    with pytest.raises(MissingExtra, match=r"f: expected longitude .* found EPSG:32633"):
        points.to_degrees(LON, LAT, "EPSG:32633", "f")
