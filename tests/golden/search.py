"""Rankings of a synthetic table with many ties, dates and sources."""

import base64
from datetime import timedelta
from itertools import product

import numpy as np
from archives import FIRST, make_cells

from embarchive import rows
from embarchive.quantize import SimHash
from embarchive.search import Query, rank

PLACES, ROWS, DIM, BITS, SCALE = 260, 600, 16, 64, 0.024891074746847153


def make():
    rng = np.random.default_rng(3)
    simhash = SimHash(
        rng.integers(-127, 128, (BITS, DIM)).astype(np.int8),
        rng.integers(-9000, 9000, BITS).astype(np.int32),
    )
    table, exemplars = _table(rng, simhash), rng.integers(-60, 61, (5, DIM)).astype(np.int8)
    cells = sorted(set(table["geohash"].to_pylist()))
    options = [
        {"k": 7, "op": op, "invert": invert, "per_place": per_place, "exact": exact}
        for op, per_place in product(("mean", "min"), (0, 1))
        for invert, exact in product((False, True), repeat=2)
    ]
    cases = [{"like": [0, 1, 2], "unlike": far, **one} for one in options for far in ([], [3, 4])]
    cases += [
        {"like": [0], "k": 10, "exclude": cells[:9]},
        {"like": [1], "k": 5, "bits": False},
        {"like": [1, 2], "unlike": [3], "k": 5, "per_place": 0, "bits": False},
        {"like": [2], "k": 1000},
        {"like": [2], "k": 1000, "per_place": 0},
        {"like": [2], "exclude": cells},
    ]
    return {
        "scale": SCALE,
        "dim": DIM,
        "simhash": simhash.to_json(),
        "geohash": table["geohash"].to_pylist(),
        "datetime": _micros(table),
        "source": table["source"].to_pylist(),
        "embedding": _text(rows.embeddings(table)),
        "bits": _text(rows.bit_rows(table)),
        "exemplars": exemplars.tolist(),
        "cases": [{**case, "hits": _hits(table, exemplars, simhash, case)} for case in cases],
    }


def _table(rng, simhash):
    """Rows of 40 kinds of vector, so that most numbers are tied."""
    kinds = rng.integers(-60, 61, (40, DIM)).astype(np.int8)
    vectors = kinds[rng.integers(40, size=ROWS)]
    place, turn = np.arange(ROWS) % PLACES, np.arange(ROWS) // PLACES
    when = [
        None if i % 7 == 0 else FIRST + timedelta(days=int(t) // 2, microseconds=i % 3)
        for i, t in enumerate(turn)
    ]
    return rows.make_rows(
        make_cells(PLACES)[place],
        when,
        vectors,
        simhash.encode(vectors),
        {
            "model_id": ["m"] * ROWS,
            "source": [f"scene-{9 - t}" for t in turn],
            "input_digest": [bytes(8)] * ROWS,
            "valid_fraction": np.ones(ROWS),
        },
    )


def _hits(table, exemplars, simhash, case):
    """Position in the table, score and Hamming number of each hit."""
    names = ("k", "op", "invert", "per_place", "exact", "exclude")
    chosen = {name: case[name] for name in names if name in case}
    query = Query(exemplars[case["like"]], exemplars[case.get("unlike", [])], **chosen)
    found = rank(table, query, simhash if case.get("bits", True) else None, SCALE)
    where = {key: row for row, key in enumerate(_keys(table))}
    return [
        [where[key], score, votes]
        for key, score, votes in zip(
            _keys(found), found["score"].to_pylist(), found["hamming"].to_pylist(), strict=True
        )
    ]


def _keys(table):
    sources = [str(source) for source in table["source"].to_pylist()]
    return list(zip(table["geohash"].to_pylist(), _micros(table), sources, strict=True))


def _micros(table):
    return table["datetime"].cast("int64").to_pylist()


def _text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
