"""Exemplars: what callers may write, and which row stands for a place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from archives import make_vectors

from embarchive import rows
from embarchive.errors import BadInput
from embarchive.exemplars import (
    Image,
    Place,
    Vector,
    best_of_places,
    choose_row,
    nearest_cell,
    parse,
    parse_all,
)

MAY = datetime(2023, 5, 1, 10, tzinfo=UTC)


def place_rows(*found):
    """Rows of one cell from (days after May 1 or None, valid_fraction, source)."""
    return rows.make_rows(
        ["u33d8k"] * len(found),
        [None if day is None else MAY + timedelta(days=day) for day, _, _ in found],
        make_vectors(len(found)),
        None,
        {
            "model_id": ["m"] * len(found),
            "source": [source for _, _, source in found],
            "input_digest": [bytes(8)] * len(found),
            "valid_fraction": [valid for _, valid, _ in found],
        },
    )


def chosen(table, text="u33d8k"):
    row = table.slice(choose_row(table, parse(text, 6)), 1).to_pylist()[0]
    return row["datetime"] and row["datetime"].day, row["source"]


def test_text_is_a_geohash_a_dated_one_a_point_or_an_image(tmp_path):
    image = tmp_path / "a.tif"
    image.touch()
    assert parse("u33d8k", 6).geohash == "u33d8k"
    assert parse("u33d8k@2023-05-01", 6).when.dated
    assert parse("13.4,52.5", 6).geohash == parse((13.4, 52.5), 6).geohash == "u33d8v"
    assert parse(" -122.4 , 37.7", 6).geohash == "9q8yqx"
    assert parse(str(image), 6) == parse(Path(image), 6) == Image(image)
    assert isinstance(parse(np.zeros(64), 6), Vector)


def test_one_item_need_not_stand_in_a_list():
    for one in ("u33d8k", (13.4, 52.5), np.zeros(64)):
        assert len(parse_all(one, 6)) == 1
    assert len(parse_all(["u33d8k", (13.4, 52.5)], 6)) == 2
    for odd in (5, None):
        with pytest.raises(BadInput, match=f"like: expected GEOHASH.* found {odd}"):
            parse_all(odd, 6)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("u33", "expected a geohash of 6 characters, found u33"),
        ("u33d8a", "expected GEOHASH"),
        ("u33d8k@", "expected GEOHASH"),
        ("u33d8k@May", "date"),
        ("1,2,3", "expected LON,LAT"),
        ("200,0", "expected LON,LAT in -180..180"),
        ("no/such.tif", "no such image file no/such.tif"),
        (np.zeros((2, 2)), "expected a vector"),
        (np.array([1.0, np.nan]), "expected finite numbers"),
        (7, "expected GEOHASH"),
    ],
)
def test_what_cannot_be_an_exemplar_is_refused(item, message):
    with pytest.raises(BadInput, match=message):
        parse(item, 6)


def test_the_latest_good_date_stands_for_a_place():
    table = place_rows((0, 1.0, "a"), (5, 0.8, "a"), (9, 0.79, "a"), (None, 1.0, "a"))
    assert chosen(table) == (6, "a")


def test_without_a_good_date_the_clearest_row_stands_for_a_place():
    assert chosen(place_rows((0, 0.3, "a"), (5, 0.5, "a"), (9, 0.2, "a"))) == (6, "a")
    assert chosen(place_rows((None, 0.9, "a"))) == (None, "a")


def test_of_several_sources_of_one_day_the_clearest_is_taken_then_the_first():
    assert chosen(place_rows((5, 0.8, "a"), (5, 0.9, "b"))) == (6, "b")
    assert chosen(place_rows((5, 0.9, "b"), (5, 0.9, "a"))) == (6, "a")


def test_a_date_picks_that_date_and_its_absence_is_told():
    table = place_rows((0, 0.4, "a"), (5, 1.0, "a"))
    assert chosen(table, "u33d8k@2023-05-01") == (1, "a")
    with pytest.raises(BadInput, match="no tile on that date; it has 2023-05-01, 2023-05-06"):
        chosen(table, "u33d8k@2023-05-02")


def test_the_nearest_cell_is_by_distance_on_the_ground():
    assert nearest_cell("u33d8k", ["u33d8m", "u33dz0", "9q8yyk"]) == "u33d8m"
    assert isinstance(parse("u33d8k", 6), Place)


def test_of_each_place_the_latest_good_date_is_taken():
    days = [datetime(2023, 8, day, tzinfo=UTC) for day in (1, 2, 3, 1, 2)]
    rows = pa.table(
        {
            "geohash": ["u0", "u0", "u0", "u1", "u1"],
            "datetime": pa.array(days, pa.timestamp("us", tz="UTC")),
            "valid_fraction": pa.array([1.0, 0.9, 0.3, 0.5, 0.4], pa.float32()),
            "source": ["a", "b", "c", "d", "e"],
        }
    )
    assert best_of_places(rows)["source"].to_pylist() == ["b", "d"]
