"""Fit an encoder by triplets of tiles, without a decoder: Tile2Vec (Jean et al. 2019).

The loss is [d(a, n) - d(a, d) + m]+ with d the Euclidean distance and m = 0.1, as in the source's
code; its penalty on the norms of vectors, 0 by default there, is left out. The distant tile is any
that `tile2vec` allows, at random. The network is the VAE's encoder without its linear map and its
prior: the style numbers, whose map is trained, and the means over a chip of what the convolutions
find, as the source pools its last layer. So where something lies in a chip does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embarchive import model, quantize, tile2vec, train
from embarchive.components import batches, noise, normaliser, style_map
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe
from embarchive.tile2vec import Pool

MARGIN = 0.1
LEARNING_RATE = 1e-3
# Chips that the style numbers start from, and that set the step of int8.
SEEN = 3_000
CONVOLUTIONS = tuple(f"conv{i}{end}" for i in (1, 2, 3) for end in ("", "_bias"))


@dataclass(frozen=True)
class Trained:
    """Weights of an encoder, float32, named as `Architecture.shapes` says, and the loss of every
    step."""

    encoder: dict[str, Array]
    losses: tuple[float, ...]


def architecture(bands: int, height: int, width: int, dim: int) -> Architecture:
    """The network for a chip: the VAE's with all statistics, up to half of the numbers, and as
    little as can be of what stays zero."""
    style = max(1, min(model.statistics_size(bands), dim // 2))
    arch = model.choose_architecture(bands, height, width, dim)
    return replace(arch, style=style, basis=1, blocks=1)


def fit(arch: Architecture, chips: Array, pool: Pool, recipe: Recipe, step: train.Step) -> Trained:
    """An encoder fitted to chips float32 (n, bands, height, width), recipe units, that are the
    tiles of the pool. `step(done, total)` is called after each step. Deterministic for a seed."""
    rng = np.random.default_rng(recipe.seed)
    encoder = _begin(arch, chips, rng)
    # The statistics of a mirror image are those of the image.
    numbers = np.concatenate(
        [model.statistics(_normalised(encoder, part)) for part in batches(chips)]
    )
    numbers -= encoder["statistics_mean"]
    params = {name: torch.tensor(encoder[name]) for name in ("statistics_map", *CONVOLUTIONS)}
    params["pooled"] = torch.tensor(noise("out", (arch.dim - arch.style, arch.channels), rng))
    learned = [value.requires_grad_(True) for value in params.values()]
    optimiser = torch.optim.Adam(learned, lr=LEARNING_RATE)
    steps = min(recipe.steps, -(-train.MOST_PASSES * len(chips) // recipe.batch))
    schedule = train.one_cycle(optimiser, [LEARNING_RATE], steps, 1000)
    losses = []
    for done in range(steps):
        pairs = tile2vec.draw(pool, recipe.batch, recipe.temporal, rng)
        rows = np.concatenate([pairs.anchor, pairs.neighbour])
        x = train.flip(_normalised(encoder, chips[rows]), int(rng.integers(4)))
        z = _embed(params, arch, torch.tensor(x), torch.tensor(numbers[rows]))
        loss = triplet_loss(z, tile2vec.pick_any(pairs.distant, rng))
        train.advance(loss, optimiser, learned)
        schedule.step()
        losses.append(loss.item())
        step(done + 1, steps)
    for name, value in params.items():
        if name != "pooled":
            encoder[name] = value.detach().numpy().copy()
    places = arch.grid[0] * arch.grid[1]
    pooled = params["pooled"].detach().numpy() / np.float32(places)
    encoder["out"] = np.repeat(pooled, places, axis=1)
    return Trained(_settled(arch, encoder, chips), tuple(losses))


def triplet_loss(z: Tensor, distant: NDArray[np.intp]) -> Tensor:
    """The mean loss of vectors (2 k, dim), anchors and then their neighbours; distant (k,): which
    anchor is the distant tile of each."""
    a, n = z[: len(distant)], z[len(distant) :]
    near, far = (_distance(a, other) for other in (n, a[torch.tensor(distant)]))
    return F.relu(near - far + MARGIN).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # The slope of a root is infinite at zero.
    return ((a - b).square().sum(dim=1) + 1e-12).sqrt()


def _begin(arch: Architecture, chips: Array, rng: np.random.Generator) -> dict[str, Array]:
    """The style numbers of the VAE as it starts, convolutions at random, and nothing else."""
    w = {name: np.zeros(shape, np.float32) for name, shape in arch.shapes("encoder").items()}
    w["mean"], w["std"] = normaliser(chips)
    some = chips[rng.permutation(len(chips))[:SEEN]]
    w["statistics_mean"], w["statistics_map"] = style_map(arch, _normalised(w, some))
    w |= {name: noise(name, w[name].shape, rng) for name in CONVOLUTIONS}
    return w


def _settled(arch: Architecture, encoder: dict[str, Array], chips: Array) -> dict[str, Array]:
    """The encoder with its step of int8."""
    some = chips[:: -(-len(chips) // SEEN)]
    mu = np.concatenate([model.encode_batch(arch, encoder, part) for part in batches(some)])
    return encoder | {"step": np.array([quantize.fit_int8(mu).scale], np.float32)}


def _normalised(encoder: Mapping[str, Array], chips: Array) -> Array:
    found: Array = (chips - encoder["mean"][:, None, None]) / encoder["std"][:, None, None]
    return found


def _embed(w: Mapping[str, Tensor], arch: Architecture, x: Tensor, numbers: Tensor) -> Tensor:
    """Vectors of normalised chips whose statistics, less their mean, are given."""
    style = (numbers @ w["statistics_map"].T).clamp(-model.STYLE_LIMIT, model.STYLE_LIMIT)
    found = train.convolved(w, x, arch.stride).mean(dim=(2, 3))
    return torch.cat([style, found @ w["pooled"].T], dim=1)
