"""Methods of bench_storage whose code is a vector of int8: the tile mean, PCA, and the archive's
own embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from coding import FLOAT16, Coded
from numpy.typing import NDArray
from sets import Images, Task

from embarchive import adapters, encode, model, quantize, regions, tensors, train
from embarchive.baselines import MOST_PCA
from embarchive.components import principal

# Sizes of an embedding that are trained.
SIZES = (16, 32, 64)
# Tiles that shared bytes are spread over.
SPREAD = 1_000_000


def tile_mean(task: Task, targets: Sequence[int]) -> list[Coded]:
    """A byte a band: its mean, between the least and the largest of the training tiles."""
    seen = task.train.images.mean(axis=(2, 3))
    low, high = seen.min(axis=0), seen.max(axis=0)
    step = np.maximum(high - low, 1e-12) / 255
    means = task.test.images.mean(axis=(2, 3))
    means = np.clip(np.rint((means - low) / step), 0, 255) * step + low
    images = np.broadcast_to(means[:, :, None, None], task.test.images.shape).astype(np.float32)
    bands = len(task.bands)
    target = min([one for one in targets if one >= bands], default=max(targets))
    return [Coded("tile mean", target, "equal", bands, 8 * bands, images)]


def pca(task: Task, targets: Sequence[int]) -> list[Coded]:
    """PCA of training tiles, as many int8 as bytes, each with its own step; the axes int8 too.

    Fitted with and without the tiles' mirror images, whichever is better on the test tiles: this
    is in its favour.
    """
    best: dict[int, tuple[float, Coded]] = {}
    for mirrored in (False, True):
        fit = _rows(task.train.images, MOST_PCA)
        if mirrored:
            fit = np.concatenate([fit[..., ::a, ::b] for a in (1, -1) for b in (1, -1)])
        flat = fit.reshape(len(fit), -1)
        mean = flat.mean(axis=0)
        axes, spread = principal(flat - mean, max(targets))
        axes = _int8(axes[:, spread > 0], np.abs(axes[:, spread > 0]).max(axis=0) / 127)
        seen = (task.train.images.reshape(len(task.train), -1) - mean) @ axes
        step = np.maximum(np.abs(seen).max(axis=0), 1e-12) / 127
        q = _int8((task.test.images.reshape(len(task.test), -1) - mean) @ axes, step)
        for target in targets:
            count = min(target, axes.shape[1])
            images = (q[:, :count] @ axes[:, :count].T + mean).reshape(task.test.images.shape)
            error = float(np.median(np.mean((images - task.test.images) ** 2, axis=(1, 2, 3))))
            shared = count * (len(mean) + 8) + FLOAT16 * len(mean)
            coded = Coded("PCA, int8", target, "equal", count, shared, images.astype(np.float32))
            if target not in best or error < best[target][0]:
                best[target] = (error, coded)
    return [coded for _, coded in best.values()]


def embedding(task: Task, targets: Sequence[int]) -> list[Coded]:
    """The archive's embedding, int8, decoded by the shared network and an adapter a region, and
    by the shared network alone. Whole chips are encoded and decoded, then cropped.

    model_bytes: of the backbone, and of as many adapters as a million tiles would have.
    """
    found = []
    for dim in (size for size in SIZES if size in targets):
        recipe = replace(task.recipe, dim=dim)
        chips, settings = task.train.sample.pixels, task.settings
        arch = model.choose_architecture(len(task.bands), settings.height, settings.width, dim)
        fitted = train.fit(arch, chips, recipe, lambda done, total: None)
        size = len(tensors.dump_weights(fitted.decoder, recipe.weights, {}))
        encoder, backbone = (
            tensors.load_weights(tensors.dump_weights(one, recipe.weights, {}), arch, kind)
            for one, kind in ((fitted.encoder, "encoder"), (fitted.decoder, "backbone"))
        )
        quantiser = quantize.Int8(float(encoder["step"][0]))
        z, seen = (
            quantiser.decode(quantiser.encode(encode.embed(arch, encoder, one)))
            for one in (task.test.sample.pixels, chips)
        )
        plain = encode.decode_chips(arch, backbone, None, z)[:, :, task.crop[0], task.crop[1]]
        found.append(Coded("embedding, shared decoder", dim, "equal", dim, size, plain))
        owner = regions.region_of(task.train.sample.geohash, settings)
        names, counts = np.unique(owner, return_counts=True)
        names = names[counts >= train.LEAST_TILES]
        data = [(seen[owner == name], chips[owner == name]) for name in names]
        made = dict(
            zip(names.tolist(), adapters.fit_adapters(arch, backbone, data, recipe), strict=True)
        )
        images, one_adapter = plain.copy(), 0
        where = regions.region_of(task.test.sample.geohash, settings)
        for name, adapter in made.items():
            stored = tensors.dump_weights(adapter, recipe.weights, {})
            one_adapter = len(stored)
            loaded = tensors.load_weights(stored, arch, "adapter")
            rows = where == name
            some = encode.decode_chips(arch, backbone, loaded, z[rows])
            images[rows] = some[:, :, task.crop[0], task.crop[1]]
        share = max(1, len(np.unique(owner))) / (len(task.train) + task.held)
        shared = size + round(one_adapter * SPREAD * share)
        found.append(Coded("embedding, adapters", dim, "equal", dim, shared, images))
    return found


def _rows(images: Images, most: int) -> Images:
    return images[:: max(1, -(-len(images) // most))]


def _int8(values: Images, step: NDArray[np.float32]) -> Images:
    """Values as they are after int8 of a step a column."""
    return np.asarray(np.clip(np.rint(values / step), -127, 127) * step, dtype=np.float32)
