"""Fit the archive-wide VAE, or a region's whole VAE.

The objective is squared error, a tile's divided by its foretold scale, plus beta times the
Kullback-Leibler divergence to a unit normal (Kingma and Welling 2014), plus the absolute error of
the indices times their weight. The networks start as
principal components, so that a short training only improves on them. Deterministic for a seed on
one machine type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embarchive import model, tensors
from embarchive.components import Fitted, batches, begin, normaliser, settle
from embarchive.errors import BadInput
from embarchive.indices import NO_TARGET, IndexTarget
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe

# Sums come out the same on any number of cores; beside other busy processes two threads took
# four times as long as one, and on an idle machine they gained a fifth. Parallelism comes from
# worker processes.
torch.set_num_threads(1)

Step = Callable[[int, int], None]
Params = dict[str, Tensor]

LEAST_TILES = 8
# A number of mu is collapsed when it varies with the tiles by less than this share of its posterior
# variance: .07 bits. With this share of them collapsed there is no code. Chips that are looked at.
COLLAPSED, MOST_COLLAPSED, MOST_SEEN = 0.1, 0.9, 512
_log = logging.getLogger("embarchive")
LEARNING_RATE = 1.5e-3
# More passes over few tiles learn them by heart.
MOST_PASSES = 60
# The linear maps start at principal components; they move thirty times slower. What joins the
# correction to them starts at zero, and moves three times slower: the size of a step of Adam does
# not depend on the error, and the first ones would drown what is dark.
LINEAR = ("encoder.patch", "encoder.dense", "decoder.dense", "decoder.patch")
JOINS = ("encoder.out", "decoder.head", "decoder.film")
SHARES = dict.fromkeys(LINEAR, 0.03) | {
    f"{name}{end}": 0.3 for name in JOINS for end in ("", "_bias")
}
# Both sides hold the prior, so it stays as it was fitted.
PRIOR = ("units", "units_bias", "prior", "prior_bias")
FROZEN = (
    *(f"encoder.{name}" for name in ("mean", "std", "step", "statistics_mean", "statistics_map")),
    *(f"decoder.{name}" for name in ("mean", "std")),
    *(f"{side}.{name}" for side in ("encoder", "decoder") for name in PRIOR),
)


def fit(
    arch: Architecture,
    chips: Array,
    recipe: Recipe,
    step: Step,
    target: IndexTarget = NO_TARGET,
) -> Fitted:
    """A VAE fitted to chips float32 (n, bands, height, width), recipe units.

    `step(done, total)` is called after each step. Raises BadInput below 8 chips, and where
    beta left (nearly) no number of detail that tells anything of a chip.
    """
    if len(chips) < LEAST_TILES:
        raise BadInput(f"train: expected at least {LEAST_TILES} training tiles, found {len(chips)}")
    rng = np.random.default_rng(recipe.seed)
    mean, std = normaliser(chips)
    x = (chips - mean[:, None, None]) / std[:, None, None]
    start = begin(arch, x, rng)
    for weights in (start.encoder, start.decoder):
        weights.update(mean=mean, std=std)
    plan = Descent(recipe, target, LEARNING_RATE, step)
    found, variance = _descend(arch, start, x, plan)
    some = x[:: max(1, -(-len(x) // MOST_SEEN))]
    before, after = (_detail(arch, each, some).var(axis=0) for each in (start, found))
    count = _check_collapse(before, after, variance[arch.style :], recipe.beta)
    return settle(replace(found, collapsed=count), arch, chips)


def refit(
    arch: Architecture,
    start: Fitted,
    chips: Array,
    recipe: Recipe,
    target: IndexTarget = NO_TARGET,
) -> Fitted:
    """A region's own VAE: the archive-wide one trained on with the region's chips alone, float32
    (n, bands, height, width), recipe units."""
    mean, std = start.encoder["mean"], start.encoder["std"]
    x = (chips - mean[:, None, None]) / std[:, None, None]
    # Few tiles: as many steps as the archive-wide network had only learn them by heart.
    short = replace(recipe, steps=max(1, 2 * recipe.adapter_steps))
    plan = Descent(short, target, LEARNING_RATE / 10, lambda done, total: None)
    return _descend(arch, start, x, plan)[0]


def _check_collapse(before: Array, after: Array, posterior: Array, beta: float) -> int:
    """How many numbers of detail collapsed, of which all variances (detail,) are given: as the
    networks started, as they are, and of the posterior. Raises BadInput when nearly all did.

    A number that had nothing to tell from the start, as with few tiles, is not beta's doing.
    """
    alive = before > 1e-6 * max(float(before.max()), 1e-12)
    count = int((alive & (after < COLLAPSED * posterior)).sum())
    said = f"{count} of {alive.sum()} numbers of detail collapsed at beta {beta:g}; lower beta"
    if count and count >= MOST_COLLAPSED * alive.sum():
        raise BadInput(f"train: expected a code that varies with the tiles, found {said}")
    if count:
        _log.warning("train: %s", said)
    return count


def _detail(arch: Architecture, fitted: Fitted, x: Array) -> Array:
    """The detail of mu (n, dim - style) of normalised chips."""
    w = {name: torch.tensor(value) for name, value in fitted.encoder.items()}
    found = []
    with torch.no_grad():
        for some in batches(x):
            style = torch.tensor(model.style_numbers(fitted.encoder, some))
            found.append(encode(arch, w, torch.tensor(some), style)[:, arch.style :].numpy())
    return np.concatenate(found)


def flip(x: Array, way: float) -> Array:
    """Chips turned over one of four ways, 0 to 3, of which 0 leaves them."""
    # One way for a whole batch: as good as one a chip, and no copy of each.
    return np.ascontiguousarray(x[:, :, :: 1 - 2 * (int(way) & 1), :: 1 - 2 * (int(way) >> 1)])


# ---------------------------------------------------------------- the network in torch


def encode(arch: Architecture, w: Mapping[str, Tensor], x: Tensor, style: Tensor) -> Tensor:
    """mu of normalised chips whose style numbers are given; twin of `model.encode_batch`."""
    patches = _down(x, arch.stride)
    linear = F.conv2d(patches, w["patch"][:, :, None, None]).flatten(1)
    linear = linear @ w["dense"].T + w["dense_bias"]
    g = convolved(w, x, arch.stride)
    detail = linear + g.flatten(1) @ w["out"].T + w["out_bias"]
    mean, scale = _prior(w, style)
    return torch.cat([style, (detail - mean) / scale], dim=1)


def convolved(w: Mapping[str, Tensor], x: Tensor, stride: int) -> Tensor:
    """What the encoder's convolutions find in normalised chips, (n, channels, h, w) on the grid."""
    g = F.leaky_relu(_conv(w, "conv1", _down(x, stride // 2)), model.SLOPE)
    g = F.leaky_relu(_conv(w, "conv2", g, stride=2), model.SLOPE)
    return F.leaky_relu(_conv(w, "conv3", g) + g, model.SLOPE)


def decode(
    arch: Architecture, w: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None, z: Tensor
) -> Tensor:
    """Normalised chips of vectors; twin of `model.decode_batch` without de-normalising."""
    style, detail = z[:, : arch.style], z[:, arch.style :]
    mean, scale = _prior(w, style)
    z = torch.cat([style, detail * scale + mean], dim=1)
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


def _prior(w: Mapping[str, Tensor], style: Tensor) -> tuple[Tensor, Tensor]:
    units = F.leaky_relu(style @ w["units"].T + w["units_bias"], model.SLOPE)
    found = torch.cat([style, units], dim=1) @ w["prior"].T + w["prior_bias"]
    limit = model.LOG_SCALE_LIMIT
    return found[:, :-1], found[:, -1:].clamp(-limit, limit).exp()


def _conv(w: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, w[name], w[f"{name}_bias"], stride=stride, padding=1)


def _mix(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, w[name][:, :, None, None], w[f"{name}_bias"])


def _down(x: Tensor, s: int) -> Tensor:
    return F.pixel_unshuffle(x, s)


def _up(x: Tensor, s: int) -> Tensor:
    return F.pixel_shuffle(x, s)


# ---------------------------------------------------------------- fitting


@dataclass(frozen=True)
class Descent:
    """How to train, what for, and whom to tell."""

    recipe: Recipe
    target: IndexTarget
    rate: float
    step: Step


def one_cycle(
    optimiser: torch.optim.Optimizer, rates: list[float], steps: int, start: float
) -> torch.optim.lr_scheduler.OneCycleLR:
    """A schedule that rises to the rates, one a group, from a `start`-th of them in a tenth of the
    steps, and then falls (Smith & Topin 2018)."""
    # torch divides by the steps of the rise, less one.
    rise = max(0.1, 2 / (steps + 1))
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps + 1, pct_start=min(rise, 1.0), div_factor=start
    )


def _descend(arch: Architecture, start: Fitted, x: Array, plan: Descent) -> tuple[Fitted, Array]:
    """Adam with a one-cycle rate; one learned log variance a number of mu, shared by all tiles.
    Gives the variances (dim,), too."""
    recipe, rate = plan.recipe, plan.rate
    steps = min(recipe.steps, -(-MOST_PASSES * len(x) // recipe.batch))
    params = _tensors(start)
    variance = _variance(arch, start, x[:: max(1, len(x) // 16)], recipe.beta)
    params["log_variance"] = torch.log(torch.tensor(variance))
    groups: dict[float, list[Tensor]] = {}
    for name, value in params.items():
        if name not in FROZEN:
            groups.setdefault(SHARES.get(name, 1.0), []).append(value.requires_grad_(True))
    optimiser = torch.optim.Adam([{"params": some} for some in groups.values()], lr=rate)
    schedule = one_cycle(optimiser, [rate * share for share in groups], steps, 1000)
    learned = [value for some in groups.values() for value in some]
    generator = torch.Generator().manual_seed(recipe.seed)
    encoder, decoder = tensors.part(params, "encoder."), tensors.part(params, "decoder.")
    for done in range(steps):
        pick = torch.randint(0, len(x), (recipe.batch,), generator=generator).numpy()
        chips = flip(x[pick], torch.randint(0, 4, (1,), generator=generator).item())
        batch, style = torch.tensor(chips), torch.tensor(model.style_numbers(start.encoder, chips))
        mu, log_variance = encode(arch, encoder, batch, style), params["log_variance"]
        noise = torch.randn(mu.shape, generator=generator)
        image = decode(arch, decoder, None, mu + torch.exp(0.5 * log_variance) * noise)
        # Faint tiles count more: unweighted, nothing is learned of them.
        weight = 1 / _prior(decoder, style)[1][:, 0]
        error = (image - batch).square().mean(dim=(1, 2, 3)) @ weight / weight.sum()
        kld = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum(dim=1).mean()
        loss = error + recipe.beta * kld
        if plan.target:
            loss = loss + plan.target.weight * index_error(plan.target, decoder, image, batch)
        advance(loss, optimiser, learned)
        schedule.step()
        plan.step(done + 1, steps)
    found = {name: value.detach().numpy().copy() for name, value in params.items()}
    fitted = Fitted(tensors.part(found, "encoder."), tensors.part(found, "decoder."))
    return fitted, np.exp(found["log_variance"])


def index_error(target: IndexTarget, w: Mapping[str, Tensor], image: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error of the indices of normalised images (n, bands, height, width) beside
    those of x; dark pixels of x count as right. `frozen` has its slope."""
    found = image.new_zeros(())
    floors = target.floors(w["mean"].numpy())
    for (a, b), floor in zip(target.pairs, floors, strict=True):
        pair = [a, b]
        mean, std = w["mean"][pair, None, None], w["std"][pair, None, None]
        made, known = image[:, pair] * std + mean, x[:, pair] * std + mean
        bright = known.sum(dim=1) >= floor
        gap = (_index(made, floor) - _index(known, floor)).abs()
        found = found + (gap * bright).mean() / len(target.pairs)
    return found


def _index(pair: Tensor, floor: float) -> Tensor:
    total = pair.sum(dim=1).clamp(min=floor)
    return ((pair[:, 0] - pair[:, 1]) / total).clamp(-1, 1)


def _variance(arch: Architecture, start: Fitted, x: Array, beta: float) -> Array:
    """The posterior variance (dim,) that is best for the networks as they start, where the
    slope of the squared error meets that of the divergence. Adam alone would take too long."""
    weights = _tensors(start)
    encoder, decoder = tensors.part(weights, "encoder."), tensors.part(weights, "decoder.")
    slope = np.zeros(arch.dim)
    with torch.no_grad():
        style = torch.tensor(model.style_numbers(start.encoder, x))
        for one in encode(arch, encoder, torch.tensor(x), style):
            near = decode(arch, decoder, None, one + 0.01 * torch.eye(arch.dim))
            change = near - decode(arch, decoder, None, one[None])
            slope += (change / 0.01).square().mean(dim=(1, 2, 3)).numpy() / len(x)
    return np.asarray(beta / (2 * slope + beta) + 1e-8, dtype=np.float32)


def _tensors(fitted: Fitted) -> Params:
    found = {f"encoder.{k}": torch.tensor(v) for k, v in fitted.encoder.items()}
    return {**found, **{f"decoder.{k}": torch.tensor(v) for k, v in fitted.decoder.items()}}


def advance(loss: Tensor, optimiser: torch.optim.Optimizer, params: list[Tensor]) -> None:
    """One step down a loss, its slope clipped to a norm of one."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimiser.step()
