"""The running shortlist beside a sort of all rows."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import bitcount, shortlist


def oracle(votes, places, own, count, per_place):
    rows = sorted(
        (v, p) for v, p in zip(votes.tolist(), places.tolist(), strict=True) if p not in own
    )
    if per_place:
        seen = set()
        rows = [row for row in rows if not (row[1] in seen or seen.add(row[1]))]
    return rows[:count]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 1), st.integers(1, 40), st.integers(1, 3),
    st.lists(st.integers(0, 3000), max_size=4), st.sampled_from([1, 16]),
)  # fmt: skip
def test_the_least_places_or_rows_are_those_of_a_sort(seed, per_place, count, threads, cuts, width):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, (3000, width), dtype=np.uint8)
    places = rng.integers(0, 400, 3000)
    codes = rng.integers(0, 256, (4, width), dtype=np.uint8)
    own = np.array([3, 5])
    less = shortlist.Votes(codes[1:3], codes[3:], lambda near, far: near[0] + near[1] - far[0], own)
    asked = [shortlist.Votes(codes[:1], codes[:0], None, own), less]
    edges = [0, *sorted(cuts), 3000]
    chunks = [(bits[a:b], places[a:b]) for a, b in pairwise(edges)]
    found = shortlist.least(chunks, asked, count, per_place, threads)
    first, second, third, fourth = bitcount.counts(bits, codes).astype(int)
    for (there, votes), numbers in zip(found, (first, second + third - fourth), strict=True):
        expected = oracle(numbers, places, {3, 5}, count, per_place)
        assert list(zip(votes.tolist(), there.tolist(), strict=True)) == expected


def test_threads_give_the_same(monkeypatch):
    monkeypatch.setattr(shortlist, "_WORK", 0)
    rng = np.random.default_rng(0)
    bits, places = rng.integers(0, 256, (50_000, 8), dtype=np.uint8), np.arange(50_000) // 2
    asked = [shortlist.Votes(bits[:1], bits[:0], None, np.zeros(0, np.int64))]
    alone, both = (shortlist.least([(bits, places)], asked, 30, 1, n)[0] for n in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(alone, both, strict=True))
