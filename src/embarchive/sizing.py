"""How many numbers a tile's code needs: the complexity of regions against the loss of networks.

Three measures of a region's chips, three forms of l(d, c), the loss at code size d and complexity
c, and the smallest d that meets an error. After the embedding data store paper, section 3.3 and
its tables 1 and 2, which do not say on what their R2 is; here a region is never scored by a fit
that saw it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput

Numbers = NDArray[np.float64]
Chips = NDArray[np.float32]

COMPLEXITIES = ("gzip", "pca", "kernel_pca")
FORMS = ("linear", "polynomial", "exponential")
# Share of the variance that components must explain.
SHARE = 0.95
# Fewer regions cannot be left out one by one.
LEAST_REGIONS = 4
# Sizes between the smallest and the largest trained that a choice is made from.
SIZE_STEP = 4
# Standard deviations that a complexity may lie beyond those fitted: farther out, powers and
# exponentials tell nothing.
BEYOND = 0.5
# The exponential form: decay over the range of sizes, and slope a standard deviation of c; then
# how often the grid of both is laid anew around its best point.
DECAYS, SLOPES, ROUNDS = (0.05, 60.0), (-4.0, 4.0), 8


@dataclass(frozen=True)
class Region:
    """What was measured of one region: chips there are, COMPLEXITIES by name, and mean squared
    errors, recipe units squared, of its tile means and of one network a size."""

    name: str
    tiles: int
    complexity: Mapping[str, float]
    tile_mean: float
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Points:
    """n losses: code size, complexity and loss float64 (n,), and the region of each (n,)."""

    size: Numbers
    complexity: Numbers
    loss: Numbers
    region: NDArray[np.intp]

    def only(self, mask: NDArray[np.bool_]) -> Points:
        """The points of a mask (n,)."""
        return Points(self.size[mask], self.complexity[mask], self.loss[mask], self.region[mask])


@dataclass(frozen=True)
class Fit:
    """A form with its numbers: for the exponential (k, m, a, b), else those of its powers.

    Sizes and complexities are shifted and divided first: low, span; middle, spread. ends: the
    complexities so divided are kept within these.
    """

    form: str
    low: float
    span: float
    middle: float
    spread: float
    ends: tuple[float, float]
    numbers: tuple[float, ...]

    def predict(self, size: Numbers, complexity: Numbers) -> Numbers:
        """Losses (n,) at sizes (n,) and complexities (n,); never below 0."""
        d, c = (size - self.low) / self.span, (complexity - self.middle) / self.spread
        c = np.clip(c, *self.ends)
        if self.form == "exponential":
            k, m, a, b = self.numbers
            found = a + b * np.exp(-k * d + m * c)
        else:
            found = _powers(self.form, d, c) @ np.array(self.numbers)
        return np.maximum(found, 0.0)


# ---------------------------------------------------------------- complexity


def complexity(chips: Chips, low: Chips, high: Chips, mean: Chips, std: Chips) -> dict[str, float]:
    """COMPLEXITIES of a region's chips (n, bands, height, width), recipe units.

    low, high, mean, std (bands,): of all regions, so that they compare; so does n, if it is one.
    """
    x = (chips - mean[:, None, None]) / np.maximum(std, 1e-12)[:, None, None]
    flat = x.reshape(len(x), -1).astype(np.float64)
    return {
        "gzip": gzip_ratio(as_bytes(chips, low, high)),
        "pca": float(linear_components(flat)),
        "kernel_pca": float(kernel_components(flat)),
    }


def as_bytes(chips: Chips, low: Chips, high: Chips) -> NDArray[np.uint8]:
    """Chips as uint8 of the same shape, `low` to `high` (bands,) as 0 to 255."""
    span = np.maximum(high - low, 1e-12)[:, None, None]
    scaled: Chips = np.rint((chips - low[:, None, None]) / span * 255)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def gzip_ratio(data: NDArray[np.uint8]) -> float:
    """Bytes with gzip over bytes without: near 0 for what is flat, 1 for noise."""
    return len(gzip.compress(data.tobytes(), mtime=0)) / max(1, data.size)


def linear_components(flat: Numbers) -> int:
    """Principal components that explain 95 % of the variance of rows (n, p); 0 of none."""
    centred = flat - flat.mean(axis=0)
    return _components(centred @ centred.T)


def kernel_components(flat: Numbers) -> int:
    """The same in the feature space of the kernel exp(-|a - b|^2 / p) (Schoelkopf, Smola and
    Mueller 1998)."""
    square = (flat**2).sum(axis=1)
    apart = np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0)
    kernel = np.exp(-apart / flat.shape[1])
    level = kernel.mean(axis=0)
    return _components(kernel - level - level[:, None] + level.mean())


def _components(gram: Numbers) -> int:
    values = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0)
    # Rounding leaves a little of nothing.
    if values[0] <= 1e-9 * len(gram):
        return 0
    total = np.cumsum(values) / values.sum()
    return int(np.searchsorted(total, SHARE - 1e-12)) + 1


# ---------------------------------------------------------------- forms


def fit(points: Points, form: str) -> Fit:
    """Least squares of a form: linear 1, d, c; polynomial also d^2, dc, c^2; exponential
    a + b exp(-k d + m c) with k > 0. Raises BadInput for another."""
    if form not in FORMS:
        raise BadInput(f"form: expected one of {', '.join(FORMS)}, found {form!r}")
    low, middle = float(points.size.min()), float(points.complexity.mean())
    span = float(np.ptp(points.size)) or 1.0
    spread = float(points.complexity.std()) or 1.0
    d, c = (points.size - low) / span, (points.complexity - middle) / spread
    if form == "exponential":
        numbers = _exponential(d, c, points.loss).tolist()
    else:
        numbers = np.linalg.lstsq(_powers(form, d, c), points.loss, rcond=None)[0].tolist()
    ends = float(c.min()) - BEYOND, float(c.max()) + BEYOND
    return Fit(form, low, span, middle, spread, ends, tuple(numbers))


def held_out_r2(points: Points, form: str) -> float:
    """R2 of predictions of each region by a fit to the other regions; can be below 0."""
    found = np.zeros(len(points.loss))
    for region in np.unique(points.region):
        out = points.region == region
        found[out] = fit(points.only(~out), form).predict(points.size[out], points.complexity[out])
    return r2(points.loss, found)


def r2(loss: Numbers, found: Numbers) -> float:
    """1 - squared error of predictions over that of the mean loss; 0 where losses are equal."""
    total = float(((loss - loss.mean()) ** 2).sum())
    return 1 - float(((loss - found) ** 2).sum()) / total if total > 0 else 0.0


def _powers(form: str, d: Numbers, c: Numbers) -> Numbers:
    linear = [np.ones_like(d), d, c]
    return np.stack(linear if form == "linear" else [*linear, d * d, d * c, c * c], axis=1)


def _exponential(d: Numbers, c: Numbers, loss: Numbers) -> Numbers:
    """(k, m, a, b): a and b by least squares at every point of a grid over k and m, which is
    laid anew, narrower, around the best."""
    ends = np.array([np.log(DECAYS), SLOPES])
    middle, reach = ends.mean(axis=1), np.ptp(ends, axis=1) / 2
    for _ in range(ROUNDS):
        steps = np.linspace(-1, 1, 31)
        grid = np.clip(middle[:, None] + reach[:, None] * steps, ends[:, :1], ends[:, 1:])
        k, m = (side.ravel() for side in np.meshgrid(np.exp(grid[0]), grid[1], indexing="ij"))
        wave = np.exp(-k[:, None] * d + m[:, None] * c)
        gap = wave - wave.mean(axis=1, keepdims=True)
        power = np.maximum((gap**2).sum(axis=1), 1e-300)
        gain = gap @ (loss - loss.mean()) / power
        best = int(np.argmax(gain**2 * power))
        middle, reach = np.array([np.log(k[best]), m[best]]), reach / 4
    level = loss.mean() - gain[best] * wave[best].mean()
    return np.array([k[best], m[best], level, gain[best]])


# ---------------------------------------------------------------- the choice


def points_of(
    sizes: Sequence[int], found: Sequence[Region], measure: str, relative: bool
) -> Points:
    """Every size of every region; relative: losses are shares of the tile means' errors."""
    loss = np.array([region.errors for region in found], dtype=np.float64)
    if relative:
        mean = np.array([[region.tile_mean] for region in found])
        loss = np.divide(loss, mean, out=np.zeros_like(loss), where=mean > 0)
    level = [region.complexity[measure] for region in found]
    return Points(
        np.tile(np.array(sizes, dtype=np.float64), len(found)),
        np.repeat(np.array(level, dtype=np.float64), len(sizes)),
        loss.ravel(),
        np.repeat(np.arange(len(found)), len(sizes)),
    )


