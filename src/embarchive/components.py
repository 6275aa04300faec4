"""Networks that start as principal components: of the statistics, of patches, of chips.

`begin` gives weights with which the VAE already decodes as PCA of the training chips and their
mirror images would; `train` improves on them, and `settle` fixes the scale of the numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embarchive import model, quantize
from embarchive.model import Architecture, Array, statistics

COMPANDING = 0.7
# Band means lead the statistics; details stay small, so that distances follow the statistics.
# Both were chosen by label precision on EuroSAT, see benchmarks/LOG.md.
MEAN_WEIGHT = 1.5
DETAIL_SPREAD = 0.12
# Patches and bytes of patch shares that the networks start from.
START_PATCHES, START_BYTES = 20_000, 64 << 20
WIDE_BASIS = 128
SETTLE_CHIPS = 3_000


@dataclass(frozen=True)
class Fitted:
    """Weights of an encoder and its decoder, float32, named as `Architecture.shapes` says.

    collapsed: numbers of detail that tell nothing of a tile, see `train`.
    """

    encoder: dict[str, Array]
    decoder: dict[str, Array]
    collapsed: int = 0


def begin(arch: Architecture, x: Array, rng: np.random.Generator) -> Fitted:
    """Weights that are principal components: of the statistics, the patches, the chips.

    x: normalised chips float32 (n, bands, height, width), of which as many are taken at random
    as fit in START_BYTES of patch shares.
    """
    room = START_BYTES // (16 * WIDE_BASIS * arch.grid[0] * arch.grid[1])
    x = x[rng.permutation(len(x))[:room]]
    encoder = {name: noise(name, s, rng) for name, s in arch.shapes("encoder").items()}
    decoder = {name: noise(name, s, rng) for name, s in arch.shapes("backbone").items()}
    encoder["out"][:] = 0
    decoder["film"][:] = 0
    decoder["head"][:] = 0
    encoder["statistics_mean"], encoder["statistics_map"] = style_map(arch, x)
    encoder["step"] = np.zeros(1, np.float32)
    # The statistics of a mirror image are those of the image.
    numbers = [model.style_numbers(encoder, part) for part in batches(x)]
    style = np.concatenate([np.tile(part, (4, 1)) for part in numbers])
    wide, y = _wide_parts(arch, x, rng)
    level = y.mean(axis=0)
    axes, size = principal(y - level, arch.dim - arch.style)
    # Of all that patches hold, the decoder needs only what the axes are made of.
    pieces = (axes * size).T.reshape(-1, wide.shape[1], *arch.grid).transpose(0, 2, 3, 1)
    turn, _ = principal(pieces.reshape(-1, wide.shape[1]), arch.basis)
    basis = wide @ turn
    encoder["patch"], decoder["patch"] = basis.T.copy(), basis.copy()
    unit = np.float32(max(float(size[0]), 1e-6))
    rows = _turn(axes.T, turn, arch)
    encoder["dense"], encoder["dense_bias"] = rows / unit, -level @ axes / unit
    # Style reaches the linear image by what it foretells of the detail.
    decoder["dense"][:] = 0
    decoder["dense"][:, arch.style :] = rows.T * unit
    decoder["dense_bias"] = _turn(level[None], turn, arch)[0]
    prior = _fit_prior(style, (y - level) @ axes / unit, rng)
    encoder.update(prior)
    decoder.update(prior)
    return Fitted(encoder, decoder)


def settle(found: Fitted, arch: Architecture, chips: Array) -> Fitted:
    """Scale the detail numbers to their share of a distance, the decoder inversely, and set the
    step of int8. chips: float32 (n, bands, height, width), recipe units."""
    sample = chips[:: max(1, len(chips) // SETTLE_CHIPS)]
    mu = np.concatenate([model.encode_batch(arch, found.encoder, part) for part in batches(sample)])
    spread = np.maximum(mu[:, arch.style :].std(axis=0), 1e-6)
    target = DETAIL_SPREAD * np.sqrt(spread / spread.max())
    gain = (target / spread).astype(np.float32)
    encoder, decoder = dict(found.encoder), dict(found.decoder)
    for name in ("dense", "out"):
        encoder[name] = encoder[name] * gain[:, None]
        encoder[f"{name}_bias"] = encoder[f"{name}_bias"] * gain
    whole = np.concatenate([np.ones(arch.style, np.float32), gain])
    # The last row of the prior is the scale, which stays.
    rows = np.append(gain, np.float32(1))
    for weights in (encoder, decoder):
        weights["prior"] = weights["prior"] * rows[:, None]
        weights["prior_bias"] = weights["prior_bias"] * rows
    mu[:, arch.style :] *= gain
    encoder["step"] = np.array([quantize.fit_int8(mu).scale], np.float32)
    for name in ("dense", "film"):
        decoder[name] = decoder[name] / whole
    return Fitted(encoder, decoder, found.collapsed)


def normaliser(chips: Array) -> tuple[Array, Array]:
    """Per band mean and divisor (bands,), recipe units: the band's spread to a
    quarter, the overall one to the rest.

    Nearer to recipe units, in which errors are stated, than to bands of equal weight; faint
    bands keep some of their detail.
    """
    mean = chips.mean(axis=(0, 2, 3), dtype=np.float64)
    spread = np.maximum(chips.std(axis=(0, 2, 3), dtype=np.float64), 1e-9)
    overall = math.sqrt(float(np.mean(spread**2)))
    return mean.astype(np.float32), (spread**0.25 * overall**0.75).astype(np.float32)


def flips(x: Array) -> Array:
    """The chips and their mirror images, (4 n, ...); as a basis they regularise PCA."""
    return np.concatenate([x, x[:, :, ::-1], x[:, :, :, ::-1], x[:, :, ::-1, ::-1]])


def principal(centred: Array, count: int) -> tuple[Array, Array]:
    """The first `count` principal axes (d, count) of rows (n, d) and their standard deviations
    (count,); when there are fewer, zeros follow."""
    n, d = centred.shape
    if n <= d:
        values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
        keep = min(count, int((values > 1e-9 * max(values[-1], 1e-30)).sum()))
        values, vectors = values[::-1][:keep], vectors[:, ::-1][:, :keep]
        axes = centred.T @ (vectors / np.sqrt(values)).astype(np.float32)
    else:
        values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        values, axes = values[::-1][:count], vectors[:, ::-1][:, :count]
    out, spread = np.zeros((d, count), np.float32), np.zeros(count, np.float32)
    out[:, : axes.shape[1]] = axes
    spread[: len(values)] = np.sqrt(np.maximum(values, 0) / n)
    return out, spread


def _wide_parts(arch: Architecture, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Many patch components (patch, m), and their shares in chips and mirror images (4 n, d)."""
    few = START_PATCHES // len(x) + 1
    sample, shares = [], []
    for part in batches(x):
        patches = model.space_to_depth(flips(part), arch.stride).transpose(0, 2, 3, 1)
        patches = patches.reshape(-1, arch.patch)
        sample.append(patches[rng.permutation(len(patches))[: few * len(part)]])
    wide = principal(np.concatenate(sample), min(WIDE_BASIS, arch.patch))[0]
    for part in batches(x):
        patches = model.space_to_depth(flips(part), arch.stride)
        found = np.einsum("npij,pk->nkij", patches, wide, optimize=True)
        shares.append(found.reshape(len(patches), -1))
    return wide, np.concatenate(shares)


