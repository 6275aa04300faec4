"""Probes are never asked of blocks that they saw."""

import numpy as np
import pytest

from embarchive import probes
from embarchive.errors import BadInput

pytest.importorskip("sklearn")


def made(n=600, seed=0):
    r = np.random.default_rng(seed)
    label = r.choice(["crop", "wood", "town"], n)
    centre = {name: r.normal(size=8) * 2 for name in ("crop", "wood", "town")}
    x = np.stack([centre[name] for name in label]) + r.normal(size=(n, 8))
    return x, label, np.repeat(np.arange(n // 20), 20)


@pytest.mark.parametrize("probe", probes.PROBES)
def test_classes_that_lie_apart_are_told(probe):
    x, label, block = made()
    said = probes.predict(probe, x, label, block)
    assert (said == label).mean() > 0.9
    shuffled = np.random.default_rng(1).permutation(label)
    assert (probes.predict(probe, x, shuffled, block) == shuffled).mean() < 0.5


def test_blocks_stay_whole_and_folds_are_even():
    block = np.repeat(np.arange(23), np.arange(23) + 1)
    fold = probes.folds(block)
    assert all(len(np.unique(fold[block == one])) == 1 for one in range(23))
    sizes = np.bincount(fold)
    assert len(sizes) == probes.FOLDS and sizes.max() - sizes.min() <= 23


def test_a_copy_within_the_block_does_not_help():
    r = np.random.default_rng(0)
    # Each block has a vector and a class of its own choice: within it all is the same.
    x = np.repeat(r.normal(size=(60, 4)), 10, axis=0)
    label = np.repeat(r.choice(["a", "b"], 60), 10)
    block = np.repeat(np.arange(60), 10)
    said = probes.predict("knn", x, label, block)
    assert (said == label).mean() < 0.75


def test_zero_vectors_and_single_blocks():
    x, label, block = made(100)
    x[3] = 0
    assert len(probes.predict("knn", x, label, block)) == 100
    with pytest.raises(BadInput, match="at least 2 spatial blocks, found 1"):
        probes.predict("knn", x, label, np.zeros(100))
    with pytest.raises(BadInput, match="two classes"):
        probes.predict("linear", x, np.repeat("a", 100), block)
