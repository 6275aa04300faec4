"""The search of `embarchive.search` written as SQL text, for DuckDB 1.5 to 2.

Pure text: `sql` runs it over verified bytes, and anyone can paste `plain_script` into the
plain `duckdb` client, which prunes by the manifest but checks no hashes. Values come from
validated geohashes, hashes, integers and floats; the one free text, the root, is quoted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embarchive import grid
from embarchive.exemplars import GOOD
from embarchive.filters import Filter, from_micros
from embarchive.quantisers import Quantiser
from embarchive.quantize import SimHash
from embarchive.search import LOGIC, Query, check_bits, codes

# A geohash character holds 5 bits in turn for longitude and latitude; an even character
# (counted from 0) gives 3 to longitude, an odd one 3 to latitude. All sums are of dyadic
# fractions, so the bounds are the exact doubles that the Python reader uses.
_SUM = "list_sum(list_transform(range(len(g)), lambda i: {}::DOUBLE / (1::BIGINT << {})))"
_LON = _SUM.format("cell_part(g, i, 0)", "((5 * i + 6) // 2)")
_LAT = _SUM.format("cell_part(g, i, 1)", "((5 * i + 5) // 2)")
MACROS = (
    "hamming(a, b) AS bit_count(xor(a::BIT, b::BIT))::INTEGER",
    "sq_l2(a, b) AS (list_inner_product(a::DOUBLE[], a::DOUBLE[])"
    " - 2 * list_inner_product(a::DOUBLE[], b::DOUBLE[])"
    " + list_inner_product(b::DOUBLE[], b::DOUBLE[]))::BIGINT",
    f"cell_digit(g, i) AS instr('{grid.ALPHABET}', g[i + 1]) - 1",
    "cell_three(d) AS (d >> 4 & 1) * 4 + (d >> 2 & 1) * 2 + (d & 1)",
    "cell_two(d) AS (d >> 3 & 1) * 2 + (d >> 1 & 1)",
    "cell_part(g, i, side) AS CASE WHEN i % 2 = side"
    " THEN cell_three(cell_digit(g, i)) ELSE cell_two(cell_digit(g, i)) END",
    f"cell_west(g) AS 360 * {_LON} - 180",
    f"cell_south(g) AS 180 * {_LAT} - 90",
    "cell_width(g) AS 360::DOUBLE / (1::BIGINT << ((5 * len(g) + 1) // 2))",
    "cell_height(g) AS 180::DOUBLE / (1::BIGINT << ((5 * len(g)) // 2))",
)
_HIT = (
    "geohash, datetime, source, score, hamming, model_id, valid_fraction,\n"
    "  {'xmin': cell_west(geohash), 'ymin': cell_south(geohash),"
    " 'xmax': cell_west(geohash) + cell_width(geohash),"
    " 'ymax': cell_south(geohash) + cell_height(geohash)} AS bbox"
)


def macro_statements(temporary: bool = True, quantiser: Quantiser | None = None) -> list[str]:
    """CREATE statements of the macros hamming, sq_l2, cell_west/south/width/height, with a
    quantiser also unpacked, and the ones that these use."""
    kind = "TEMP MACRO" if temporary else "MACRO"
    own = () if quantiser is None else _unpacking(quantiser)
    return [f"CREATE OR REPLACE {kind} {body}" for body in (*MACROS, *own)]


def _unpacking(quantiser: Quantiser) -> tuple[str, str]:
    """Macros for what a code decodes to: what each byte stands for, or each half of one where codes
    are shorter, is found in a list by its hexadecimal digits."""
    digit = "instr('0123456789ABCDEF', h[{}]) - 1"
    steps = []
    for at, table in enumerate(quantiser.tables):
        high, low = digit.format(2 * at + 1), digit.format(2 * at + 2)
        if quantiser.bits == 8:
            steps.append(f"({table.tolist()}::TINYINT[][])[16 * ({high}) + {low} + 1]")
            continue
        half = table.shape[1] // 2
        for some, place in ((table[::16, :half], high), (table[:16, half:], low)):
            steps.append(f"({some.tolist()}::TINYINT[][])[{place} + 1]")
    body = f"flatten([{', '.join(steps)}])[:{quantiser.dim}]"
    return f"unpacked_hex(h) AS {body}", "unpacked(code) AS unpacked_hex(hex(code))"


def search_query(
    relation: str, query: Query, simhash: SimHash | None, scale: float, where: Sequence[str]
) -> str:
    """One SELECT over a relation with a shard's columns: the hits of `search.rank`, in its
    order. where: conditions, each already SQL, see `conditions`. Raises BadInput."""
    check_bits(query.op, simhash)
    keep = list(where)
    if query.exclude:
        keep.append(f"geohash NOT IN ({_texts(sorted(set(query.exclude)))})")
    score = f"{_value(query)} * {_number(scale * scale)}"
    if query.op in LOGIC:
        score = f"hamming::DOUBLE / {max(1, len(query.negatives))}"
    short = str(query.shortlist) if query.has_shortlist(simhash) else None
    steps = [_candidates(relation, _votes(query, simhash), keep)]
    return _ranked(steps, score, short, str(query.k), query.per_place)


def tiles_like_macro(scale: float, bits: bool) -> str:
    """The CREATE statement of a table macro over the view tiles of a connection: tiles_like(place,
    k := 50) are the hits of a search by bits like a geohash. scale: that of the view's space; bits:
    whether its rows have some."""
    good = f"valid_fraction >= {GOOD}::FLOAT"
    one = (
        f"one AS MATERIALIZED (\n  SELECT embedding{', bits' if bits else ''} FROM tiles"
        f"\n  WHERE geohash = place\n  ORDER BY {good} DESC,"
        f" CASE WHEN {good} THEN datetime END DESC NULLS LAST, valid_fraction DESC,"
        " datetime NULLS LAST, source\n  LIMIT 1\n)"
    )
    votes = "hamming(bits, (SELECT bits FROM one))" if bits else "NULL::INTEGER"
    # Without such a place there is nothing that rows could be like.
    keep = ["geohash <> place", "EXISTS (FROM one)"]
    score = f"sq_l2(embedding, (SELECT embedding FROM one))::DOUBLE * {_number(scale * scale)}"
    short = "greatest(200, 20 * k)" if bits else None
    body = _ranked([one, _candidates("tiles", votes, keep)], score, short, "k", 1)
    return f"CREATE OR REPLACE MACRO tiles_like(place, k := 50) AS TABLE\n{body}"


def _candidates(relation: str, votes: str, keep: Sequence[str]) -> str:
    return (
        f"candidates AS MATERIALIZED (\n  SELECT *, {votes} AS hamming"
        f"\n  FROM {relation}{_where(keep)}\n)"
    )


def _ranked(steps: list[str], score: str, short: str | None, k: str, per_place: int) -> str:
    """A SELECT of the hits among `candidates`, the last of the steps before. short: how many
    pass from Hamming to exact distances, None for all."""
    rows = "candidates"
    if short is not None:
        steps = [*steps, *_shortlist(short, per_place)]
        rows = "shortlist"
    steps = [*steps, f"scored AS (\n  SELECT *, {score} AS score\n  FROM {rows}\n)"]
    if per_place:
        order = "PARTITION BY geohash ORDER BY score, datetime NULLS LAST, source"
        steps.append(
            f"best AS (\n  SELECT * FROM scored\n  QUALIFY row_number() OVER ({order}) = 1\n)"
        )
    last = "best" if per_place else "scored"
    return (
        "WITH "
        + ",\n".join(steps)
        + f"\nSELECT {_HIT}\nFROM {last}"
        + f"\nORDER BY score, geohash, datetime NULLS LAST, source\nLIMIT {k}"
    )


def conditions(wanted: Filter) -> list[str]:
    """A filter without polygon as SQL conditions; the float32 bbox goes first because files
    have statistics on it, the cell's exact bounds decide."""
    found = []
    if wanted.geohash:
        some = " OR ".join(f"starts_with(geohash, '{name}')" for name in wanted.geohash)
        found.append(f"({some})")
    if wanted.bbox is not None:
        found.append(box_condition(wanted, "bbox.xmin", "bbox.ymin", "bbox.xmax", "bbox.ymax"))
        west, south = "cell_west(geohash)", "cell_south(geohash)"
        east, north = f"({west} + cell_width(geohash))", f"({south} + cell_height(geohash))"
        found.append(box_condition(wanted, west, south, east, north))
    if wanted.start is not None:
        found.append(f"datetime >= {_moment(wanted.start)}")
    if wanted.end is not None:
        found.append(f"datetime <= {_moment(wanted.end)}")
    return found