def _turn(y: Array, turn: Array, arch: Architecture) -> Array:
    """Shares (n, m h w) of wide components as shares (n, basis h w) of the basis."""
    parts = y.reshape(len(y), len(turn), *arch.grid)
    found: Array = np.einsum("nmij,mk->nkij", parts, turn, optimize=True)
    return found.reshape(len(y), -1)


def style_map(arch: Architecture, x: Array) -> tuple[Array, Array]:
    """Half-whitened principal components of the standardised statistics."""
    found = statistics(x)
    mean, spread = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-3)
    weight = np.where(np.arange(found.shape[1]) < arch.bands, MEAN_WEIGHT, 1.0) / spread
    axes, sizes = principal((found - mean) * weight.astype(np.float32), arch.style)
    sizes = np.maximum(sizes, 1e-3)
    scale = 1 / np.sqrt(sizes * sizes[0])
    return mean, (axes.T * weight * scale[:, None]).astype(np.float32)


def _fit_prior(style: Array, detail: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Ridge regression of detail (n, dim - style) and of its log magnitude on the style numbers
    and on hinges: random directions that bend at random chips.

    Detail is divided by that magnitude to the power COMPANDING (after Bennett 1948): a half
    costs least in all when every number is rounded to one step, one is fair to each tile.
    """
    count = model.PRIOR_UNITS
    units = rng.normal(size=(count, style.shape[1])) / style.std(axis=0).clip(1e-3)
    units = (units / np.sqrt(style.shape[1])).astype(np.float32)
    bias = -(units * style[rng.integers(0, len(style), count)]).sum(axis=1)
    hinges = {"units": units, "units_bias": bias}
    features = model.prior_features(hinges, style)
    # As if as many chips as features foretold nothing: few chips would foretell themselves.
    ridge = features.shape[1] / len(features)
    slope, level, mean = _regress(features, detail, ridge)
    size = np.sqrt(np.mean((detail - mean) ** 2, axis=1, keepdims=True))
    # Below a hundredth of the mean there is nothing to tell apart.
    logs = np.log(size / max(float(size.mean()), 1e-9) + 1e-2)
    steep, low, _ = _regress(features, logs, ridge)
    return {
        **hinges,
        "prior": np.concatenate([slope, COMPANDING * steep], axis=1).T.copy(),
        "prior_bias": np.concatenate([level, COMPANDING * low]),
    }


def _regress(a: Array, y: Array, ridge: float) -> tuple[Array, Array, Array]:
    """Ridge regression of y on a: slope (p, d), level (d,), and the fit (n, d)."""
    mean, level = a.mean(axis=0), y.mean(axis=0)
    centred = (a - mean).astype(np.float64)
    gram = centred.T @ centred + ridge * len(a) * np.eye(a.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (y - level)).astype(np.float32)
    return slope, level - mean @ slope, (a - mean) @ slope + level


def noise(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """He initialisation; biases start at zero."""
    if name.endswith("bias") or len(shape) == 1:
        return np.zeros(shape, np.float32)
    fan = int(np.prod(shape[1:]))
    return rng.normal(0, 0.7 * math.sqrt(1 / fan), shape).astype(np.float32)


def batches(x: Array, size: int = 64) -> list[Array]:
    """Chips (n, ...) in parts of at most `size`."""
    return [x[start : start + size] for start in range(0, len(x), size)]
