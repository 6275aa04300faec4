"""Acquisition dates out of metadata tags and file names; pure text in, UTC datetimes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

# Tags that name the acquisition. TIFFTAG_DATETIME is often the day a program wrote the
# file, so it comes last of all, after the file's and the folder's name.
ACQUISITION_TAGS = (
    "ACQUISITION",
    "ACQUISITION_DATE",
    "ACQUISITION_DATETIME",
    "ACQUISITIONDATETIME",
    "ACQUISITION_TIME",
    "SENSING_TIME",
    "PRODUCT_START_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "DATE_ACQUIRED",
    "MPH_SENSING_START",
    "SPH_FIRST_LINE_TIME",
    "TIME_COVERAGE_START",
    "DATETIME",
    "DATE",
)
MONTHS = {
    name: number
    for number, name in enumerate(
        "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), start=1
    )
}
# The months of each, from December.
SEASONS = ("DJF", "MAM", "JJA", "SON")
YEAR = r"(19[5-9]\d|20\d\d)"
MONTH = r"(0[1-9]|1[0-2])"
DAY = r"(0[1-9]|[12]\d|3[01])"
SEPARATED = re.compile(
    rf"(?<!\d){YEAR}([-_.:/]){MONTH}\2{DAY}(?!\d)(?:[T ]([0-2]\d):([0-5]\d):([0-5]\d))?"
)
COMPACT = re.compile(rf"(?<!\d){YEAR}{MONTH}{DAY}(?:T([01]\d|2[0-3])([0-5]\d)([0-5]\d))?(?!\d)")
# MODIS (A2013257) and the Landsat scene ids of before 2017 (LC80010022020123LGN00).
DAY_OF_YEAR = re.compile(
    rf"(?:(?<![A-Za-z0-9])A|(?<![A-Za-z0-9])L[A-Z]\d\d{{6}}){YEAR}([0-3]\d\d)(?!\d)"
)
ENGLISH = re.compile(
    rf"(?<!\d){DAY}-([A-Z]{{3}})-{YEAR}(?:[ T]([0-2]\d):([0-5]\d):([0-5]\d))?", re.I
)


def find_date(text: str) -> datetime | None:
    """The first date in a text such as a file name, UTC; None when there is none.

    Knows 2023-08-15 (also with _ . : /), 20230815, 20230815T101032, A2013257,
    LC80010022020123LGN00 and 31-MAR-2005; a date the calendar lacks is passed over.
    """
    found: list[tuple[int, datetime]] = []
    for match in SEPARATED.finditer(text):
        year, _, month, day, *clock = match.groups()
        _keep(found, match.start(), year, month, day, clock)
    for match in COMPACT.finditer(text):
        year, month, day, *clock = match.groups()
        _keep(found, match.start(), year, month, day, clock)
    for match in ENGLISH.finditer(text):
        day, name, year, *clock = match.groups()
        _keep(found, match.start(), year, str(MONTHS.get(name.upper(), 0)), day, clock)
    for match in DAY_OF_YEAR.finditer(text):
        year, ordinal = match.groups()
        if 1 <= int(ordinal) <= 366:
            start = datetime(int(year), 1, 1, tzinfo=UTC)
            found.append((match.start(), start + timedelta(days=int(ordinal) - 1)))
    return min(found)[1] if found else None


def date_of_tags(tags: Mapping[str, str]) -> datetime | None:
    """The acquisition date of a file's metadata tags (keys in any case), UTC."""
    upper = {key.upper(): value for key, value in tags.items()}
    for key in ACQUISITION_TAGS:
        if key in upper and (day := find_date(upper[key])):
            return day
    return None


def date_of_writing(tags: Mapping[str, str]) -> datetime | None:
    """TIFFTAG_DATETIME, the last resort: many programs store the day of writing there."""
    return find_date(tags.get("TIFFTAG_DATETIME", ""))


def date_of_path(path: PurePath) -> datetime | None:
    """The date in a file's name, else in the names of the two folders above it."""
    for name in (path.name, path.parent.name, path.parent.parent.name):
        if day := find_date(name):
            return day
    return None


def parse_timeline(text: str, count: int) -> tuple[datetime, ...] | None:
    """The dates of a text with one date a line, when there are exactly `count`; else None."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != count:
        return None
    days = [find_date(line) for line in lines]
    return tuple(day for day in days if day) if all(days) else None


def _keep(
    found: list[tuple[int, datetime]],
    at: int,
    year: str,
    month: str,
    day: str,
    clock: Iterable[str],
) -> None:
    hour, minute, second = (int(part or 0) for part in clock)
    try:
        moment = datetime(int(year), int(month), int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:  # such as 31 June: digits that only look like a date
        return
    found.append((at, moment))


def season(when: datetime | None) -> str:
    """The meteorological season by its months; "undated" without a date."""
    return "undated" if when is None else SEASONS[when.month % 12 // 3]
