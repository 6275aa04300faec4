"""Views against brute force: every pair of places, in Python's numbers."""

import math
import sys
import time

import numpy as np
import pytest
from archives import make_cells, make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import grid, views
from embarchive.errors import BadInput, MissingExtra

PLACES = {
    "a block": make_cells(90),
    "the antimeridian": np.unique(
        grid.encode(np.r_[np.linspace(179, 180, 25), np.linspace(-180, -179, 25)], 10.0, 5)
    ),
    "a pole": np.unique(
        np.r_[
            grid.encode(np.linspace(-180, 180, 40), 89.99, 4),
            grid.encode(np.linspace(-180, 180, 20), 89.5, 4),
        ]
    ),
    "far apart": np.array(["0", "7", "b", "s", "z"]),
}


def brute_neighbours(names, count):
    """By all pairs, on the sphere, ties by name."""
    lon, lat = np.radians(grid.centers(names)).T
    points = [
        (math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b))
        for a, b in zip(lon, lat, strict=True)
    ]
    found = []
    for i, here in enumerate(points):
        away = sorted(
            (round(math.dist(here, there) * 6_371_008.8e3), j)
            for j, there in enumerate(points)
            if j != i
        )
        found.append([j for _, j in away[:count]])
    return found


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("count", [6, 8])
def test_neighbours_are_those_of_all_pairs(where, count):
    names = PLACES[where]
    found = views.neighbours(names, count)
    assert found.tolist() == brute_neighbours(names, min(count, len(names) - 1))


def test_neither_the_antimeridian_nor_a_pole_is_an_edge():
    across = np.sort(grid.encode(np.array([179.99, -179.99, 170, -170]), np.zeros(4), 6))
    west = grid.centers(across)[:, 0]
    near = views.neighbours(across, 1)[:, 0]
    assert abs(west[near[np.argmin(west)]]) > 179
    top = np.sort(grid.encode(np.array([0.0, 180.0, 0.0]), np.array([89.99, 89.99, 89.5]), 6))
    pole = np.flatnonzero(grid.centers(top)[:, 1] > 89.9)
    assert views.neighbours(top, 1)[pole, 0].tolist() == pole[::-1].tolist()


def test_many_at_one_distance_are_taken_by_name():
    # On the equator cells of an even precision are squares: distances tie eightfold.
    names = np.sort(
        np.concatenate([grid.encode(np.arange(-40, 41) * 0.01, y * 0.01, 6) for y in range(-9, 10)])
    )
    names = np.unique(names)
    some = np.random.default_rng(0).choice(len(names), 40, replace=False)
    expected = brute_neighbours(names, 8)
    found = views.neighbours(names, 8)
    assert [found[i].tolist() for i in some] == [expected[i] for i in some]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(0, 2**31), st.integers(2, 60))
def test_outliers_are_the_mean_over_the_sample_without_themselves(count, seed, most):
    vectors = make_vectors(count, dim=5, seed=seed)
    sample = views.draw(count, seed, most)
    assert len(sample) == min(count, most)
    found = views.outlier(vectors, sample)
    for i, here in enumerate(vectors.tolist()):
        others = [vectors[j].tolist() for j in sample.tolist() if j != i]
        total = sum((a - b) ** 2 for other in others for a, b in zip(here, other, strict=True))
        assert found[i] == total / len(others)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 30), st.integers(0, 2**31))
def test_surprise_and_gradient_are_means_over_neighbours(count, seed):
    rng = np.random.default_rng(seed)
    vectors, score = make_vectors(count, dim=5, seed=seed), rng.normal(size=count)
    near = np.array([rng.permutation(np.delete(np.arange(count), i))[:2] for i in range(count)])
    odd, steep = views.surprise(vectors, near), views.gradient(score, near)
    for i in range(count):
        pairs = [(vectors[i].tolist(), vectors[j].tolist()) for j in near[i]]
        assert odd[i] == sum((a - b) ** 2 for p in pairs for a, b in zip(*p, strict=True)) / 2
        assert steep[i] == sum(abs(score[i] - score[j]) for j in near[i]) / 2


def test_the_order_of_places_does_not_matter():
    names, vectors = PLACES["a block"], make_vectors(90)
    order = np.random.default_rng(3).permutation(90)
    # Any order of arrival is sorted before; what is left to show is that positions agree.
    back = np.argsort(names[order])
    assert (names[order][back] == names).all()
    sample = views.draw(90, 1, 20)
    plain = views.outlier(vectors, sample)
    mixed = views.outlier(vectors[order], np.flatnonzero(np.isin(order, sample)))
    assert (mixed[back] == plain).all()


def test_a_seed_says_the_sample():
    assert views.draw(5000, 1).tolist() == views.draw(5000, 1).tolist()
    assert views.draw(5000, 1).tolist() != views.draw(5000, 2).tolist()
    assert len(np.unique(views.draw(5000, 1))) == views.SAMPLE


def test_a_histogram_counts_every_score():
    found = views.histogram(np.linspace(0, 1, 1000))
    assert sum(found["counts"]) == 1000
    assert len(found["edges"]) == len(found["counts"]) + 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("hot", True, False, None), "kind must be one of heat, threshold, .* found 'hot'"),
        (("heat", False, False, None), "at least one exemplar in like for heat"),
        (("gradient", False, True, None), "at least one exemplar in like for gradient"),
        (("outlier", True, False, None), "no exemplars for outlier"),
        (("surprise", False, True, None), "no exemplars for surprise"),
        (("threshold", True, False, None), "a threshold for threshold, found None"),
        (("heat", True, False, 3.0), "no threshold for heat, found 3.0"),
        (("threshold", True, False, math.nan), "a finite threshold"),
    ],
)
def test_what_a_view_does_not_take_is_refused(asked, said):
    with pytest.raises(BadInput, match=said):
        views.check_kind(*asked)


def test_one_place_has_no_neighbours():
    with pytest.raises(BadInput, match="at least two places, found 1"):
        views.neighbours(make_cells(1), 8)
    with pytest.raises(BadInput, match="at least two places, found 1"):
        views.outlier(make_vectors(1), views.draw(1, 0))


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(MissingExtra, match=r"install embarchive\[report\]"):
        views.neighbours(make_cells(9), 8)


def test_a_hundred_thousand_places_take_seconds():
    names, vectors = make_cells(100_000), make_vectors(100_000)
    began = time.perf_counter()
    near = views.neighbours(names, views.SURPRISE)
    views.surprise(vectors, near)
    views.outlier(vectors, views.draw(len(vectors), 0))
    # 1.5 s on an idle machine; the limit only catches work by pairs
    assert time.perf_counter() - began < 20
