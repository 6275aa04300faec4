"""Exemplars as a visitor writes them, and the row that stands for a place."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from embarchive import exemplars
from embarchive.errors import BadInput
from embarchive.filters import to_micros

TEXTS = [
    "dqdjuf", " u33dc0 ", "u33dc0@2023-05-01", "u33dc0@2023-05-01T10:30:00Z", "u33dc0@2023/..",
    "u33dc0@", "u33dc0@yesterday", "u33", "u33dc00", "13.25,52.5", " -75.6 , 37.65 ", "180,-90",
    "181,0", "0,90.5", "13,", "a,b", "1,2,3", "1e1,+.5", "nan,0", "U33DC0", "hello", "", "@",
]  # fmt: skip
DAY = datetime(2023, 5, 1, 10, tzinfo=UTC)
ROWS = [
    [[None, 0.9], [DAY, 0.5]],
    [[DAY, 0.85], [DAY.replace(month=6), 0.8], [DAY.replace(month=7), 0.79]],
    [[DAY, 0.3], [DAY.replace(month=6), 0.6], [DAY.replace(month=7), 0.6]],
    [[DAY, 0.9], [DAY, 0.95], [DAY, 0.95], [None, 1.0]],
    [[DAY.replace(month=6), 0.2], [DAY.replace(month=7), 0.8]],
    [[DAY, 0.7], [None, 0.7], [None, 0.9]],
]
WANTED = ["u33dc0", "u33dc0@2023-05-01", "u33dc0@2023-06-01", "u33dc0@2020-01-01"]
CELLS = ["u33dc0", "u33dbz", "xn774c", "80000n", "bpbpbp", "zzzzzz", "s00000"]


def make():
    return {
        "parsed": [{"text": text, **_parsed(text)} for text in TEXTS],
        "chosen": [
            {"rows": _plain(rows), "place": text, **_chosen(rows, text)}
            for rows in ROWS
            for text in WANTED
        ],
        "nearest": [
            [cell, [name for name in CELLS if name != cell],
             exemplars.nearest_cell(cell, [name for name in CELLS if name != cell])]
            for cell in CELLS
        ],
    }  # fmt: skip


def _parsed(text):
    try:
        found = exemplars.parse(text, 6)
    except BadInput as error:
        return {"error": str(error)}
    return {
        "geohash": found.geohash,
        "start": found.when.start,
        "end": found.when.end,
        "said": found.said,
    }


def _chosen(rows, text):
    table = pa.table(
        {
            "geohash": ["u33dc0"] * len(rows),
            "datetime": pa.array([when for when, _ in rows], pa.timestamp("us", tz="UTC")),
            "valid_fraction": np.array([valid for _, valid in rows], dtype=np.float32),
        }
    )
    try:
        return {"row": exemplars.choose_row(table, exemplars.parse(text, 6))}
    except BadInput as error:
        return {"error": str(error)}


def _plain(rows):
    return [[None if when is None else to_micros(when), valid] for when, valid in rows]