def judge(
    sizes: Sequence[int], found: Sequence[Region], bound: float | None, relative: bool
) -> dict[str, Any]:
    """The nine fits, the best of them, its curve, and the smallest size that meets `bound`.

    The curve is the mean over regions, between the smallest and the largest of `sizes`. bound:
    recipe units squared, or with `relative` a share of the tile means' error; None: no choice.
    Raises BadInput below 4 regions.
    """
    if len(found) < LEAST_REGIONS:
        raise BadInput(f"size: expected at least {LEAST_REGIONS} regions, found {len(found)}")
    points = {name: points_of(sizes, found, name, relative) for name in COMPLEXITIES}
    fits: list[dict[str, Any]] = [
        {"complexity": name, "form": form, "r2": held_out_r2(points[name], form)}
        for name in COMPLEXITIES
        for form in FORMS
    ]
    best = max(fits, key=lambda row: row["r2"])
    curve = _curve(fit(points[best["complexity"]], best["form"]), points[best["complexity"]])
    chosen, reason = _choice(curve, best["r2"], bound)
    return {"chosen": chosen, "reason": reason, "best": best, "curve": curve, "fits": fits}


def _curve(best: Fit, points: Points) -> list[dict[str, Any]]:
    """Predicted loss at sizes SIZE_STEP apart; measured: the mean over regions, where trained."""
    trained = sorted({int(size) for size in points.size})
    level = points.complexity[points.size == trained[0]]
    rows = []
    for size in sorted({*range(trained[0], trained[-1] + 1, SIZE_STEP), *trained}):
        here = points.loss[points.size == size]
        found = best.predict(np.full(len(level), float(size)), level)
        measured = float(here.mean()) if len(here) else None
        rows.append({"size": size, "error": float(found.mean()), "measured": measured})
    return rows


def _choice(
    curve: Sequence[Mapping[str, Any]], r2: float, bound: float | None
) -> tuple[int | None, str | None]:
    """The smallest size that meets the bound, or why there is none."""
    if bound is None:
        return None, "no error was asked for"
    if r2 <= 0:
        return None, "no fit foretells a region that it has not seen better than the mean does"
    met = [int(row["size"]) for row in curve if row["error"] <= bound]
    if met:
        return met[0], None
    least = min(curve, key=lambda row: float(row["error"]))
    return None, (
        f"no size from {curve[0]['size']} to {curve[-1]['size']} meets {bound:g}; the least "
        f"predicted error is {least['error']:.3g}, at {least['size']}"
    )
