"""Dates out of names and tags."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive.dates import (
    date_of_path,
    date_of_tags,
    date_of_writing,
    find_date,
    parse_timeline,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S2A_MSIL2A_20170613T101032_T34VER_10m", datetime(2017, 6, 13, 10, 10, 32)),
        ("m_4709963_se_14_1_20090818", datetime(2009, 8, 18)),
        ("TERRA_MODIS_012010_NDVI_2013-09-14", datetime(2013, 9, 14)),
        ("LC08_L2SP_190028_20230815_20230819_02_T1", datetime(2023, 8, 15)),
        ("LC80010022020123LGN00", datetime(2020, 5, 2)),
        ("MOD13Q1.A2013257.h12v10", datetime(2013, 9, 14)),
        ("31-MAR-2005 07:59:36.166", datetime(2005, 3, 31, 7, 59, 36)),
    ],
)
def test_the_first_date_of_a_name_is_found(name, expected):
    assert find_date(name) == expected.replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["2018_3A_Theia", "River_1605", "20231341", "A2013999", "4709963"])
def test_digits_that_only_look_like_a_date_are_passed_over(name):
    assert find_date(name) is None


@given(st.datetimes(datetime(1960, 1, 1), datetime(2099, 12, 31)))
def test_a_compact_date_is_found_again(moment):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert find_date(f"T33TWL_{moment:%Y%m%dT%H%M%S}_B04") == moment


def test_the_day_of_writing_is_no_acquisition():
    tags = {"TIFFTAG_DATETIME": "2024:01:02 03:04:05"}
    assert date_of_tags(tags) is None
    assert date_of_writing(tags) == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert date_of_tags({"acquisition": "2017-06-13T10:10:32Z"}).hour == 10


def test_a_folder_dates_the_files_in_it():
    assert date_of_path(Path("a/S2A_33TWL_20230815_0_L2A/B04.tif")).day == 15


def test_a_timeline_has_a_date_a_line_for_every_band():
    assert len(parse_timeline("2007-09-14\n2007-09-30\n", 2)) == 2
    assert parse_timeline("2007-09-14\n2007-09-30\n", 3) is None
    assert parse_timeline("2007-09-14\nnone\n", 2) is None
