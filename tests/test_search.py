"""Ranking against a brute-force oracle that follows the written definition row by row."""

import math
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from archives import SCALE, make_cells, make_simhash, make_table, make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from embarchive.errors import BadInput
from embarchive.search import OPS, Query, combine_codes, rank, rank_all

SIMHASH = make_simhash()


def query(near=1, far=0, **options):
    found = make_vectors(8, seed=77)
    return Query(found[:near], found[near : near + far], **options)


def code_of(vector):
    return int.from_bytes(SIMHASH.encode(np.array([vector], dtype=np.int8))[0].tobytes())


def hamming(row, exemplar):
    return bin(int.from_bytes(row["bits"]) ^ code_of(exemplar)).count("1")


def squared(row, exemplar):
    return sum((a - int(b)) ** 2 for a, b in zip(row["embedding"], exemplar, strict=True))


LOGIC = {
    "and": lambda ones, count: ones == count,
    "or": lambda ones, count: ones > 0,
    "xor": lambda ones, count: ones % 2 == 1,
    "majority": lambda ones, count: 2 * ones > count,
}


def combined_code(query):
    """One code of the positives', bit by bit, as a whole number."""
    found = [code_of(one) for one in query.positives]
    ones = [sum(code >> bit & 1 for code in found) for bit in range(SIMHASH.bits)]
    return sum(LOGIC[query.op](n, len(found)) << bit for bit, n in enumerate(ones))


def logic_hamming(row, query):
    number = bin(int.from_bytes(row["bits"]) ^ combined_code(query)).count("1")
    n = len(query.negatives) or 1
    votes = n * number - sum(hamming(row, exemplar) for exemplar in query.negatives)
    return 0 - votes if query.invert else votes


def combine(distance, row, query, mean):
    def reduce(exemplars):
        parts = [distance(row, exemplar) for exemplar in exemplars]
        if query.op == "min":
            return min(parts)
        return sum(parts) / len(parts) if mean else Fraction(sum(parts), len(parts))

    number = reduce(query.positives)
    if len(query.negatives):
        number -= reduce(query.negatives)
    if not mean and query.op == "mean":
        # The least multiple of the difference of means that is whole for any distances.
        number *= math.lcm(len(query.positives), len(query.negatives) or len(query.positives))
    return 0 - number if query.invert else number


def brute(table, query, scale):
    """The definition of `search`, one row at a time, in Python numbers."""
    rows = []
    for row in table.to_pylist():
        if row["geohash"] not in query.exclude:
            tie = (row["geohash"], row["datetime"] is None, str(row["datetime"]), row["source"])
            if query.op in LOGIC:
                votes = logic_hamming(row, query)
                rows.append((votes, votes / (len(query.negatives) or 1), tie))
                continue
            votes = combine(hamming, row, query, mean=False)
            score = combine(squared, row, query, mean=True) * (scale * scale)
            rows.append((votes, score, tie))
    if not query.exact and query.op not in LOGIC:
        if query.per_place:
            best = {}
            for votes, _, tie in rows:
                best[tie[0]] = min(best.get(tie[0], 10**9), votes)
            passed = sorted((v, g) for g, v in best.items())[: query.shortlist]
            names = {g for _, g in passed}
            rows = [row for row in rows if row[2][0] in names]
        else:
            rows = sorted(rows, key=lambda r: (r[0], r[2]))[: query.shortlist]
    rows.sort(key=lambda row: (row[1], row[2]))
    if query.per_place:
        seen = set()
        rows = [r for r in rows if not (r[2][0] in seen or seen.add(r[2][0]))]
    return [(tie[0], tie[3], score, votes) for votes, score, tie in rows[: query.k]]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("far", [0, 2])
