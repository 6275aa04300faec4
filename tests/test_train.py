"""Training: the same twice, better than its baselines, and a search that sees texture."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from networks import SMALL, edges, textures

from embarchive import baselines, model, tensors
from embarchive.errors import BadInput
from embarchive.indices import IndexTarget
from embarchive.model import Architecture
from embarchive.recipe import Recipe

torch = pytest.importorskip("torch")
from embarchive import adapters, train  # noqa: E402
from embarchive.encode import errors  # noqa: E402

RECIPE = Recipe(steps=40, batch=8, adapter_steps=40)
VALID = np.ones((160, 32, 32), bool)


@cache
def known():
    """Training chips, held-out chips, their classes, and what was fitted."""
    chips, _ = textures(240, 3, 32, seed=0)
    held, label = textures(160, 3, 32, seed=1)
    return chips, held, label, train.fit(SMALL, chips, RECIPE, lambda done, total: None)


def held_out_error(fitted, chips, arch=SMALL):
    mu = model.encode_batch(arch, fitted.encoder, chips)
    return np.mean((model.decode_batch(arch, fitted.decoder, None, mu) - chips) ** 2)


def precision(vectors, label, k=5):
    """Share of the k nearest others that are of the same class."""
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    return np.mean(label[np.argsort(distance, axis=1)[:, :k]] == label[:, None])


def test_a_fit_has_the_architecture_s_weights_and_counts_its_steps():
    chips, seen = known()[0], []
    fitted = train.fit(SMALL, chips[:8], Recipe(steps=3, batch=4), lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for weights, kind in ((fitted.encoder, "encoder"), (fitted.decoder, "backbone")):
        assert {name: value.shape for name, value in weights.items()} == SMALL.shapes(kind)
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in weights.values())


def test_a_seed_gives_the_same_weights_and_another_seed_gives_others():
    chips = known()[0][:40]

    def fitted(seed):
        recipe = Recipe(steps=5, batch=8, seed=seed)
        found = train.fit(SMALL, chips, recipe, lambda done, total: None)
        return tensors.dump_weights(found.decoder, "float32", {})

    torch.manual_seed(1)
    first = fitted(0)
    torch.manual_seed(2)
    assert fitted(0) == first
    assert fitted(1) != first


def test_held_out_error_is_below_the_tile_mean_and_not_above_pca():
    chips, held, _, fitted = known()
    found = held_out_error(fitted, held)
    assert found < 0.7 * baselines.tile_mean_error(held)
    assert found <= baselines.fit_pca(chips, SMALL.dim).error(held)


def test_training_learns_what_no_linear_map_can():
    arch = Architecture(2, 16, 16, 6, 2, 12, 16, 1, 8)
    chips, held = edges(400, 16, seed=0), edges(200, 16, seed=1)
    start, fitted = (
        train.fit(arch, chips, Recipe(steps=steps, batch=24), lambda done, total: None)
        for steps in (1, 150)
    )
    found = held_out_error(fitted, held, arch)
    assert found < 0.8 * held_out_error(start, held, arch)
    assert found < 0.9 * baselines.fit_pca(chips, arch.dim).error(held)


def test_nearest_tiles_share_a_texture_that_means_and_spreads_do_not_tell():
    _, held, label, fitted = known()
    plain = np.concatenate([held.mean(axis=(2, 3)), held.std(axis=(2, 3))], axis=1)
    plain = (plain - plain.mean(axis=0)) / plain.std(axis=0)
    found = precision(model.encode_batch(SMALL, fitted.encoder, held), label)
    assert found > precision(plain, label) + 0.2


def test_an_adapter_helps_a_region_and_refit_helps_it_more_than_nothing():
    _, held, _, fitted = known()
    region = held[:80] * 1.3 + 0.2
    z = model.encode_batch(SMALL, fitted.encoder, region)
    (adapter,) = adapters.fit_adapters(SMALL, fitted.decoder, [(z, region)], RECIPE)
    plain, adapted = (
        np.mean((model.decode_batch(SMALL, fitted.decoder, own, z) - region) ** 2)
        for own in (None, adapter)
    )
    assert adapted < plain
    assert held_out_error(train.refit(SMALL, fitted, region, RECIPE), region) < plain


def test_too_few_tiles_are_refused():
    with pytest.raises(BadInput, match="at least 8 training tiles, found 7"):
        train.fit(SMALL, known()[0][:7], RECIPE, lambda done, total: None)


def test_tiles_without_any_contrast_train_to_finite_numbers():
    flat = np.repeat(np.arange(8, dtype=np.float32), 3 * 32 * 32).reshape(8, 3, 32, 32)
    fitted = train.fit(SMALL, flat, Recipe(steps=2, batch=4), lambda done, total: None)
    assert np.isfinite(held_out_error(fitted, flat))
    same = train.fit(SMALL, flat * 0, Recipe(steps=2, batch=4), lambda done, total: None)
    assert np.isfinite(held_out_error(same, flat * 0))


@pytest.mark.parametrize("beta", [1.0, 1e3])
def test_a_beta_that_leaves_no_code_is_refused_with_what_was_found(beta):
    said = f"code that varies with the tiles, found 18 of 18 .* beta {beta:g}; lower beta$"
    with pytest.raises(BadInput, match=said):
        train.fit(SMALL, known()[0], replace(RECIPE, beta=beta), lambda done, total: None)


def test_a_code_that_is_partly_collapsed_is_told_of(caplog):
    found = train.fit(SMALL, known()[0], replace(RECIPE, beta=0.1), lambda done, total: None)
    assert 1 <= found.collapsed < 16
    assert f"train: {found.collapsed} of 18 numbers of detail collapsed" in caplog.text


def test_a_usual_beta_collapses_nothing_also_of_few_tiles(caplog):
    assert known()[3].collapsed == 0
    few = train.fit(SMALL, known()[0][:8], RECIPE, lambda done, total: None)
    assert few.collapsed == 0
    arch = Architecture(3, 32, 32, 64, 8, 12, 8, 1, 8)
    assert train.fit(arch, known()[0][:8], RECIPE, lambda done, total: None).collapsed == 0
    assert not caplog.text


def uneven(chips, seed):
    """Chips above 0, from dark to bright, whose first band has the texture of another chip."""
    level = np.exp(np.random.default_rng(seed).normal(0, 1.5, (len(chips), 1, 1, 1)))
    found = np.exp(chips)
    found[:, 0] *= np.roll(found[:, 2], 37, axis=0)
    return (found * level).astype(np.float32)


def test_training_for_an_index_betters_it_on_held_out_tiles():
    chips, held = (uneven(some, seed) for seed, some in enumerate(known()[:2]))
    target = IndexTarget(((2, 0),), 1.0)

    def error(aim):
        fitted = train.fit(SMALL, chips, RECIPE, lambda done, total: None, aim)
        mu = model.encode_batch(SMALL, fitted.encoder, held)
        return errors(held, model.decode_batch(SMALL, fitted.decoder, None, mu), VALID, (2, 0))[1]

    assert error(target).mean() < 0.985 * error(IndexTarget()).mean()


def test_a_network_of_a_region_is_trained_for_its_indices_too():
    chips, start = uneven(known()[0], 0), known()[3]
    target = IndexTarget(((2, 0),), 5.0)
    w = {name: torch.tensor(value) for name, value in start.decoder.items()}
    mean, std = w["mean"][:, None, None], w["std"][:, None, None]

    def error(aim):
        fitted = train.refit(SMALL, start, chips, RECIPE, aim)
        mu = model.encode_batch(SMALL, fitted.encoder, chips)
        image = torch.tensor(model.decode_batch(SMALL, fitted.decoder, None, mu))
        return train.index_error(
            target, w, (image - mean) / std, (torch.tensor(chips) - mean) / std
        )

    assert error(target) < 0.995 * error(IndexTarget())


def test_dark_pixels_do_not_pull_at_an_index():
    target = IndexTarget(((1, 0),), 1.0, 0.5)
    w = {"mean": torch.zeros(2), "std": torch.ones(2)}
    x = torch.tensor([0.1, 0.2, 0.6, 0.6]).reshape(1, 2, 1, 2)
    image = torch.tensor([0.9, 0.9, 0.1, 0.1]).reshape(1, 2, 1, 2)
    # The first pixel has .1 + .6, the second .2 + .6; with a floor of .75 only the second counts.
    both = abs(-0.8 - 0.5 / 0.7) + abs(-0.8 - 0.4 / 0.8)
    assert train.index_error(target, w, image, x).item() == pytest.approx(both / 2)
    some = replace(target, floor=0.75)
    assert train.index_error(some, w, image, x).item() == pytest.approx(abs(-0.8 - 0.5) / 2)


@pytest.mark.parametrize("steps", [1, 2, 5, 9, 10, 19, 100])
def test_any_number_of_steps_has_a_rate_that_rises_and_falls(steps):
    value = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([value], lr=1.0)
    schedule = train.one_cycle(optimiser, [0.5], steps, 100)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert np.isfinite(rates).all() and 0 < max(rates) <= 0.5
    if steps > 2:
        assert max(rates) > 0.3 and rates[-1] < max(rates)
