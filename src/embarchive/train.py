"""Fit the archive-wide VAE, a region's adapter, or a region's whole VAE. The torch room.

The objective is squared error plus beta times the Kullback-Leibler divergence to a unit normal
(Kingma and Welling 2014). The networks start as principal components, so that a short training
only improves on them. Deterministic for a seed on one machine type with a fixed number of
threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embarchive import model
from embarchive.errors import BadInput
from embarchive.model import Architecture, Array, statistics
from embarchive.recipe import Recipe

Step = Callable[[int, int], None]
Params = dict[str, Tensor]

LEARNING_RATE = 1.5e-3
# The linear maps start at principal components; they move thirty times slower.
LINEAR = ("encoder.patch", "encoder.dense", "decoder.dense", "decoder.patch")
LINEAR_SHARE = 0.03
# Band means lead the statistics; details stay small, so that distances follow the statistics.
# Both were chosen by label precision on EuroSAT, see docs/decisions.
MEAN_WEIGHT = 1.5
DETAIL_SPREAD = 0.12
STYLE_LIMIT = model.STYLE_LIMIT
BASIS_SAMPLE, DENSE_SAMPLE, START_BYTES = 20_000, 3_000, 64 << 20


@dataclass(frozen=True)
class Fitted:
    """Weights of an encoder and its decoder, float32, named as `Architecture.shapes` says."""

    encoder: dict[str, Array]
    decoder: dict[str, Array]


def fit(arch: Architecture, chips: Array, recipe: Recipe, step: Step) -> Fitted:
    """A VAE fitted to chips float32 (n, bands, height, width), recipe units.

    `step(done, total)` is called after each step. Raises BadInput below 8 chips.
    """
    if len(chips) < 8:
        raise BadInput(f"train: expected at least 8 training tiles, found {len(chips)}")
    rng = np.random.default_rng(recipe.seed)
    mean, std = normaliser(chips)
    x = (chips - mean[:, None, None]) / std[:, None, None]
    room = max(8, min(DENSE_SAMPLE, START_BYTES // x[0].nbytes))
    encoder, decoder = _start(arch, flips(x[rng.permutation(len(x))[:room]]), rng)
    for weights in (encoder, decoder):
        weights.update(mean=mean, std=std)
    return _settle(_descend(arch, Fitted(encoder, decoder), x, recipe, step), arch, chips)


def refit(arch: Architecture, start: Fitted, chips: Array, recipe: Recipe) -> Fitted:
    """A region's own VAE: the archive-wide one trained on with the region's chips alone."""
    mean, std = start.encoder["mean"], start.encoder["std"]
    x = (chips - mean[:, None, None]) / std[:, None, None]
    # Few tiles: as many steps as the archive-wide network had only learn them by heart.
    short = replace(recipe, steps=max(1, 2 * recipe.adapter_steps))
    return _descend(arch, start, x, short, lambda done, total: None, rate=LEARNING_RATE / 10)


def fit_adapter(
    arch: Architecture, backbone: model.Weights, z: Array, chips: Array, recipe: Recipe
) -> dict[str, Array]:
    """A region's adapter for stored vectors z float32 (n, dim) of chips in recipe units."""
    adapter = {name: np.zeros(s, np.float32) for name, s in arch.shapes("adapter").items()}
    adapter["z_scale"] += 1
    adapter["gain"] += 1
    params = {name: torch.tensor(value, requires_grad=True) for name, value in adapter.items()}
    fixed = {name: torch.tensor(value) for name, value in backbone.items()}
    mean, std = fixed["mean"][:, None, None], fixed["std"][:, None, None]
    x, codes = (torch.tensor(chips) - mean) / std, torch.tensor(z)
    optimiser = torch.optim.Adam(params.values(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, recipe.adapter_steps))
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.adapter_steps):
        pick = torch.randint(0, len(x), (min(64, len(x)),), generator=generator)
        error = (decode(arch, fixed, params, codes[pick]) - x[pick]).square().mean()
        # Shrinks towards the backbone, which a region of few tiles cannot better much.
        drift = sum((p - torch.tensor(adapter[k])).square().sum() for k, p in params.items())
        _advance(error + drift / len(x), optimiser, list(params.values()))
        schedule.step()
    return {name: value.detach().numpy() for name, value in params.items()}


