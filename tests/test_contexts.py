"""Neighbours are those that came before, and what they were moves what is expected."""

import numpy as np

from embarchive import contexts


def plan(order=None, shape=(2, 6, 5)):
    order = np.arange(np.prod(shape)) if order is None else order
    return contexts.scan(np.asarray(order, np.int64), shape), np.asarray(order)


def test_neighbours_came_before_and_lie_near():
    rng = np.random.default_rng(0)
    shape = (2, 6, 5)
    found, order = plan(rng.permutation(60), shape)
    at = np.arange(60)[:, None]
    assert (
        found.before[found.weight > 0] < np.broadcast_to(at, found.before.shape)[found.weight > 0]
    ).all()
    assert (found.before[found.weight == 0] <= 60).all()
    place = np.stack(np.unravel_index(order, shape))
    for one in (5, 30, 59):
        near = found.before[one][found.weight[one] > 0]
        gap = place[1:, near] - place[1:, [one]]
        assert ((gap**2).sum(axis=0) <= contexts.REACH**2).all()
        own = (place[0, near] == place[0, one]) & ((gap**2).sum(axis=0) == 1)
        assert (found.weight[one][found.weight[one] > 0][own] == 40).all()


def test_the_first_has_none():
    found, _ = plan()
    assert not found.weight[0].any() and (found.before[0] == 60).all()


def test_neighbours_as_expected_leave_the_class_and_larger_ones_raise_it():
    found, _ = plan()
    expected = np.full(60, contexts.UNIT, np.int64)
    near = contexts.expected_near(found, expected)
    seen = np.ones((61, 3), np.int64)
    seen[60] = 0
    seen[:60, 1], seen[:60, 2] = 8, 0
    kind = contexts.classes(found, 30, near[30], expected[30], seen)
    # A step is 2 ** 0: eight octaves above the first edge, four classes each.
    assert kind[0] == 33 and kind[1] > 40 > kind[0] > kind[2]


def test_the_largest_numbers_stay_within_a_double():
    total = contexts.NEIGHBOURS * 40 * 15 * contexts.UNIT + 30 * contexts.UNIT
    assert total * contexts.MOST_EXPECTED < 2**53
