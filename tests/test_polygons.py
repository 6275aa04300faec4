"""Polygons that users may write, and boxes against them."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from embarchive import polygons
from embarchive.errors import BadInput

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]}
FEATURE = {"type": "Feature", "properties": {"name": "a"}, "geometry": SQUARE}
BOX = st.tuples(*[st.floats(-5, 5)] * 4).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)


@pytest.mark.parametrize(
    "source",
    [
        SQUARE,
        FEATURE,
        {"type": "FeatureCollection", "features": [FEATURE, FEATURE]},
        {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]},
        json.dumps(SQUARE),
        "POLYGON ((0 0, 2 0, 2 2, 0 2, 0 0))",
        " polygon Z((0 0 1, 2 0 1, 2 2 1, 0 2 1, 0 0 1))",
        "SRID=4326;POLYGON((0 0, 2 0, 2 2, 0 2, 0 0))",
        shapely.box(0, 0, 2, 2),
    ],
)
def test_a_polygon_may_be_written_in_many_ways(source):
    found = polygons.read_polygon(source)
    assert found.area == 4 and found.bounds == (0, 0, 2, 2) and not found.has_z


def test_a_polygon_may_be_in_a_file(tmp_path):
    for name, text in (("a.geojson", json.dumps(FEATURE)), ("a.wkt", "POLYGON((0 0,2 0,2 2,0 0))")):
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
        assert polygons.read_polygon(tmp_path / name).area in (4, 2)
        assert polygons.read_polygon(str(tmp_path / name)).area in (4, 2)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("POINT (1 2)", "found Point"),
        ("LINESTRING (0 0, 1 1)", "found LineString"),
        ("GEOMETRYCOLLECTION (POINT (1 2))", "found GeometryCollection"),
        ("POLYGON EMPTY", "empty"),
        ("POLYGON ((0 0, 1 1, 0 1, 1 0, 0 0))", "Self-intersection"),
        ("POLYGON ((0 0, 1 1", "expected GeoJSON or WKT"),
        ("POLYGON ((0 0, 1000 0, 1000 1, 0 0))", "on the globe"),
        ("POLYGON ((0 0, 1 0, 1 91, 0 0))", "on the globe"),
        ("{", "expected GeoJSON"),
        ("{}", "type None"),
        ('{"type": "Polygon", "coordinates": 7}', "type 'Polygon'"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [NaN, 1], [0, 0]]]}', "polygon"),
        ('{"type": "Feature"}', "geometry"),
        ('{"type": "FeatureCollection", "features": []}', "found none"),
        ("no such file.geojson", "No such file"),
        ("", "cannot be read"),
        ("a\x00b", "cannot be read"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_what_is_no_polygon_is_refused_in_one_line(source, said):
    with pytest.raises(BadInput, match=said) as caught:
        polygons.read_polygon(source)
    assert "\n" not in str(caught.value)


def test_a_polygon_across_the_antimeridian_is_cut_and_moved_back():
    found = polygons.read_polygon(shapely.box(170, -10, 190, 10))
    assert found.area == pytest.approx(400) and found.bounds == (-180, -10, 180, 10)
    assert shapely.covers(found, shapely.points([175, -175, 180, -180], [0, 0, 0, 0])).all()
    assert not shapely.covers(found, shapely.Point(0, 0))
    west = polygons.read_polygon(shapely.box(-190, -10, -170, 10))
    assert west.equals(found)


@given(st.lists(BOX, min_size=1, max_size=20))
def test_boxes_meet_a_polygon_where_shapely_says_so(boxes):
    triangle = polygons.read_polygon(
        "POLYGON ((-3 -3, 4 -2, 0 3, -3 -3), (-1 -1, 0 0, 0 -1, -1 -1))"
    )
    bounds = np.array(boxes)
    one_by_one = [triangle.intersects(shapely.box(*box)) for box in boxes]
    assert polygons.polygon_intersects(bounds, triangle).tolist() == one_by_one
    inside = [triangle.covers(shapely.box(*box)) for box in boxes]
    assert polygons.polygon_contains(bounds, triangle).tolist() == inside


@given(st.lists(BOX, max_size=5))
def test_boxes_as_wkb_are_what_shapely_writes(boxes):
    ours = polygons.boxes_wkb(np.array(boxes).reshape(-1, 4))
    assert all(shapely.from_wkb(one).exterior.is_ccw for one in ours[:1] if len({*boxes[0]}) == 4)
    assert ours == [
        shapely.to_wkb(shapely.Polygon([(w, s), (e, s), (e, n), (w, n), (w, s)]), byte_order=1)
        for w, s, e, n in boxes
    ]


def test_features_are_named_by_name_or_id():
    other = {**FEATURE, "properties": None, "id": 7}
    text = json.dumps({"type": "FeatureCollection", "features": [FEATURE, other]})
    assert [name for name, _ in polygons.named_polygons("f", text)] == ["a", "7"]
    nameless = json.dumps({"features": [{**FEATURE, "properties": {}}]})
    with pytest.raises(BadInput, match="property name"):
        polygons.named_polygons("f", nameless)
    with pytest.raises(BadInput, match="expected a Feature, found int"):
        polygons.named_polygons("f", '{"features": [1]}')
