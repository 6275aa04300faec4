import json
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import partrefs
from embarchive.errors import Damaged
from embarchive.parts import PartRef
from embarchive.strictjson import canonical_json

DAY = datetime(2023, 8, 15, 10, 30, 12, 345000, tzinfo=UTC)


def a_ref(number=0, **more):
    values = {
        "sha256": fakes.sha(number), "length": 44_000, "rows": 524_288, "shards": 512,
        "geohash_min": "u000000", "geohash_max": "u00gzzz", "bbox": (0.0, 45.0, 1.40625, 45.703125),
        "datetime_min": DAY, "datetime_max": DAY + timedelta(days=30), "shard_bytes": 38_912_000,
        **more,
    }  # fmt: skip
    return PartRef(**values)


REFS = (a_ref(), a_ref(1, rows=7, datetime_min=None, datetime_max=None))


def older(ref):
    """As archives were written before there were columns."""
    columns = partrefs.part_columns((ref,))
    row = {key: values[0] for key, values in columns.items()}
    return {**row, "bbox": columns["bbox"], "prefix": "u00"}


angles = st.floats(-180, 180)
refs = st.builds(
    a_ref,
    number=st.integers(0, 9),
    rows=st.integers(0, 2**53),
    bbox=st.tuples(angles, angles, angles, angles),
    datetime_min=st.none() | st.datetimes(timezones=st.just(UTC)),
    geohash_min=st.text("0123456789bcdefghjkmnpqrstuvwxyz", min_size=1, max_size=12),
)


@given(st.lists(refs, max_size=5).map(tuple))
def test_references_round_trip_through_columns(found):
    columns = json.loads(canonical_json(partrefs.part_columns(found)))
    assert partrefs.parse_parts(columns, "parts") == found
    assert set(columns) == {f.name for f in fields(PartRef)}
    lengths = {key: len(values) for key, values in columns.items()}
    assert lengths == {key: len(found) * (4 if key == "bbox" else 1) for key in columns}


def test_references_of_older_archives_are_read():
    assert partrefs.parse_parts([older(ref) for ref in REFS], "parts") == REFS
    assert partrefs.parse_parts([], "parts") == ()


@pytest.mark.parametrize("row", [{}, 5, [], None, {"prefix": None}, {"prefix": "u00"}])
def test_a_hostile_older_reference_is_damaged(row):
    with pytest.raises(Damaged, match=r"^parts: expected "):
        partrefs.parse_parts([older(REFS[0]), row], "parts")


@pytest.mark.parametrize("values", [{"prefix": "ail"}, {"prefix": 5}, {"more": 1}, {"bbox": [0]}])
def test_an_older_reference_with_a_wrong_value_is_damaged(values):
    with pytest.raises(Damaged, match=f"^parts: expected .*{next(iter(values))}"):
        partrefs.parse_parts([{**older(REFS[0]), **values}], "parts")


@pytest.mark.parametrize("key", [f.name for f in fields(PartRef)])
def test_a_column_that_is_missing_short_long_or_no_list_is_damaged(key):
    columns = partrefs.part_columns(REFS)
    without = {name: values for name, values in columns.items() if name != key}
    values = columns[key]
    with pytest.raises(Damaged, match=r"^parts: expected keys .* found "):
        partrefs.parse_parts(without, "parts")
    for wrong in (values[1:], [*values, *values[:1]], []):
        with pytest.raises(
            Damaged, match=r"^parts: expected (\w+ of \d parts|bbox west.*), found "
        ):
            partrefs.parse_parts({**columns, key: wrong}, "parts")
    for wrong in (None, "ab", {"0": 1, "1": 1}, 2):
        said = f"parts: expected {key} to be a list, found {wrong}"
        with pytest.raises(Damaged, match=f"^{re.escape(said)}$"):
            partrefs.parse_parts({**columns, key: wrong}, "parts")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "../../etc/passwd"), ("sha256", None), ("rows", -1), ("rows", True),
        ("rows", "7"), ("rows", [7]), ("length", 1.5), ("geohash_min", "ail"),
        ("geohash_max", "u00\n"), ("bbox", 181), ("bbox", [0, 0, 1, 1]), ("bbox", True),
        ("datetime_min", "x"), ("datetime_min", 5), ("datetime_max", "2023-08-15T10:30:00"),
    ],
)  # fmt: skip
def test_a_wrong_value_in_a_column_is_damaged(key, value):
    columns = partrefs.part_columns(REFS)
    with pytest.raises(Damaged, match=f"^parts.*: expected .*(?:{key}|ISO|offset)"):
        partrefs.parse_parts({**columns, key: [value, *columns[key][1:]]}, "parts")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_is_in_no_year_of_utc_is_damaged(text):
    columns = partrefs.part_columns(REFS)
    with pytest.raises(Damaged, match=r"^parts datetime_min: expected years 1 to 9999 .*, found '"):
        partrefs.parse_parts({**columns, "datetime_min": [text, None]}, "parts")


@pytest.mark.parametrize("values", [None, 5, "parts", {}, {"prefix": []}])
def test_what_are_no_columns_is_damaged(values):
    with pytest.raises(Damaged, match=r"^parts: expected keys "):
        partrefs.parse_parts(values, "parts")
    columns = partrefs.part_columns(REFS)
    with pytest.raises(Damaged, match=r"^parts: expected keys "):
        partrefs.parse_parts({**columns, "prefix": ["u00", "u00"]}, "parts")


def test_a_reference_more_costs_less_than_220_bytes():
    few, many = (
        len(canonical_json(partrefs.part_columns(tuple(map(a_ref, range(count))))))
        for count in (10, 210)
    )
    assert (many - few) / 200 < 220
    assert few < len(canonical_json([older(a_ref(number)) for number in range(10)]))


def test_a_single_reference_costs_at_most_4_bytes_more_than_an_object_did():
    columns = canonical_json(partrefs.part_columns(REFS[:1]))
    assert len(columns) <= len(canonical_json([{**older(REFS[0]), "prefix": ""}])) + 4