def box_condition(wanted: Filter, xmin: str, ymin: str, xmax: str, ymax: str) -> str:
    """Whether four SQL numbers intersect the filter's box."""
    assert wanted.bbox is not None
    west, south, east, north = wanted.bbox
    across = "OR" if west > east else "AND"
    return (
        f"({ymin} <= {_number(north)} AND {ymax} >= {_number(south)}"
        f" AND ({xmin} <= {_number(east)} {across} {xmax} >= {_number(west)}))"
    )


def plain_script(
    root: str,
    parts: Sequence[str],
    generation: int,
    space_id: str,
    wanted: Filter,
    body: str,
    quantiser: Quantiser | None = None,
) -> str:
    """A whole script for the plain client: macros, the files that the manifest leaves, then
    `body` over `plain_relation`.

    root: folder or URL; parts: hashes of the generation's manifest parts; quantiser: of the space.
    """
    base = _text(root.rstrip("/"))
    keep = [f"space_id = {_text(space_id)}"]
    if wanted.bbox is not None:
        keep.append(box_condition(wanted, "bbox.xmin", "bbox.ymin", "bbox.xmax", "bbox.ymax"))
    if wanted.start is not None:
        keep.append(f"datetime_max >= {_moment(wanted.start)}")
    if wanted.end is not None:
        keep.append(f"datetime_min <= {_moment(wanted.end)}")
    names = ", ".join(f"{base} || '/manifests/{sha}.parquet'" for sha in parts)
    return "\n".join(
        [
            f"-- generation {generation}; the plain client does not check hashes",
            *(f"{statement};" for statement in macro_statements(True, quantiser)),
            f"SET VARIABLE parts = [{names}];",
            "SET VARIABLE files = (",
            f"  SELECT list({base} || '/embeddings/gh=' || prefix || '/' || sha256 || '.parquet')",
            f"  FROM read_parquet(getvariable('parts')){_where(keep)}",
            ");",
            f"{body};",
            "",
        ]
    )


