"""What a VAE has to better, cheap to fit: the tile's own means, and PCA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embarchive.components import principal
from embarchive.model import Array

# Training chips that PCA is fitted to.
MOST_PCA = 4096


def tile_mean_error(chips: Array) -> float:
    """Mean squared error of giving each chip's band means as its picture."""
    return float(np.mean((chips - chips.mean(axis=(2, 3), keepdims=True)).astype(np.float64) ** 2))


@dataclass(frozen=True)
class Pca:
    """Principal components of training chips: mean (d,), axes (d, dim)."""

    mean: Array
    axes: Array

    def scaled(self, mean: float, std: float) -> Pca:
        """The components of chips times std plus mean."""
        return Pca((self.mean * std + mean).astype(np.float32), self.axes)

    def error(self, chips: Array) -> float:
        """Mean squared error of chips through the components."""
        centred = chips.reshape(len(chips), -1) - self.mean
        rest = centred - (centred @ self.axes) @ self.axes.T
        return float(np.mean(rest.astype(np.float64) ** 2))


def fit_pca(chips: Array, dim: int) -> Pca:
    """PCA of at most 4096 chips with `dim` numbers, in recipe units."""
    some = chips[:: max(1, -(-len(chips) // MOST_PCA))]
    flat = some.reshape(len(some), -1)
    mean = flat.mean(axis=0)
    return Pca(mean, principal(flat - mean, dim)[0])
