"""The filter in numpy is the filter in torch, and stays within the budget of a decode."""

import numpy as np
import torch
from fields import make_tiles

from embarchive import fit_refine, model, refine


def test_numpy_and_torch_agree():
    images = make_tiles(5)
    shape = refine.choose_shape(3, 24, 20)
    rng = np.random.default_rng(0)
    weights = {
        name: (rng.normal(0, 0.2, size) + (name == "std")).astype(np.float32)
        for name, size in shape.tensors().items()
    }
    weights["std"] = np.abs(weights["std"]) + 1
    found = refine.refine(weights, images)
    other = fit_refine.torch_refine(
        {name: torch.tensor(value) for name, value in weights.items()}, torch.tensor(images)
    )
    assert np.abs(found - images).max() > 0.1
    assert np.abs(found - other.numpy()).max() < 2e-5 * np.abs(found).max()


def test_the_widest_within_the_budget():
    assert refine.choose_shape(4, 30, 20).channels == 64
    assert refine.choose_shape(4, 40, 28).channels == 32
    assert refine.choose_shape(13, 64, 64).channels == 16
    assert refine.choose_shape(64, 128, 128) is None
    for bands in (1, 4, 13):
        shape = refine.choose_shape(bands, 64, 64)
        assert shape.multiply_adds() <= model.MAX_MULTIPLY_ADDS