@pytest.mark.parametrize("per_place", [0, 1])
@pytest.mark.parametrize("exact", [False, True])
def test_hits_are_those_of_brute_force(op, invert, far, per_place, exact):
    table = make_table(700, dates=2, nulls=True)
    asked = query(
        3,
        far,
        k=7,
        op=op,
        invert=invert,
        per_place=per_place,
        exact=exact,
        exclude=make_cells(350)[10:14].tolist(),
    )
    hits = rank(table, asked, SIMHASH, SCALE)
    found = zip(
        *(hits[c].to_pylist() for c in ("geohash", "source", "score", "hamming")), strict=True
    )
    assert list(found) == brute(table, asked, SCALE)


TIED = make_table(1500, dates=5, nulls=True)
# Few kinds of vector, so that most numbers are tied, within a place and between places.
KINDS = make_vectors(1500)[np.random.default_rng(5).integers(20, size=1500)]
for name, values in (("embedding", KINDS.ravel()), ("bits", SIMHASH.encode(KINDS))):
    column = TIED.schema.field(name)
    made = (
        pa.FixedSizeListArray.from_arrays(pa.array(values), type=column.type)
        if name == "embedding"
        else pa.FixedSizeBinaryArray.from_buffers(
            column.type, len(values), [None, pa.py_buffer(values.tobytes())]
        )
    )
    TIED = TIED.set_column(TIED.schema.get_field_index(name), column, made)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(OPS), st.booleans(), st.booleans(), st.integers(0, 1), st.integers(0, 2),
    st.integers(0, 2**32 - 1), st.lists(st.integers(0, 1500), max_size=6), st.integers(1, 3),
)  # fmt: skip
def test_hits_do_not_depend_on_chunks(op, exact, invert, per_place, far, seed, cuts, many):
    near = make_vectors(3 + many, seed=77)
    options = {"k": 9, "op": op, "exact": exact, "invert": invert, "per_place": per_place}
    asked = [
        Query(near[i : i + 3], near[:far], exclude=make_cells(300)[i : i + 2].tolist(), **options)
        for i in range(many)
    ]
    shuffled = TIED.take(np.random.default_rng(seed).permutation(len(TIED)))
    edges = [0, *sorted(cuts), len(TIED)]
    chunks = [shuffled.slice(a, b - a) for a, b in pairwise(edges)]
    found = rank_all(lambda *_: chunks, asked, SIMHASH, SCALE, ["mse"], threads=2)
    for one, hits in zip(asked, found, strict=True):
        assert hits.equals(rank(TIED, one, SIMHASH, SCALE, ["mse"]))


def test_of_many_rows_only_those_of_the_shortlist_are_asked_for_with_all_columns():
    table, asked = make_table(3000), query(k=5)
    calls = []

    def read(columns, cells):
        calls.append((columns, len(cells)))
        return (
            [table.filter(pa.compute.is_in(table["geohash"], pa.array(cells)))]
            if cells
            else [table]
        )

    (hits,) = rank_all(read, [asked], SIMHASH, SCALE)
    assert hits.equals(rank(table, asked, SIMHASH, SCALE))
    assert calls[0] == (["geohash", "datetime", "source", "bits"], 0)
    assert calls[1][1] == asked.shortlist and "embedding" in calls[1][0]
    calls.clear()
    rank_all(read, [query(op="xor")], SIMHASH, SCALE)
    assert len(calls) == 1 and "embedding" not in calls[0][0]


codes = stn.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(4)))


@given(codes, st.randoms())
def test_ops_on_bits_obey_the_laws_of_their_algebra(bits, random):
    order = random.sample(range(len(bits)), len(bits))
    for op in LOGIC:
        one = combine_codes(bits, op)
        assert np.array_equal(one, combine_codes(bits[order], op))
        assert np.array_equal(bits[0], combine_codes(bits[:1], op))
    both, either = combine_codes(bits, "and"), combine_codes(bits, "or")
    assert np.array_equal(both & either, both)
    assert np.array_equal(~combine_codes(~bits, "or"), both)
    most = combine_codes(bits, "majority")
    assert np.array_equal(most & both, both) and np.array_equal(most | either, either)
    assert not combine_codes(np.repeat(bits[:1], 2, axis=0), "xor").any()
    assert np.array_equal(combine_codes(np.repeat(bits[:1], 3, axis=0), "majority"), bits[0])
    # As many have the bit as have not: 0.
    assert not combine_codes(np.concatenate([bits, ~bits]), "majority").any()
    again = np.stack([combine_codes(bits, "xor"), bits[-1]])
    expected = combine_codes(bits[:-1], "xor") if len(bits) > 1 else np.zeros(4, np.uint8)
    assert np.array_equal(combine_codes(again, "xor"), expected)


