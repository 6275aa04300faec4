"""Where training starts: as good as PCA of the chips and their mirror images."""

import numpy as np
import pytest
from networks import SMALL, textures

from embarchive import components, model


def begun(count=240):
    chips = textures(count, 3, 32, seed=0)[0]
    mean, std = components.normaliser(chips)
    x = (chips - mean[:, None, None]) / std[:, None, None]
    found = components.begin(SMALL, x, np.random.default_rng(0))
    for weights in (found.encoder, found.decoder):
        weights.update(mean=mean, std=std)
    return chips, x, found.encoder, found.decoder


def decoded(encoder, decoder, chips):
    mu = model.encode_batch(SMALL, encoder, chips)
    return model.decode_batch(SMALL, decoder, None, mu)


def test_the_start_is_pca_of_chips_and_mirror_images():
    chips, x, encoder, decoder = begun()
    flat = components.flips(x).reshape(4 * len(x), -1)
    axes = components.principal(flat - flat.mean(axis=0), SMALL.dim - SMALL.style)[0]
    rest = x.reshape(len(x), -1) - flat.mean(axis=0)
    expected = np.mean((rest - (rest @ axes) @ axes.T) ** 2)
    std = encoder["std"][:, None, None]
    found = np.mean(((decoded(encoder, decoder, chips) - chips) / std) ** 2)
    assert expected * 0.99 < found < expected * 1.1


def test_settling_changes_numbers_and_steps_but_no_picture():
    chips, _, encoder, decoder = begun()
    before = decoded(encoder, decoder, chips)
    found = components.settle(components.Fitted(encoder, decoder), SMALL, chips)
    mu = model.encode_batch(SMALL, found.encoder, chips)
    assert mu[:, SMALL.style :].std(axis=0).max() == pytest.approx(0.12, rel=0.1)
    assert np.abs(mu).max() / found.encoder["step"][0] < 127.5
    after = model.decode_batch(SMALL, found.decoder, None, mu)
    assert np.abs(after - before).max() < 0.1 * before.std()


def test_the_foretold_is_taken_from_detail_and_given_back_whatever_it_is():
    chips, _, encoder, decoder = begun()
    before = decoded(encoder, decoder, chips)
    noise = np.random.default_rng(1).normal(0, 0.5, encoder["prior"].shape).astype(np.float32)
    for weights in (encoder, decoder):
        weights["prior"] = noise
    assert np.abs(decoded(encoder, decoder, chips) - before).max() < 1e-2 * before.std()


def test_principal_axes_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    for shape in ((40, 90), (90, 40)):
        x = (rng.normal(size=shape) * np.arange(1, shape[1] + 1)).astype(np.float32)
        axes, spread = components.principal(x, 5)
        _, values, rows = np.linalg.svd(x, full_matrices=False)
        assert np.allclose(spread, values[:5] / np.sqrt(len(x)), rtol=1e-3)
        assert np.allclose(np.abs((rows[:5] * axes.T).sum(axis=1)), 1, atol=1e-3)


def test_missing_components_are_zeros():
    axes, spread = components.principal(np.ones((3, 8), np.float32) * [[1], [-1], [0]], 4)
    assert spread[0] > 0 and not spread[1:].any() and not axes[:, 1:].any()
