"""Measures are checked against plain definitions and against data whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import measures
from embarchive.errors import BadInput


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_nearest_are_those_of_a_plain_sort(seed):
    r = rng(seed)
    base = r.integers(-3, 4, (40, 3)).astype(float)
    own = r.integers(0, 12, 40)
    rows, gaps = measures.nearest(base[:9], base, 5, (own[:9], own))
    for at in range(9):
        order = sorted(
            (i for i in range(40) if own[i] != own[at]),
            key=lambda i, at=at: (((base[i] - base[at]) ** 2).sum(), i),
        )
        assert rows[at].tolist() == order[:5]
        assert (np.diff(gaps[at]) >= 0).all()


def test_too_few_rows_of_other_places_are_said():
    base = rng().normal(size=(6, 2))
    with pytest.raises(BadInput, match="at least 4 rows of other places"):
        measures.nearest(base, base, 4, (np.zeros(6), np.array([0, 0, 0, 1, 1, 1])))
    with pytest.raises(BadInput, match="one length"):
        measures.nearest(base, base[:, :1], 2)


def test_recall_is_the_share_found():
    true, found = np.array([[1, 2], [3, 4]]), np.array([[2, 9, 1], [4, 8, 7]])
    assert measures.recall(true, found).tolist() == [1.0, 0.5]


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_spearman_is_that_of_scipy(seed):
    stats = pytest.importorskip("scipy.stats")
    r = rng(seed)
    a, b = r.integers(0, 9, 30), r.integers(0, 9, 30)
    assert measures.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_a_constant_has_no_rank_correlation():
    assert math.isnan(measures.spearman(np.zeros(5), np.arange(5)))


@pytest.mark.parametrize("dim", [2, 5, 9])
def test_the_dimension_of_a_flat_sheet_in_many_numbers_is_found(dim):
    r = rng(dim)
    x = r.normal(size=(3000, dim)) @ np.linalg.qr(r.normal(size=(30, dim)))[0].T
    rows, gaps = measures.nearest(x[:800], x, 60, (np.arange(800), np.arange(3000)))
    assert measures.dimension_mle(gaps[:, :20]) == pytest.approx(dim, rel=0.15)
    assert measures.dimension_two_nn(gaps) == pytest.approx(dim, rel=0.15)
    assert dim * 0.8 <= measures.dimension_local(x, rows) <= dim


def test_points_that_are_all_the_same_have_no_dimension():
    x = np.zeros((50, 3))
    rows, gaps = measures.nearest(x, x, 10, (np.arange(50), np.arange(50)))
    for found in (
        measures.dimension_mle(gaps),
        measures.dimension_two_nn(gaps),
        measures.dimension_local(x, rows),
    ):
        assert math.isnan(found)


def test_an_interval_holds_the_truth_and_widens_with_the_blocks():
    r = rng()
    each = r.normal(size=2000)
    low, high = measures.interval(each, np.arange(2000))
    assert low < each.mean() < high and high - low == pytest.approx(4 / 2000**0.5, rel=0.15)
    block = np.repeat(np.arange(20), 100)
    shifted = each + np.repeat(r.normal(size=20), 100)
    wide = measures.interval(shifted, block)
    assert wide[1] - wide[0] > 5 * (high - low)
    assert math.isnan(measures.interval(each, np.zeros(2000))[0])


def test_mcnemar_is_the_exact_binomial():
    stats = pytest.importorskip("scipy.stats")
    for only_a, only_b in ((3, 11), (0, 6), (40, 41), (300, 220)):
        a = np.array([True] * only_a + [False] * only_b + [True] * 5)
        b = np.array([False] * only_a + [True] * only_b + [True] * 5)
        p = stats.binomtest(only_a, only_a + only_b).pvalue
        assert measures.mcnemar(a, b) == pytest.approx(p, rel=1e-6)
    assert measures.mcnemar(a, a) == 1.0


def test_f1_by_class():
    truth, said = np.array(list("aabbc")), np.array(list("abbbb"))
    found = measures.f1_by_class(truth, said)
    assert found == {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3), "c": 0.0}