def test_ops_on_bits_need_bits():
    with pytest.raises(BadInput, match="op 'and' needs bits, found an archive without"):
        rank(make_table(10, bits=0), query(op="and"), None, SCALE)


def test_exact_order_is_that_of_float_distances():
    table = make_table(500)
    asked = query(k=20, exact=True)
    vectors = np.array(table["embedding"].to_pylist()) * SCALE
    d2 = ((vectors - asked.positives[0] * SCALE) ** 2).sum(axis=1)
    hits = rank(table, asked, SIMHASH, SCALE)
    assert np.allclose(hits["score"].to_numpy(), np.sort(d2)[:20])


def test_equal_rows_come_in_the_order_of_geohash_date_and_source():
    table = make_table(400, dates=2)
    same = np.repeat(make_vectors(1), 400, axis=0)
    flat = pa.FixedSizeListArray.from_arrays(
        pa.array(same.ravel()), type=table.schema.field("embedding").type
    )
    place = table.schema.get_field_index("embedding")
    tied = table.set_column(place, table.schema.field("embedding"), flat)
    shuffled = tied.take(np.random.default_rng(0).permutation(400))
    for per_place, step in ((1, 2), (0, 1)):
        hits = rank(shuffled, query(k=9, exact=True, per_place=per_place), None, SCALE)
        assert hits["geohash"].to_pylist() == table["geohash"].to_pylist()[: 9 * step : step]
        assert hits["source"].to_pylist() == table["source"].to_pylist()[: 9 * step : step]


def test_without_bits_the_search_is_exact_and_hamming_is_null():
    table = make_table(400, bits=0)
    hits = rank(table, query(k=5), None, SCALE)
    again = rank(make_table(400), query(k=5, exact=True), SIMHASH, SCALE)
    assert hits["score"].to_pylist() == again["score"].to_pylist()
    assert hits["hamming"].null_count == 5


def test_per_place_gives_as_many_places_as_hits():
    table = make_table(600, dates=3)
    hits = rank(table, query(k=50), SIMHASH, SCALE)
    assert len(set(hits["geohash"].to_pylist())) == len(hits) == 50
    assert len(set(rank(table, query(k=50, per_place=0), SIMHASH, SCALE)["geohash"])) < 50


def test_no_candidates_give_an_empty_table_with_the_same_columns():
    table = make_table(4)
    asked = query(exclude=table["geohash"].to_pylist())
    hits = rank(table, asked, SIMHASH, SCALE, ["mse"])
    assert len(hits) == 0
    assert hits.schema == rank(table, query(), SIMHASH, SCALE, ["mse"]).schema


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1, found 0"),
        ({"k": 2.5}, "k must be at least 1, found 2.5"),
        ({"op": "max"}, "op must be one of mean, min, and, or, xor, majority, found 'max'"),
        ({"per_place": 2}, "per_place must be 0 or 1, found 2"),
        ({"near": 0}, "expected at least one exemplar in like"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        query(**options)


def test_fifty_thousand_rows_rank_in_a_blink():
    table = make_table(50_000)
    rank(table, query(), SIMHASH, SCALE)
    began = time.perf_counter()
    rank(table, query(), SIMHASH, SCALE)
    # 15 ms on an idle machine; the limit only catches a loop over rows
    assert time.perf_counter() - began < 0.5
