"""Tile2Vec: the loss falls, neighbours come nearer, and any reader of weights embeds the same."""

from functools import cache

import numpy as np
import pytest
from archives import make_cells
from networks import textures

from embarchive import grid, model, tensors, tile2vec
from embarchive.recipe import Recipe

torch = pytest.importorskip("torch")
from embarchive import encode, fit_tile2vec  # noqa: E402

ARCH = fit_tile2vec.architecture(3, 32, 32, 24)
SIDE = 20


def quiet(done, total):
    """Progress that nobody reads."""


def patchwork(seed):
    """Chips (400, 3, 32, 32) of cells of a square, their kinds (400,), and their pool: four kinds
    of texture in fields of 5 x 5 cells, of levels that are any cell's own."""
    cells = make_cells(SIDE * SIDE)
    column, row = grid.cell_indices(cells)
    field = (column - column.min()) // 5 * 4 + (row - row.min()) // 5
    kind = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), 4))[field]
    chips, label = textures(SIDE * SIDE * 4, 3, 32, seed)
    chosen = np.empty(len(cells), int)
    for one in range(4):
        chosen[kind == one] = np.flatnonzero(label == one)[: (kind == one).sum()]
    radius = tile2vec.default_radius(cells)
    pool = tile2vec.make_pool(grid.centers(cells), np.zeros(len(cells), np.int64), radius)
    return chips[chosen], kind, pool


@cache
def known():
    chips, _, pool = patchwork(0)
    return [fit_tile2vec.fit(ARCH, chips, pool, Recipe(steps=steps), quiet) for steps in (1, 250)]


def test_the_loss_falls_and_neighbours_come_nearer_than_distant_tiles():
    start, found = known()
    assert np.mean(found.losses[-20:]) < 0.8 * np.mean(found.losses[:20])
    held, _, pool = patchwork(1)
    before, after = (
        tile2vec.judge(pool, encode.embed(ARCH, one.encoder, held), 2000)[0]
        for one in (start, found)
    )
    assert after > before + 0.05
    assert after > 0.7


def test_nearest_tiles_are_more_often_of_a_kind_that_nobody_named():
    held, kind, _ = patchwork(2)

    def precision(encoder):
        z = encode.embed(ARCH, encoder, held)
        square = ((z[:, None] - z[None]) ** 2).sum(axis=-1)
        np.fill_diagonal(square, np.inf)
        return np.mean(kind[np.argsort(square, axis=1)[:, :5]] == kind[:, None])

    start, found = known()
    assert precision(found.encoder) > precision(start.encoder) + 0.05


def test_weights_are_an_encoder_s_and_numpy_and_torch_embed_alike():
    found = known()[1].encoder
    assert {name: value.shape for name, value in found.items()} == ARCH.shapes("encoder")
    data = tensors.dump_weights(found, "float16", {})
    weights = tensors.load_weights(data, ARCH, "encoder")
    held = patchwork(1)[0][:40]
    mu = model.encode_batch(ARCH, weights, held)
    assert np.abs(mu - encode.embed(ARCH, weights, held)).max() < 1e-4
    # The step of int8 fits them.
    assert 60 < np.abs(mu).max() / found["step"][0] < 140


def test_where_things_lie_in_a_tile_does_not_matter():
    found, held = known()[1].encoder, patchwork(1)[0][:40]
    mu, turned = (
        model.encode_batch(ARCH, found, x) for x in (held, np.ascontiguousarray(held[..., ::-1]))
    )
    spread = np.linalg.norm(mu - mu.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(mu - turned, axis=1).mean() < 0.2 * spread


def test_a_seed_gives_the_same_weights_and_another_seed_gives_others():
    chips, _, pool = patchwork(0)

    def fitted(seed):
        recipe = Recipe(steps=3, seed=seed)
        found = fit_tile2vec.fit(ARCH, chips, pool, recipe, quiet)
        return tensors.dump_weights(found.encoder, "float32", {})

    torch.manual_seed(1)
    first = fitted(0)
    torch.manual_seed(2)
    assert fitted(0) == first
    assert fitted(1) != first


def test_the_loss_is_that_of_the_source():
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [3.0, 4.0]])
    # Distances 1 and 0 to the neighbours, 5 to the distant tile: both are far below the margin.
    assert fit_tile2vec.triplet_loss(z, np.array([1, 0])).item() == 0
    near = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 1.0]])
    found = fit_tile2vec.triplet_loss(near, np.array([1, 0])).item()
    assert found == pytest.approx((3 - 1 + 0.1) / 2)
