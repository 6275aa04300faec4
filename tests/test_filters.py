"""Filters: what callers may write, and which rows match."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from archives import make_table
from hypothesis import given
from hypothesis import strategies as st

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.filters import from_micros, make_filter, row_mask, to_micros

DAY = 86_400_000_000


def matching(table, **asked):
    return table.filter(row_mask(table, make_filter(**asked)))


def test_a_day_means_all_of_it():
    day = make_filter(when="2023-05-01")
    assert day.end - day.start == DAY - 1
    assert day == make_filter(when=date(2023, 5, 1)) == make_filter(when="2023-05-01/2023-05-01")


@pytest.mark.parametrize(
    ("when", "start", "end"),
    [
        ("2023-05-01/..", "2023-05-01", None),
        ("../2023-05-01T12:00:00Z", None, "2023-05-01T12:00:00+00:00"),
        (("2023-05-01", None), "2023-05-01", None),
        ((datetime(2023, 5, 1), "2023-05-02T00:00:00+02:00"), "2023-05-01", "2023-05-01T22:00"),
    ],
)
def test_ranges_may_be_open_on_one_side(when, start, end):
    def micros(text):
        return None if text is None else to_micros(datetime.fromisoformat(text))

    assert make_filter(when=when).start == micros(start)
    assert make_filter(when=when).end == micros(end)


@pytest.mark.parametrize(
    "when", ["2023-05-02/2023-05-01", "May", ("2023-05-01",), 7, "2023-13-01", "2023-05-01/x"]
)
def test_dates_that_cannot_be_are_refused(when):
    with pytest.raises(BadInput, match="date"):
        make_filter(when=when)


@pytest.mark.parametrize(
    "bbox", [(1, 2, 3), (0, 5, 1, 4), (0, 0, float("nan"), 1), (0, -91, 1, 0), (0, 0, 181, 1), "ab"]
)
def test_boxes_that_cannot_be_are_refused(bbox):
    with pytest.raises(BadInput, match="bbox"):
        make_filter(bbox=bbox)


def test_a_geohash_that_is_none_is_refused():
    with pytest.raises(BadInput):
        make_filter(geohash="u33a")


@given(st.integers(-(10**15), 10**16))
def test_moments_survive_the_round_trip(micros):
    assert to_micros(from_micros(micros)) == micros


def test_rows_without_a_date_only_match_when_no_dates_are_asked_for():
    table = make_table(70, nulls=True)
    assert len(matching(table, when="1970-01-01/..")) == 60
    assert len(matching(table, geohash=table["geohash"].to_pylist())) == 70


def test_prefixes_and_whole_names_match_by_their_start():
    table = make_table(500)
    names = table["geohash"].to_pylist()
    prefix = names[250][:4]
    wanted = [n for n in names if n.startswith(prefix) or n == names[0]]
    assert matching(table, geohash=[prefix, names[0]])["geohash"].to_pylist() == wanted


def test_a_box_keeps_the_cells_that_it_touches():
    table = make_table(400, dates=2)
    bounds = grid.bounds(np.array(table["geohash"].to_pylist()))
    west, south, east, north = 13.05, 52.02, 13.09, 52.05
    inside = (
        (bounds[:, 0] <= east)
        & (bounds[:, 2] >= west)
        & (bounds[:, 1] <= north)
        & (bounds[:, 3] >= south)
    )
    found = matching(table, bbox=(west, south, east, north))
    assert len(found) == inside.sum() > 0


def test_a_box_across_the_antimeridian_keeps_both_sides():
    cells = grid.encode(np.array([179.9, -179.9, 0.0]), np.array([10.0, 10.0, 10.0]), 6)
    table = make_table(3, cells=cells)
    found = matching(table, bbox=(179, 9, -179, 11))["geohash"].to_pylist()
    assert sorted(found) == sorted(cells[:2].tolist())


def test_a_polygon_that_is_not_one_is_refused():
    for bad in ("POINT (1 2)", "POLYGON ((0 0, 1 1, 0 1, 1 0, 0 0))", "no such file.geojson"):
        with pytest.raises(BadInput):
            make_filter(polygon=bad)


def test_a_moment_without_offset_is_utc():
    assert from_micros(to_micros(datetime(2023, 5, 1))) == datetime(2023, 5, 1, tzinfo=UTC)
