"""Filters from what a reader wrote, and the rows that they keep."""

import numpy as np
import pyarrow as pa

from embarchive.errors import BadInput
from embarchive.filters import from_micros, make_filter, row_mask

DATES = [
    "2023-08-15",
    "20230815",
    "2023-08-15/2023-08-16",
    "2023-08-15/..",
    "../2023-08-15",
    "..",
    "/",
    " 2023-08-15 / 2023-09-01 ",
    "2023-08-15T10:11:12Z",
    "2023-08-15 10:11",
    "2023-08-15T10",
    "20230815T101112",
    "2023-08-15T10:11:12.5+02:00",
    "2023-08-15T10:11:12.1234567-0330",
    "2024-02-29",
    "2000-02-29",
    "1969-12-31",
    "1900-02-29",
    "2023-02-29",
    "2023-13-01",
    "2023-00-10",
    "2023-04-31",
    "2023-08-15T24:01",
    "2023-08-15T10:60",
    "2023-8-15",
    "15.8.2023",
    "soon",
    "2023-09-01/2023-08-15",
    "2023-08-15/2023-08-15T00:00:00Z",
    "2023-08-15/2023-08-16/2023-08-17",
]
BOXES = [
    (5.0, 45.0, 6.0, 46.0),
    (179.0, -10.0, -179.0, 10.0),
    (0.0, 0.0, 0.0, 0.0),
    (5.0, 46.0, 6.0, 45.0),
    (-181.0, 0.0, 0.0, 1.0),
    (0.0, -91.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
]
NAMES = [["u0", "u", "u0"], ["9q8yy9"], ["a"], [""], ["u0000000000000"], []]
CELLS = ["8", "9q8yyk", "9q8yym", "rzzzzz", "s00000", "u0nd9h", "u0nd9h", "u0nd9k", "xbpbpb"]
DAYS = [None, 1_692_057_600_000_000, 1_692_144_000_000_000]
WANTED = [
    {},
    {"bbox": [5.625, 45.0, 5.78, 45.06]},
    {"bbox": [170.0, -20.0, -170.0, 20.0]},
    {"geohash": ["u0nd9", "9q8yym"]},
    {"geohash": ["u0nd9h"], "bbox": [0.0, 0.0, 90.0, 90.0]},
    {"datetime": "2023-08-15"},
    {"datetime": "2023-08-16/.."},
    {"bbox": [-180.0, -90.0, 180.0, 90.0], "datetime": "../2023-08-15"},
]


def _tried(**wanted):
    try:
        found = make_filter(**wanted)
    except BadInput:
        return None
    bbox = None if found.bbox is None else list(found.bbox)
    return {"bbox": bbox, "geohash": list(found.geohash), "start": found.start, "end": found.end}


def make():
    when = [DAYS[i % len(DAYS)] for i in range(len(CELLS))]
    moments = [None if day is None else from_micros(day) for day in when]
    table = pa.table({"geohash": CELLS, "datetime": pa.array(moments, pa.timestamp("us", "UTC"))})
    masks = [
        np.flatnonzero(
            row_mask(
                table,
                make_filter(
                    bbox=one.get("bbox"), geohash=one.get("geohash"), when=one.get("datetime")
                ),
            )
        ).tolist()
        for one in WANTED
    ]
    return {
        "datetime": [[text, _tried(when=text)] for text in DATES],
        "bbox": [[list(box), _tried(bbox=box)] for box in BOXES],
        "geohash": [[names, _tried(geohash=names)] for names in NAMES],
        "rows": {"geohash": CELLS, "datetime": when},
        "masks": [[one, mask] for one, mask in zip(WANTED, masks, strict=True)],
    }
