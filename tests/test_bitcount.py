"""Hamming numbers with numba and without, beside bits counted one by one."""

import numpy as np
import pytest

from embarchive import bitcount
from embarchive.errors import BadInput


def some_bits(n, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, width), dtype=np.uint8)


@pytest.fixture(params=["numba", "numpy"])
def kernel(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(bitcount, "compiled_loops", lambda: None)
    elif bitcount.compiled_loops() is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(bitcount, "LARGE", 1)
    return request.param


@pytest.mark.parametrize(("n", "width"), [(1, 1), (700, 12), (20_000, 16), (9001, 128), (1025, 64)])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_numbers_are_counts_of_differing_bits(kernel, n, width, count):
    bits, codes = some_bits(n, width), some_bits(count, width, 1)
    expected = [np.unpackbits(bits ^ code, axis=1).sum(axis=1) for code in codes]
    assert np.array_equal(bitcount.counts(bits, codes), expected)


def test_rows_may_be_strided_and_few(kernel):
    bits = some_bits(50, 128)
    assert np.array_equal(
        bitcount.counts(np.asfortranarray(bits)[::2], bits[:2]),
        bitcount.counts(bits, bits[:2])[:, ::2],
    )
    assert bitcount.counts(bits[:0], bits[:2]).shape == (2, 0)
    assert bitcount.counts(bits, bits[:0]).shape == (0, 50)


def test_codes_of_another_length_are_refused():
    with pytest.raises(BadInput, match="expected codes of one length"):
        bitcount.counts(some_bits(3, 16), some_bits(1, 8))
