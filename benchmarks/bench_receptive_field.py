"""Does a vector see its whole chip? Radii that hold the gradient of mu in the pixels.

Real data from EMBARCHIVE_DATA or ../shared/data: networks trained with the default recipe, held-out
chips. The mass of a pixel is the sum of |d mu / d pixel| over its (normalised) bands and over the
numbers of a part: statistics, detail or all. radius50 and radius90: pixels about the chip's centre
that hold 50 and 90 % of the mass; even50 and even90: where every pixel has the same mass;
zero_share: pixels with less than a hundredth of the mean mass. After "effective receptive fields",
Luo et al. 2016. A chip is seen whole where the radii are near the even ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import report
import torch
from bench_first_light import SETS, say
from bench_metric_loss import TITLES, Cut, cut
from numpy.typing import NDArray
from torch import Tensor

from embarchive import indices, model, train
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe

CHIPS = 64
ZERO = 0.01
Mass = NDArray[np.float64]


def statistics(x: Tensor) -> Tensor:
    """Twin of `model.statistics`."""
    found, level = [x.mean(dim=(2, 3))], x
    for _ in range(model.SCALES):
        coarse = torch.nn.functional.avg_pool2d(level, 2)
        gap = level - coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        found.append(torch.log(torch.sqrt(gap.square().mean(dim=(2, 3)) + 1e-4) + 0.02))
        level = coarse
    spread = level.var(dim=(2, 3), unbiased=False)
    found.append(torch.log(torch.sqrt(spread + 1e-4) + 0.02))
    return torch.cat(found, dim=1)


def mu_of(arch: Architecture, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """mu of normalised chips without the rounding of its first numbers, whose slope is 0."""
    style = (statistics(x) - w["statistics_mean"]) @ w["statistics_map"].T
    return train.encode(arch, w, x, style.clamp(-model.STYLE_LIMIT, model.STYLE_LIMIT))


def masses(arch: Architecture, encoder: model.Weights, chips: Array) -> Mass:
    """Gradient mass of each number of mu, float64 (dim, height, width), a mean over chips float32
    (n, bands, height, width) in recipe units."""
    w = {name: torch.tensor(value) for name, value in encoder.items()}
    x = (torch.tensor(chips) - w["mean"][:, None, None]) / w["std"][:, None, None]
    mu = mu_of(arch, w, x.requires_grad_(True)).sum(dim=0)
    found = []
    for number in mu:
        (slope,) = torch.autograd.grad(number, x, retain_graph=True)
        found.append(slope.abs().sum(dim=1).mean(dim=0).double().numpy())
    return np.stack(found)


def radius(mass: Mass, share: float) -> float:
    """The radius about the centre, in pixels, that holds a share of a mass (height, width)."""
    height, width = mass.shape
    y, x = np.mgrid[:height, :width]
    far = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2).ravel()
    order = np.argsort(far, kind="stable")
    held = np.cumsum(mass.ravel()[order])
    return float(far[order][np.searchsorted(held, share * held[-1] * (1 - 1e-12))])


def rows_of(title: str, seen: Cut) -> list[dict[str, Any]]:
    """A row for each part of mu."""
    s, recipe = seen.settings, Recipe()
    arch = model.choose_architecture(len(s.bands), s.height, s.width, s.dim)
    target = indices.index_target(s, recipe.index_weight)
    fitted = train.fit(arch, seen.keep.pixels, recipe, lambda done, total: None, target)
    some = seen.test.pixels[:: max(1, len(seen.test) // CHIPS)][:CHIPS]
    found = masses(arch, fitted.encoder, some)
    even = np.ones(found.shape[1:])
    parts = {"statistics": found[: arch.style], "detail": found[arch.style :], "all": found}
    return [
        {
            "dataset": title,
            "part": part,
            "height": s.height,
            "width": s.width,
            "radius50": radius(mass.sum(axis=0), 0.5),
            "radius90": radius(mass.sum(axis=0), 0.9),
            "even50": radius(even, 0.5),
            "even90": radius(even, 0.9),
            "zero_share": float((mass.sum(axis=0) < ZERO * mass.sum(axis=0).mean()).mean()),
        }
        for part, mass in parts.items()
    ]


def main() -> int:
    """Measure every set and save."""
    rows = []
    for one in SETS:
        if one.title in TITLES:
            rows += rows_of(one.title, cut(one))
            say(str(rows[-1]))
    report.save("receptive_field", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
