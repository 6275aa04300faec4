"""Train the network that mends coded pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embarchive import model, train
from embarchive.model import Array
from embarchive.refine import BLOCKS, STRIDE, Shape
from embarchive.refine import refine as apply

LEARNING_RATE = 2e-3
BATCH = 16
# More passes over few tiles learn them by heart.
MOST_PASSES = 60
FIXED = ("mean", "std", "noise")


def fit(
    shape: Shape,
    coded: Array,
    images: Array,
    steps: int,
    seed: int,
    step: Callable[[int, int], None],
) -> dict[str, Array]:
    """Weights that turn coded pictures into images, both float32 (n, bands, height, width)."""
    rng = np.random.default_rng(seed)
    start = _begin(shape, coded, images, rng)
    weights = {name: torch.tensor(value) for name, value in start.items()}
    learned = [value.requires_grad_(True) for name, value in weights.items() if name not in FIXED]
    steps = min(steps, -(-MOST_PASSES * len(coded) // BATCH))
    optimiser = torch.optim.Adam(learned, lr=LEARNING_RATE)
    schedule = train.one_cycle(optimiser, [LEARNING_RATE], steps, 100)
    noise = start["noise"]
    for done in range(steps):
        pick = rng.integers(0, len(coded), BATCH)
        down, across = 1 - 2 * rng.integers(0, 2, 2)
        x, y = (
            torch.from_numpy(np.ascontiguousarray(some[pick][:, :, ::down, ::across]))
            for some in (coded, images)
        )
        loss = ((torch_refine(weights, x) - y) / float(noise[0])).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
        step(done + 1, steps)
    return {name: value.detach().numpy().copy() for name, value in weights.items()}


def gain(weights: dict[str, Array], coded: Array, images: Array) -> float:
    """Mean squared error with the network over that without it."""
    without = float(((coded - images) ** 2).mean())
    return float(((apply(weights, coded) - images) ** 2).mean()) / max(without, 1e-30)


def torch_refine(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Twin of `refine.refine`."""
    x = (images - weights["mean"][:, None, None]) / weights["std"][:, None, None]
    g = _conv(weights, "in", F.pixel_unshuffle(x, STRIDE))
    for i in range(BLOCKS):
        t = _conv(weights, f"block{i}.a", F.leaky_relu(g, model.SLOPE))
        g = g + _conv(weights, f"block{i}.b", F.leaky_relu(t, model.SLOPE))
    g = F.pixel_shuffle(_conv(weights, "out", F.leaky_relu(g, model.SLOPE)), STRIDE)
    return images + g * weights["noise"]


def _conv(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, weights[name], weights[f"{name}_bias"], padding=1)


def _begin(shape: Shape, coded: Array, images: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Weights that change nothing, and look at the bands' principal components: what tells bands
    apart is faint beside what they share."""
    mean = coded.mean(axis=(0, 2, 3))
    std = np.maximum(coded.std(axis=(0, 2, 3)), 1e-6)
    flat = ((coded - mean[:, None, None]) / std[:, None, None]).transpose(1, 0, 2, 3)
    values, vectors = np.linalg.eigh(np.cov(flat.reshape(len(mean), -1)).reshape(len(mean), -1))
    noise = float(np.sqrt(((coded - images) ** 2).mean()))
    floor = (noise / std.mean()) ** 2
    whiten = vectors / np.sqrt(np.maximum(values, floor))
    weights: dict[str, Array] = {}
    for name, size in shape.tensors().items():
        fan = float(np.prod(size[1:])) if len(size) > 1 else 1.0
        drawn = rng.standard_normal(size) * np.sqrt(1 / fan) if len(size) > 1 else np.zeros(size)
        weights[name] = drawn.astype(np.float32)
    first = weights["in"].reshape(shape.channels, shape.bands, STRIDE**2, 3, 3)
    mixed = np.einsum("kcsuv,bc->kbsuv", first, whiten)
    weights["in"] = mixed.reshape(weights["in"].shape).astype(np.float32)
    weights["out"][:] = 0
    return weights | {
        "mean": mean.astype(np.float32),
        "std": std.astype(np.float32),
        "noise": np.array([noise], np.float32),
    }
