"""Int8 and SimHash against plain arithmetic; recall against brute force."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embarchive import quantize
from embarchive.errors import BadInput, Damaged

INT8S = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def random_int8(*shape, seed=0):
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


@given(st.floats(1e-6, 1e6), hnp.arrays(np.int8, (5, 7), elements=st.integers(-127, 127)))
def test_int8_survives_the_round_trip(scale, q):
    int8 = quantize.Int8(float(np.float32(scale)))
    assert np.array_equal(int8.encode(int8.decode(q)), q)


@given(hnp.arrays(np.float32, (4, 9), elements=st.floats(-1e3, 1e3, width=32)))
def test_calibrated_numbers_come_back_to_half_a_step_and_none_is_clipped(mu):
    int8 = quantize.fit_int8(mu)
    assert np.abs(int8.decode(int8.encode(mu)) - mu).max() <= int8.scale * 0.5001
    assert int8.saturation(mu) == 0
    assert int8.scale == float(np.float32(int8.scale))


def test_rounding_is_half_to_even_and_clips_at_127():
    q = quantize.Int8(1.0).encode(np.array([[0.5, 1.5, -2.5, 127.4, 900, -900]]))
    assert q.tolist() == [[0, 2, -2, 127, 127, -127]] and q.dtype == np.int8
    assert quantize.Int8(1.0).saturation(np.array([[0, 127.4, 128, -900]])) == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    mu = np.array([[1.0, bad]])
    for refuses in (quantize.Int8(1.0).encode, quantize.fit_int8, quantize.Int8(1.0).saturation):
        with pytest.raises(BadInput, match="finite"):
            refuses(mu)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(BadInput, match="scale"):
        quantize.Int8(scale)


def test_calibration_needs_data_and_stands_zeros():
    with pytest.raises(BadInput, match="calibrate"):
        quantize.fit_int8(np.zeros((0, 4)))
    assert quantize.fit_int8(np.zeros((3, 4))).scale > 0


@given(INT8S, st.randoms())
def test_bits_are_planes_against_offsets_highest_bit_first(q, random):
    rng = np.random.default_rng(random.randrange(2**32))
    planes = rng.integers(-128, 128, (16, q.shape[1])).astype(np.int8)
    offsets = rng.integers(-9999, 9999, 16).astype(np.int32)
    expected = [[int(a) > o for a, o in zip(row, offsets, strict=True)]
                for row in q.astype(object) @ planes.astype(object).T]  # fmt: skip
    bits = quantize.SimHash(planes, offsets).encode(q)
    assert bits.shape == (len(q), 2)
    assert np.array_equal(np.unpackbits(bits, axis=1), np.array(expected, dtype=np.uint8))


def test_products_stay_exact_at_the_longest_vectors():
    for dim in (1023, 1024, 3000):
        q = np.full((2, dim), -128, dtype=np.int8)
        q[1] = random_int8(dim)
        exact = q.astype(np.int64) @ q.astype(np.int64).T
        assert np.array_equal(quantize.dot(q, q[0]), exact[0])
        assert quantize.squared_l2(q, q[1])[0] == ((q[0].astype(int) - q[1]) ** 2).sum()
        just_below = np.array([exact[0, 0] - 1] * 8, dtype=np.int32)
        simhash = quantize.SimHash(np.repeat(q[:1], 8, axis=0), just_below)
        assert simhash.encode(q[:1])[0, 0] == 255


@given(INT8S, st.data())
def test_distances_are_exact(q, data):
    p = data.draw(hnp.arrays(np.int64, q.shape[1], elements=st.integers(-(10**6), 10**6)))
    for one in (p, np.clip(p, -127, 127)):
        assert quantize.squared_l2(q, one).tolist() == ((q.astype(int) - one) ** 2).sum(1).tolist()
        assert quantize.dot(q, one).tolist() == (q.astype(int) * one).sum(1).tolist()
    assert quantize.squared_l2(q, p).dtype == quantize.dot(q, p).dtype == np.int64


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 30), st.integers(1, 33))), st.data())
def test_hamming_counts_differing_bits(bits, data):
    code = data.draw(hnp.arrays(np.uint8, bits.shape[1]))
    expected = np.unpackbits(bits ^ code, axis=1).sum(axis=1)
    found = quantize.hamming(bits, code)
    assert np.array_equal(found, expected) and found.dtype == np.uint16
    assert np.array_equal(quantize.hamming(np.asfortranarray(bits), code), expected)


def test_hamming_reads_codes_that_are_not_aligned():
    raw = np.random.default_rng(0).integers(0, 256, 1 + 16 * 9).astype(np.uint8)
    rows = raw[1:].reshape(9, 16)
    assert np.array_equal(quantize.hamming(rows, rows[3]), quantize.hamming(rows.copy(), rows[3]))


def test_codes_and_vectors_of_another_length_are_refused():
    with pytest.raises(BadInput, match="one length"):
        quantize.hamming(np.zeros((2, 16), np.uint8), np.zeros(8, np.uint8))
    with pytest.raises(BadInput, match="one length"):
        quantize.squared_l2(random_int8(2, 4), random_int8(5))
    simhash = quantize.fit_simhash(random_int8(50, 8), 16, 0)
    for bad in (random_int8(2, 9), random_int8(8), random_int8(2, 8).astype(np.int16)):
        with pytest.raises(BadInput, match="simhash"):
            simhash.encode(bad)


def clustered(kind):
    """int8 (6000, 64): an anisotropic mixture of 20 Gaussians, or a curved sheet."""
    rng = np.random.default_rng(1)
    if kind == "mixture":
        scales = 0.9 ** np.arange(64) * 30
        centres = rng.normal(size=(20, 64)) * scales * 1.5
        x = centres[rng.integers(20, size=6000)] + rng.normal(size=(6000, 64)) * scales
    else:
        z, w = rng.normal(size=(6000, 6)), rng.normal(size=(6, 64))
        x = 30 * np.sin(z @ w * 0.6 + rng.uniform(0, 6, 64)) + rng.normal(size=(6000, 64)) * 5
    return quantize.fit_int8(x).encode(x)


@pytest.mark.parametrize("kind", ["mixture", "sheet"])
def test_the_shortlist_holds_nearly_all_of_the_exact_ten(kind):
    q = clustered(kind)
    simhash = quantize.fit_simhash(q[:3000], 128, 0)
    bits = simhash.encode(q)
    found = []
    for i in range(3000, 6000, 75):
        exact = np.argsort(quantize.squared_l2(q, q[i]), kind="stable")[:10]
        short = np.argsort(quantize.hamming(bits, bits[i]), kind="stable")[:200]
        found.append(np.isin(exact, short).mean())
    assert np.mean(found) > 0.96


def test_bits_are_balanced_and_the_seed_decides():
    q = clustered("mixture")
    first, again, other = (quantize.fit_simhash(q, 128, seed) for seed in (3, 3, 4))
    share = np.unpackbits(first.encode(q), axis=1).mean(axis=0)
    assert share.min() > 0.25 and share.max() < 0.75
    assert first.to_json() == again.to_json() != other.to_json()


def test_no_bits_means_no_simhash():
    assert quantize.fit_simhash(random_int8(5, 8), 0, 0) is None


@pytest.mark.parametrize("bits", [4, -8])
def test_bits_come_in_eights(bits):
    with pytest.raises(BadInput, match="eights"):
        quantize.fit_simhash(random_int8(5, 8), bits, 0)


def test_more_bits_than_dimensions_and_a_sample_of_one_are_fine():
    assert quantize.fit_simhash(random_int8(1, 8), 40, 0).encode(random_int8(3, 8)).shape == (3, 5)


@given(st.integers(1, 5), st.integers(1, 20), st.integers(0, 99))
def test_a_simhash_survives_json(eights, dim, seed):
    simhash = quantize.fit_simhash(random_int8(30, dim, seed=seed), 8 * eights, seed)
    back = quantize.SimHash.from_json(json.loads(json.dumps(simhash.to_json())))
    assert np.array_equal(back.planes, simhash.planes) and back.planes.dtype == np.int8
    assert np.array_equal(back.offsets, simhash.offsets) and back.offsets.dtype == np.int32


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 12}, {"bits": 8.0}, {"bits": True}, {"bits": 0}, {"bits": 2**40}, {"dim": 9},
        {"dim": 0}, {"dim": "8"}, {"planes": "not base64!"}, {"planes": 7}, {"planes": "AAAA"},
        {"offsets": [0] * 7}, {"offsets": [0.0] * 8}, {"offsets": [2**31] * 8}, {"offsets": None},
        {"offsets": [True] * 8}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_simhash_that_is_not_what_it_says_is_damaged(change):
    values = quantize.fit_simhash(random_int8(20, 8), 8, 0).to_json()
    with pytest.raises(Damaged, match="simhash"):
        quantize.SimHash.from_json({**values, **change})
    for bad in ({}, None, [1], {"bits": 8}):
        with pytest.raises(Damaged, match="keys"):
            quantize.SimHash.from_json(bad)


def test_a_simhash_of_other_types_or_shapes_is_refused():
    planes, offsets = random_int8(8, 4), np.zeros(8, np.int32)
    for bad in ((planes[:4], offsets), (planes, offsets[:7]), (planes[0], offsets),
                (planes.astype(int), offsets), (planes, offsets.astype(float))):  # fmt: skip
        with pytest.raises(BadInput, match="simhash"):
            quantize.SimHash(*bad)


def test_no_simhash_has_more_bits_than_an_archive():
    values = quantize.fit_simhash(np.ones((4, 1), np.int8), 8, 0).to_json()
    most = quantize.MAX_BITS + 8
    values |= {"bits": most, "offsets": [0] * most}
    values["planes"] = base64.b64encode(bytes(most)).decode()
    with pytest.raises(Damaged, match="expected bits in eights"):
        quantize.SimHash.from_json(values)


@pytest.mark.parametrize("most", [128, 2**15, 2**40])
def test_distances_of_long_vectors_are_exact(most):
    rng = np.random.default_rng(0)
    q, p = random_int8(50, 2000), rng.integers(-most, most, (3, 2000))
    expected = ((q.astype(np.int64)[None] - p[:, None]) ** 2).sum(axis=2)
    assert np.array_equal(quantize.squared_l2_many(q, p), expected)
