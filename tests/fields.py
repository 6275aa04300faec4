"""Tiles for the tests of the fidelity code: fields with edges, alike but not the same."""

import numpy as np


def make_tiles(n, bands=3, height=24, width=20, seed=0):
    """Images float32 (n, bands, height, width) of a few levels, with shading and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    found = np.empty((n, bands, height, width))
    level = np.random.default_rng(9).normal(0, 1, (6, bands))
    for image in found:
        angle, at = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8, 2)
        line = np.cos(angle) * (rows - at[0] * height) + np.sin(angle) * (columns - at[1] * width)
        a, b = level[rng.integers(0, 6, 2)]
        shade = rng.normal(0, 0.02, (bands, 1, 1)) * rows
        image[:] = np.where(line > 0, a[:, None, None], b[:, None, None]) + shade
    return (found * 10 + rng.normal(0, 0.5, found.shape) + 100).astype(np.float32)