def pca_error(train: Array, test: Array, dim: int) -> float:
    """Mean squared error on test chips of PCA with `dim` numbers fitted to train chips."""
    a, b = train.reshape(len(train), -1), test.reshape(len(test), -1)
    mean = a.mean(axis=0)
    basis, _ = principal(a - mean, dim)
    rest = (b - mean) - ((b - mean) @ basis) @ basis.T
    return float(np.mean(rest.astype(np.float64) ** 2))


def tile_mean_error(chips: Array) -> float:
    """Mean squared error of giving each chip's band means as its picture."""
    return float(np.mean((chips - chips.mean(axis=(2, 3), keepdims=True)).astype(np.float64) ** 2))


def normaliser(chips: Array) -> tuple[Array, Array]:
    """Per band mean and divisor: the geometric mean of the band's spread and the overall one.

    Half-way between equal bands and recipe units: faint bands keep their detail and the
    error in recipe units stays small.
    """
    mean = chips.mean(axis=(0, 2, 3), dtype=np.float64)
    spread = np.maximum(chips.std(axis=(0, 2, 3), dtype=np.float64), 1e-9)
    overall = math.sqrt(float(np.mean(spread**2)))
    return mean.astype(np.float32), np.sqrt(spread * overall).astype(np.float32)


def flips(x: Array) -> Array:
    """The chips and their mirror images, (4 n, ...); as a basis they regularise PCA."""
    return np.concatenate([x, x[:, :, ::-1], x[:, :, :, ::-1], x[:, :, ::-1, ::-1]])


def _flip(x: Array, way: float) -> Array:
    # One way for a whole batch: as good as one a chip, and no copy of each.
    return np.ascontiguousarray(x[:, :, :: 1 - 2 * (int(way) & 1), :: 1 - 2 * (int(way) >> 1)])


# ---------------------------------------------------------------- the network in torch