def plain_relation(quantiser: Quantiser | None = None) -> str:
    """What a plain script selects from: a shard's columns, with embedding for packed."""
    files = "read_parquet(getvariable('files'), hive_partitioning = false)"
    if quantiser is None:
        return files
    return f"(SELECT * EXCLUDE (packed), unpacked(packed) AS embedding FROM {files})"


def _votes(query: Query, simhash: SimHash | None) -> str:
    if simhash is None:
        return "NULL::INTEGER"

    near, far = ([f"hamming(bits, {_blob(one)})" for one in some] for some in codes(query, simhash))
    return _combine(near, far, query, mean=False)


def _value(query: Query) -> str:
    def terms(vectors: NDArray[np.int8]) -> list[str]:
        return [f"sq_l2(embedding, {one.tolist()}::TINYINT[])" for one in vectors]

    return _combine(terms(query.positives), terms(query.negatives), query, mean=True)


def _combine(near: list[str], far: list[str], query: Query, mean: bool) -> str:
    def reduce(parts: list[str], weight: int) -> str:
        if query.op == "min":
            return f"least({', '.join(parts)})"
        total = f"({' + '.join(parts)})"
        return f"({total}::DOUBLE / {len(parts)})" if mean else f"{total} * {weight}"

    positive, negative = query.weights
    total = reduce(near, positive)
    if far:
        total = f"({total} - {reduce(far, negative)})"
    return f"(0 - {total})" if query.invert else total


def _shortlist(count: str, per_place: int) -> list[str]:
    """The common table expressions from `candidates` to `shortlist`."""
    if not per_place:
        order = "hamming, geohash, datetime NULLS LAST, source"
        return [f"shortlist AS (\n  SELECT * FROM candidates\n  ORDER BY {order} LIMIT {count}\n)"]
    return [
        "places AS (\n  SELECT geohash FROM candidates GROUP BY geohash"
        f"\n  ORDER BY min(hamming), geohash LIMIT {count}\n)",
        "shortlist AS (\n  SELECT * FROM candidates SEMI JOIN places USING (geohash)\n)",
    ]


def _where(keep: Sequence[str]) -> str:
    return "\n  WHERE " + "\n    AND ".join(keep) if keep else ""


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Sequence[str]) -> str:
    return ", ".join(_text(value) for value in values)


def _number(value: float) -> str:
    # repr is the shortest text that reads back as the same double; unquoted, DuckDB would go
    # through a decimal and could land one unit in the last place beside it
    return f"'{float(value)!r}'::DOUBLE"


def _moment(micros: int) -> str:
    return f"TIMESTAMPTZ '{from_micros(micros):%Y-%m-%d %H:%M:%S.%f}+00'"


def _blob(code: NDArray[np.uint8]) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in code.tolist()) + "'::BLOB"
