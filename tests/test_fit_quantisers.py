"""Names of quantisers, and that each fits as its method says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_quantisers import NAMES, made

from embarchive.errors import BadInput
from embarchive.fit_quantisers import fit_quantiser, parse_quantiser
from embarchive.quantisers import dump_quantiser


def recall(one, mu, queries=60, k=10):
    """The share of the k nearest vectors that the codes find too, the query itself left out."""
    q = one.decode(one.encode(mu))
    found = 0
    for i in range(queries):
        true = np.argsort(((mu - mu[i]) ** 2).sum(axis=1), kind="stable")[1 : k + 1]
        gaps = one.distance(q, q[i])
        gaps[i] = -1
        found += len(np.intersect1d(true, np.argsort(gaps, kind="stable")[1 : k + 1]))
    return found / (queries * k)


@pytest.mark.parametrize(
    "text, parts",
    [
        ("int4", (0, "int", 4)),
        ("bits", (0, "bits", 1)),
        ("simhash256", (0, "simhash", 256)),
        ("pq16", (0, "pq", 16)),
        ("turboquant2", (0, "turboquant", 2)),
        ("pca32+int8", (32, "int", 8)),
        ("pca16+pq8", (16, "pq", 8)),
    ],
)
def test_a_name_says_the_method(text, parts):
    found = parse_quantiser(text)
    assert (found.pca, found.kind, found.number) == parts and found.name == text


@pytest.mark.parametrize(
    "text", ["", "int3", "pq", "pq0", "pca+int8", "pca8", "pca08+int8", "INT4", "int4 ", "int4\n"]
)
def test_another_name_is_refused_with_what_there_is(text):
    with pytest.raises(BadInput, match=r"turboquant.*found"):
        parse_quantiser(text)


@pytest.mark.parametrize(
    "text, said",
    [("pq5", "divide"), ("pq12", "pq12: expected fewer bytes than 12 numbers, found 12"),
     ("pca4+pq4", "fewer bytes than 4"), ("pca13+int8", "at most 12"), ("pca5+pq2", "divide"),
     ("simhash12", "eights"), ("simhash8000", "4096")],
)  # fmt: skip
def test_a_method_that_does_not_fit_the_vectors_is_refused(text, said):
    with pytest.raises(BadInput, match=said):
        fit_quantiser(text, made())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_sample_gives_the_same_bytes(name):
    first, again = (dump_quantiser(fit_quantiser(name, made(), 3)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(hnp.arrays(np.float32, (7, 12), elements=st.floats(-1e3, 1e3, width=32)))
def test_any_sample_gives_a_quantiser(name, mu):
    one = fit_quantiser(name, mu)
    assert np.isfinite(one.vectors(one.encode(mu))).all()
    assert len(one.mean) == 12


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_zeros_or_of_one_row_is_stood(name):
    for mu in (np.zeros((5, 12)), made(1)):
        one = fit_quantiser(name, mu)
        assert np.abs(one.vectors(one.encode(mu)) - mu).max() < 1e-5 + 0.02 * np.abs(mu).max()


@pytest.mark.parametrize("bad", [np.full((3, 4), np.nan), np.zeros((0, 4)), np.zeros(4)])
def test_a_sample_that_is_none_is_refused(bad):
    with pytest.raises(BadInput, match="finite embeddings"):
        fit_quantiser("int4", bad)


def test_levels_of_a_normal_number_are_those_of_lloyd_and_max():
    x = np.random.default_rng(0).normal(size=(200_000, 1))
    for name, loss in (("bits", 0.3634), ("int2", 0.1175), ("int4", 0.009497)):
        one = fit_quantiser(name, x)
        lost = np.mean((one.vectors(one.encode(x)) - x) ** 2)
        assert lost == pytest.approx(loss, rel=0.05), name


def test_bits_are_split_in_half():
    mu = made(1000, seed=4)
    bits = np.unpackbits(fit_quantiser("bits", mu).encode(mu), axis=1)[:, :12]
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02


def test_principal_axes_keep_the_most_and_turboquant_turns_them():
    mu = made(500, seed=6)
    centred = mu - mu.mean(axis=0)
    powers = np.linalg.svd(centred, compute_uv=False) ** 2
    one = fit_quantiser("pca6+int8", mu)
    lost = ((one.vectors(one.encode(mu)) - mu) ** 2).sum() / powers.sum()
    assert lost == pytest.approx(powers[6:].sum() / powers.sum(), abs=2e-3)
    for name in ("pca6+int8", "turboquant4", "pca6+turboquant4"):
        rows = fit_quantiser(name, mu).matrix
        assert np.allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-5)


def test_recall_rises_with_the_bytes_and_words_beat_levels():
    mu = made(1500, dim=16, seed=8)
    found = {
        name: recall(fit_quantiser(name, mu, 1), mu)
        for name in ("bits", "int2", "int4", "int8", "pq2", "pq8", "turboquant2", "turboquant4")
    }
    assert found["bits"] < found["int2"] < found["int4"] < found["int8"]
    assert found["turboquant2"] < found["turboquant4"] and found["pq2"] < found["pq8"]
    assert found["int8"] > 0.95 and found["pq8"] > found["int4"] - 0.05
