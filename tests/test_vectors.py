"""Rows of files of vectors: what is read, and what is refused with its row."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from vectorfiles import (
    WKB,
    alphaearth,
    clay,
    lists,
    major_tom,
    make_floats,
    make_points,
    plain,
    tessera,
    wkb,
    write,
)

import embarchive.vectors as module
from embarchive import geohash, grid
from embarchive.errors import BadInput
from embarchive.layouts import Wishes, look
from embarchive.vectors import NO_DATE, batches


@pytest.fixture
def path(tmp_path):
    return tmp_path / "v.parquet"


def read(path, **wishes):
    (found,) = list(batches(look(path, Wishes(**wishes)), vectors=True))
    return found


def cells_of(lon, lat):
    return grid.encode(lon, lat, 12).tolist()


def spelt(batch):
    return geohash.spell(batch.cells, 12).tolist()


@pytest.mark.parametrize(("make", "dim"), [(clay, 768), (major_tom, 96)])
def test_layouts_of_others_give_their_centres_and_vectors(path, make, dim):
    found = read(make(path))
    lon, lat = make_points(60)
    centres = grid.centers(np.array(spelt(found)))
    np.testing.assert_allclose(centres, np.stack([lon, lat], axis=1), atol=1e-6)
    np.testing.assert_array_equal(found.vectors, make_floats(60, dim))
    first = datetime(2021, 6, 1, tzinfo=UTC).timestamp() * 1e6
    assert found.when[0] == first and (found.when >= first).all()


def test_numbered_columns_are_read_in_their_order(path):
    _, vectors = tessera(path)
    np.testing.assert_array_equal(read(path).vectors, vectors)


@pytest.mark.parametrize("int8", [False, True])
def test_alphaearth_is_on_the_unit_sphere(path, int8):
    _, unit = alphaearth(path, int8=int8)
    found = read(path)
    np.testing.assert_allclose(found.vectors, unit, atol=0.008 if int8 else 1e-7)
    assert found.when[0] == datetime(2021, 1, 1, tzinfo=UTC).timestamp() * 1e6


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_floats_of_any_width_are_read(path, kind):
    plain(path, kind=kind)
    np.testing.assert_allclose(read(path).vectors, make_floats(200), atol=0.004)


def test_rows_come_a_bounded_number_at_a_time_and_by_row_group(path, monkeypatch):
    lon, lat = make_points(1000)
    columns = {"lon": lon, "lat": lat, "embedding": lists(make_floats(1000))}
    write(path, columns, row_group_size=600)
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    layout = look(path, Wishes())
    found = list(batches(layout, vectors=True))
    assert [batch.first for batch in found] == [1, 257, 513, 601, 857]
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in found]), make_floats(1000))
    assert [b.first for b in batches(layout, vectors=False, row_groups=[1])] == [601, 857]


WHEN = datetime(2020, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize("column", [
    pa.array([WHEN, None], pa.timestamp("ns", "Europe/Vienna")),
    pa.array([datetime(2020, 3, 4), None], pa.timestamp("s")),
    pa.array([date(2020, 3, 4), None], pa.date32()),
    pa.array(["2020-03-04", None]),
    pa.array(["S2A_20200304T000000_x", None]),
    pa.array(["2020-03-04T01:00:00+01:00", None]).dictionary_encode(),
])  # fmt: skip
def test_dates_of_any_type_are_read(path, column):
    columns = {
        "lon": [1.0, 2.0],
        "lat": [1.0, 2.0],
        "embedding": lists(make_floats(2)),
        "d": column,
    }
    write(path, columns)
    assert read(path, datetime="d").when.tolist() == [WHEN.timestamp() * 1e6, NO_DATE]


def test_a_geohash_is_the_place_and_valid_fractions_are_kept(path):
    more = {"geohash": ["u2ed", "u2ee"], "valid_fraction": [0.5, None], "source": ["a", "b"]}
    found = read(plain(path, count=2, **more))
    assert spelt(found) == ["u2ed00000000", "u2ee00000000"]
    assert found.valid.tolist() == [0.5, 1.0] and found.source.to_pylist() == ["a", "b"]


def changed(number, value):
    vectors = make_floats(5, 8)
    vectors[number] = value
    return {"embedding": lists(vectors)}


def bad_wkb():
    column = [*wkb([shapely.Point(1, 3)] * 3).to_pylist(), b"no", None]
    return pa.array(column, pa.binary())


def ragged(*lengths):
    return {"embedding": [[1.0] * n if n is not None else None for n in lengths]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (ragged(8, 8, 7, 8, 8), "row 3: expected a vector of 8 numbers as in row 1, found 7"),
        (ragged(8, None, 8, 8, 8), "row 2: expected a vector, found none"),
        (changed((1, 2), np.nan), "row 2: expected finite numbers, found one that is not"),
        (changed((4, 0), np.inf), "row 5: expected finite numbers, found one that is not"),
        (changed(3, 0), "row 4: expected a vector, found zeros alone"),
        ({"lon": [0.0, 181, 0, 0, 0]}, "row 2: expected a longitude .* found 181 and 3"),
        ({"lat": [0.0, 0, -91, 0, 0]}, "row 3: expected a longitude .* found 1 and -91"),
        ({"lat": [0.0, None, 0, 0, 0]}, "row 2: expected a place, found none"),
        ({"geometry": wkb([None] * 5)}, "row 1: expected a place, found none"),
        ({"geohash": ["u2e", "u2", "u2e", "u2e", "u2e"]}, "row 2: expected 3 letters"),
        ({"geohash": ["u2e", "u2e", "u2a", "u2e", "u2e"]}, "row 3: expected a geohash .*'u2a'"),
        ({"geohash": [""] * 5}, "row 1: expected a geohash of 1 to 12 of .* found ''"),
        ({"geohash": ["u" * 13] * 5}, "row 1: expected a geohash of 1 to 12 of"),
        ({"date": [None, "2020", "soon", "2020", "late"]}, "row 3: expected a date, found 'soon'"),
        ({"geometry": bad_wkb()}, "row 4: expected WKB, found"),
        ({"valid_fraction": [1, 0.5, 100, 50, 0]}, "row 3: expected a valid_fraction .* found 100"),
        ({"valid_fraction": [1, -0.5, 1, 1, 0]}, "row 2: expected a valid_fraction of 0 to 1"),
        ({"valid_fraction": ["all"] * 5}, "expected valid_fraction to be numbers, found string"),
        ({"lon": ["far"] * 5}, "expected lon to be numbers, found string"),
        ({"year": [2020, 2020, 20, 2020, 2020]}, "row 3: expected a year"),
        ({"datetime": [1.5] * 5}, "expected dates, found double"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_by_their_number(path, columns, said):
    base = {"lon": [1.0] * 5, "lat": [3.0] * 5, "embedding": lists(make_floats(5, 8))}
    write(path, {**base, **columns}, WKB if "geometry" in columns else None)
    with pytest.raises(BadInput, match=f"^import v.parquet: {said}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_masked_alphaearth_is_refused(path):
    lon, lat = make_points(3)
    axes = {f"A{i:02d}": pa.array([5, -128, 5], pa.int8()) for i in range(64)}
    write(path, {"lon": lon, "lat": lat, **axes})
    with pytest.raises(BadInput, match="row 2: expected a vector, found -128, AlphaEarth"):
        read(path)


def test_projected_geometries_are_turned_to_degrees(path):
    pyproj = pytest.importorskip("pyproj")
    crs = pyproj.CRS.from_epsg(32633).to_json_dict()
    shapes = shapely.points([500_000.0], [5_000_000.0])
    columns = {"geometry": wkb(shapes), "embedding": lists(make_floats(1, 8))}
    write(path, columns, {**WKB, "crs": crs})
    lon, lat = grid.centers(np.array(spelt(read(path))))[0]
    assert abs(lon - 15) < 1e-6 and 45 < lat < 46


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, None, 2**63 - 1], pa.timestamp("us")),
        pa.array([0, None, 2**63 - 1], pa.timestamp("ms", "UTC")),
        pa.array([0, None, 253_402_300_800_000], pa.timestamp("ms")),
        pa.array([0, None, -719_163], pa.date32()),
        pa.array([0, None, 2**31 - 1], pa.date32()),
    ],
)
def test_dates_of_no_calendar_are_refused_by_their_row(path, column):
    base = {"lon": [1.0] * 3, "lat": [3.0] * 3, "embedding": lists(make_floats(3, 8))}
    write(path, {**base, "datetime": column})
    with pytest.raises(BadInput, match=r"row 3: expected a date of the years 1 to 9999"):
        read(path)


def test_the_first_and_the_last_day_of_the_calendar_are_dates(path):
    days = [date(1, 1, 1), date(9999, 12, 31), None]
    base = {"lon": [1.0] * 3, "lat": [3.0] * 3, "embedding": lists(make_floats(3, 8))}
    write(path, {**base, "datetime": pa.array(days, pa.date32())})
    when = read(path).when
    assert when[:2].astype("M8[us]").tolist() == [datetime(1, 1, 1), datetime(9999, 12, 31)]
    assert when[2] == NO_DATE


def test_an_export_may_hold_vectors_of_zeros(path):
    vectors = make_floats(3, 8)
    vectors[1] = 0
    columns = {"lon": [1.0] * 3, "lat": [3.0] * 3, "embedding": lists(vectors)}
    write(path, columns)
    with pytest.raises(BadInput, match="row 2: expected a vector, found zeros alone"):
        read(path)
    table = pa.table(columns).replace_schema_metadata({"embarchive": '{"scale": 0.5}'})
    pq.write_table(table, path)
    assert not read(path).vectors[1].any()