def encode(arch: Architecture, w: Mapping[str, Tensor], x: Tensor, style: Tensor) -> Tensor:
    """mu of normalised chips whose style numbers are given; twin of `model.encode_batch`."""
    patches = _down(x, arch.stride)
    linear = F.conv2d(patches, w["patch"][:, :, None, None]).flatten(1)
    linear = linear @ w["dense"].T + w["dense_bias"]
    g = _conv(w, "conv1", _down(x, arch.stride // 2))
    g = F.leaky_relu(g, model.SLOPE)
    g = F.leaky_relu(_conv(w, "conv2", g, stride=2), model.SLOPE)
    g = F.leaky_relu(_conv(w, "conv3", g) + g, model.SLOPE)
    return torch.cat([style, linear + g.flatten(1) @ w["out"].T + w["out_bias"]], dim=1)


def decode(
    arch: Architecture, w: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None, z: Tensor
) -> Tensor:
    """Normalised chips of vectors; twin of `model.decode_batch` without de-normalising."""
    if adapter is not None:
        z = z * adapter["z_scale"] + adapter["z_shift"]
    f = (z @ w["dense"].T + w["dense_bias"]).reshape(-1, arch.basis, *arch.grid)
    image = _up(_mix(w, "patch", f), arch.stride)
    g = _up(_mix(w, "up", f), 2)
    m = z @ w["film"].T + w["film_bias"]
    if adapter is not None:
        m = m + adapter["film"]
    m = m.reshape(-1, arch.blocks, 2, arch.channels, 1, 1)
    for i in range(arch.blocks):
        t = F.leaky_relu(_conv(w, f"block{i}.a", g), model.SLOPE)
        t = t * (1 + m[:, i, 0]) + m[:, i, 1]
        g = g + _conv(w, f"block{i}.b", F.leaky_relu(t, model.SLOPE))
    image = image + _up(_mix(w, "head", F.leaky_relu(g, model.SLOPE)), arch.stride // 2)
    if adapter is not None:
        image = image * adapter["gain"][:, None, None] + adapter["bias"][:, None, None]
    return image


def _conv(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, w[name], w[f"{name}_bias"], stride=stride, padding=1)


def _mix(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, w[name][:, :, None, None], w[f"{name}_bias"])


def _down(x: Tensor, s: int) -> Tensor:
    return F.pixel_unshuffle(x, s)


def _up(x: Tensor, s: int) -> Tensor:
    return F.pixel_shuffle(x, s)


# ---------------------------------------------------------------- fitting


def _start(
    arch: Architecture, x: Array, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Weights that are principal components: of the statistics, the patches, the chips."""
    encoder = {name: _noise(name, s, rng) for name, s in arch.shapes("encoder").items()}
    decoder = {name: _noise(name, s, rng) for name, s in arch.shapes("backbone").items()}
    encoder["out"][:] = 0
    decoder["film"][:] = 0
    decoder["head"][:] = 0
    encoder["statistics_mean"], encoder["statistics_map"] = _style_map(arch, x)
    style = style_numbers(encoder, x)
    patches = model.space_to_depth(x, arch.stride).transpose(0, 2, 3, 1).reshape(-1, arch.patch)
    sample = patches[rng.permutation(len(patches))[:BASIS_SAMPLE]]
    basis, _ = principal(sample, arch.basis)
    encoder["patch"], decoder["patch"] = basis.T.copy(), basis.copy()
    parts = (patches @ basis).reshape(len(x), *arch.grid, arch.basis)
    y = parts.transpose(0, 3, 1, 2).reshape(len(x), -1)
    rest = y - _regress(style, y)[2]
    axes, spread = principal(rest - rest.mean(axis=0), arch.dim - arch.style)
    largest = np.float32(max(float(spread[0]), 1e-6))
    encoder["dense"] = axes.T / largest
    detail = y @ encoder["dense"].T
    encoder["dense_bias"] = -detail.mean(axis=0)
    z = np.concatenate([style, detail + encoder["dense_bias"]], axis=1)
    slope, level, _ = _regress(z, y)
    decoder["dense"], decoder["dense_bias"] = slope.T.copy(), level
    return encoder, decoder


def _descend(
    arch: Architecture, start: Fitted, x: Array, recipe: Recipe, step: Step, rate: float = 0.0
) -> Fitted:
    """Adam on the evidence lower bound with a one-cycle rate; one log variance a number."""
    rate = rate or LEARNING_RATE
    params = _tensors(start)
    frozen = {f"encoder.{k}" for k in ("mean", "std", "statistics_mean", "statistics_map")}
    frozen |= {"decoder.mean", "decoder.std"}
    spread = torch.tensor(_spread(arch, start, x[: 4 * recipe.batch]))
    log_variance = (2 * torch.log(0.1 * spread + 1e-6)).requires_grad_(True)
    linear = [params[name].requires_grad_(True) for name in LINEAR]
    other = [p for name, p in params.items() if name not in frozen and name not in LINEAR]
    other = [log_variance, *(p.requires_grad_(True) for p in other)]
    groups = [{"params": linear}, {"params": other}]
    optimiser = torch.optim.Adam(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [rate * LINEAR_SHARE, rate], total_steps=recipe.steps + 1, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    encoder = {k[8:]: v for k, v in params.items() if k.startswith("encoder.")}
    decoder = {k[8:]: v for k, v in params.items() if k.startswith("decoder.")}
    for done in range(recipe.steps):
        pick = torch.randint(0, len(x), (recipe.batch,), generator=generator).numpy()
        chips = _flip(x[pick], torch.randint(0, 4, (1,), generator=generator).item())
        batch, style = torch.tensor(chips), torch.tensor(style_numbers(start.encoder, chips))
        mu = encode(arch, encoder, batch, style)
        noise = torch.randn(mu.shape, generator=generator)
        image = decode(arch, decoder, None, mu + torch.exp(0.5 * log_variance) * noise)
        kld = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum(dim=1).mean()
        _advance((image - batch).square().mean() + recipe.beta * kld, optimiser, linear + other)
        schedule.step()
        step(done + 1, recipe.steps)
    found = {name: value.detach().numpy().copy() for name, value in params.items()}
    return Fitted(
        {k[8:]: v for k, v in found.items() if k.startswith("encoder.")},
        {k[8:]: v for k, v in found.items() if k.startswith("decoder.")},
    )


def _settle(found: Fitted, arch: Architecture, chips: Array) -> Fitted:
    """Scale the detail numbers to their share of a distance, and the decoder inversely."""
    sample = chips[:: max(1, len(chips) // DENSE_SAMPLE)]
    mu = np.concatenate(
        [model.encode_batch(arch, found.encoder, part) for part in _batches(sample)]
    )
    spread = np.maximum(mu[:, arch.style :].std(axis=0), 1e-6)
    target = DETAIL_SPREAD * np.sqrt(spread / spread.max())
    gain = (target / spread).astype(np.float32)
    encoder, decoder = dict(found.encoder), dict(found.decoder)
    for name in ("dense", "out"):
        encoder[name] = encoder[name] * gain[:, None]
        encoder[f"{name}_bias"] = encoder[f"{name}_bias"] * gain
    whole = np.concatenate([np.ones(arch.style, np.float32), gain])
    for name in ("dense", "film"):
        decoder[name] = decoder[name] / whole
    return Fitted(encoder, decoder)


def _style_map(arch: Architecture, x: Array) -> tuple[Array, Array]:
    """Half-whitened principal components of the standardised statistics."""
    found = statistics(x)
    mean, spread = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-3)
    weight = np.where(np.arange(found.shape[1]) < arch.bands, MEAN_WEIGHT, 1.0) / spread
    axes, sizes = principal((found - mean) * weight.astype(np.float32), arch.style)
    sizes = np.maximum(sizes, 1e-3)
    scale = 1 / np.sqrt(sizes * sizes[0])
    return mean, (axes.T * weight * scale[:, None]).astype(np.float32)


def style_numbers(encoder: Mapping[str, Array], x: Array) -> Array:
    """The style part of mu, float32 (n, style), of normalised chips."""
    found = (statistics(x) - encoder["statistics_mean"]) @ encoder["statistics_map"].T
    return np.clip(found, -STYLE_LIMIT, STYLE_LIMIT).astype(np.float32)


def _spread(arch: Architecture, start: Fitted, x: Array) -> Array:
    with torch.no_grad():
        weights = {k: torch.tensor(v) for k, v in start.encoder.items()}
        mu = encode(arch, weights, torch.tensor(x), torch.tensor(style_numbers(start.encoder, x)))
    return np.asarray(mu.std(dim=0).numpy(), dtype=np.float32)


def principal(centred: Array, count: int) -> tuple[Array, Array]:
    """The first `count` principal axes (d, count) and their standard deviations; when there
    are fewer, zeros follow."""
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


def _regress(a: Array, y: Array) -> tuple[Array, Array, Array]:
    """Ridge regression of y on a: slope (p, d), level (d,), and the fit (n, d)."""
    mean, level = a.mean(axis=0), y.mean(axis=0)
    centred = (a - mean).astype(np.float64)
    gram = centred.T @ centred + 1e-4 * len(a) * 1e-2 * np.eye(a.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (y - level)).astype(np.float32)
    return slope, level - mean @ slope, (a - mean) @ slope + level


def _noise(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """He initialisation; biases start at zero."""
    if name.endswith("bias") or len(shape) == 1:
        return np.zeros(shape, np.float32)
    fan = int(np.prod(shape[1:]))
    return rng.normal(0, 0.7 * math.sqrt(1 / fan), shape).astype(np.float32)


def _tensors(fitted: Fitted) -> Params:
    found = {f"encoder.{k}": torch.tensor(v) for k, v in fitted.encoder.items()}
    return {**found, **{f"decoder.{k}": torch.tensor(v) for k, v in fitted.decoder.items()}}


def _advance(loss: Tensor, optimiser: torch.optim.Optimizer, params: list[Tensor]) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimiser.step()


def _batches(x: NDArray[np.float32], size: int = 256) -> list[Array]:
    return [x[start : start + size] for start in range(0, len(x), size)]
