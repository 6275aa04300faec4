"""What the packaged archive answers."""

from embarchive import open_archive
from embarchive.errors import BadInput
from embarchive.serve import demo_root

BOX = [-75.68, 37.62, -75.58, 37.71]


def make():
    archive = open_archive(demo_root())
    names = archive.select(columns=["geohash"])["geohash"].to_pylist()
    cases = [{"like": [name], "k": 10} for name in names[::64]]
    cases += [{"like": [name], "k": 10, "bbox": BOX} for name in names[7::128]]
    cases += [
        {"like": names[3:6], "unlike": [names[500]], "k": 5, "op": "min"},
        {"like": names[100:102], "unlike": names[300:302], "k": 5, "invert": True},
        {"like": [names[9]], "k": 5, "exact": True, "per_place": 0},
        {"like": ["-75.6,37.65"], "k": 5},
        {"like": [names[9]], "k": 5, "datetime": "2023-01-01/.."},
        {"like": [names[9] + "@2023-01-01"]},
        {"like": ["dqd000"]},
        {"like": ["2.35,48.86"]},
        {"like": []},
    ]
    return {"cells": names[::16], "cases": [{**case, **_found(archive, case)} for case in cases]}


def _found(archive, case):
    try:
        hits = archive.search(**case)
    except BadInput as error:
        return {"error": str(error)}
    columns = ("geohash", "source", "score", "hamming")
    return {
        "hits": [list(row) for row in zip(*(hits[c].to_pylist() for c in columns), strict=True)]
    }
