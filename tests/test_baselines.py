"""PCA against scikit-learn, and the tile mean against its definition."""

import numpy as np
import pytest
from networks import textures

from embarchive import baselines


def test_pca_error_is_that_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    chips, held = (textures(240, 3, 32, seed=seed)[0] for seed in (0, 1))
    a, b = chips.reshape(len(chips), -1), held.reshape(len(held), -1)
    oracle = decomposition.PCA(10, svd_solver="full").fit(a)
    expected = np.mean((oracle.inverse_transform(oracle.transform(b)) - b) ** 2)
    assert baselines.fit_pca(chips, 10).error(held) == pytest.approx(expected, rel=1e-3)


def test_the_tile_mean_leaves_the_variance_of_each_band():
    chips = textures(20, 3, 32, seed=0)[0]
    assert baselines.tile_mean_error(chips) == pytest.approx(
        chips.var(axis=(2, 3)).mean(), rel=1e-4
    )
