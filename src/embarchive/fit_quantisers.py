"""Quantisers fitted to a sample of embeddings, by the names under which users ask for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput
from embarchive.quantisers import FINE, MAX_DIM, Quantiser
from embarchive.quantize import LIMIT, SPREAD, fit_int8

KNOWN = (
    "int8, int4, int2, bits, simhash<bits>, pq<bytes>, turboquant<bits of a number>, each also "
    "after pca<numbers>+"
)
_TEXT = re.compile(
    r"(?:pca([1-9]\d{0,3})\+)?(?:int([248])|(bits)|simhash([1-9]\d{0,3})|pq([1-9]\d{0,3})"
    r"|turboquant([1248]))"
)
_TURNS, _MEANS_TURNS, _WORDS = 100, 25, 256
_GRID = 20_001

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """What a user asked for; pca: numbers kept, 0 for no PCA; kind: int, bits, simhash, pq or
    turboquant; number: its bits, or bytes for pq."""

    name: str
    pca: int
    kind: str
    number: int

    def decoded(self, dim: int) -> int:
        """How many numbers the codes of vectors of `dim` numbers decode to."""
        return self.number if self.kind == "simhash" else self.pca or dim

    def check(self, dim: int) -> None:
        """Raises BadInput unless vectors of `dim` numbers can be quantised so."""
        kept = self.pca or dim
        if kept > dim:
            raise BadInput(f"{self.name}: expected at most {dim} numbers to keep, found {kept}")
        if self.kind == "pq" and kept % self.number:
            raise BadInput(
                f"{self.name}: expected bytes that divide {kept} numbers, found {self.number}"
            )
        if self.kind == "pq" and kept == self.number:
            raise BadInput(
                f"{self.name}: expected fewer bytes than {kept} numbers, found {self.number}"
            )
        if self.kind == "simhash" and (self.number % 8 or self.number > MAX_DIM):
            raise BadInput(
                f"{self.name}: expected bits in eights up to {MAX_DIM}, found {self.number}"
            )


def parse_quantiser(text: str) -> Method:
    """ "int4", "bits", "simhash256", "pq16", "turboquant4", "pca32+int8" and so on. Raises BadInput
    with the list of what there is."""
    found = _TEXT.fullmatch(text)
    if not found:
        raise BadInput(f"quantiser: expected one of {KNOWN}, found {text[:80]!r}")
    pca, *numbers = found.groups()
    kinds = ("int", "bits", "simhash", "pq", "turboquant")
    kind, number = next((k, n) for k, n in zip(kinds, numbers, strict=True) if n)
    return Method(text, int(pca or 0), kind, 1 if kind == "bits" else int(number))


def fit_quantiser(text: str, mu: NDArray[np.floating[Any]], seed: int = 0) -> Quantiser:
    """A quantiser fitted to training embeddings float (n, D); the same input gives the same one,
    on another machine perhaps one that differs in last places.

    int: Lloyd-Max levels of each number (int8: equal steps); bits: one bit a number, about its
    median; simhash: one bit a direction of an orthogonal frame, offsets as in
    `quantize.fit_simhash`; pq: product quantisation (Jegou et al., doi 10.1109/TPAMI.2010.57), 256
    words a group of neighbouring numbers; turboquant: a random rotation, then the Lloyd-Max levels
    of a coordinate of the sphere (arXiv 2504.19874), whose radius is the sample's, for all rows.
    Raises BadInput.
    """
    method = parse_quantiser(text)
    values = np.asarray(mu, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise BadInput(f"quantiser: expected finite embeddings (n, D), found {values.shape}")
    method.check(values.shape[1])
    rng = np.random.default_rng(seed)
    # What is stored is float32: fit to that.
    mean = values.mean(axis=0).astype(np.float32)
    centred = values - mean
    matrix = _matrix(method, centred, rng)
    seen = centred if matrix is None else centred @ matrix.T
    scale = fit_int8(seen).scale
    codebooks, edges = _codebooks(method, seen / scale, rng)
    if matrix is None:
        return Quantiser(text, scale, mean, codebooks, edges)
    inverse = np.linalg.pinv(matrix).astype(np.float32)
    return Quantiser(text, scale, mean, codebooks, edges, matrix.astype(np.float32), inverse)


def _matrix(method: Method, centred: Array, rng: np.random.Generator) -> Array | None:
    """The linear map (D', D), rows of length 1."""
    dim = method.pca or centred.shape[1]
    basis = _principal(centred, dim) if method.pca else None
    turn = None
    if method.kind == "turboquant":
        turn = _orthogonal(dim, rng)
    elif method.kind == "simhash":
        sets = [_orthogonal(dim, rng) for _ in range(-(-method.number // dim))]
        turn = np.concatenate(sets)[: method.number]
    if basis is None or turn is None:
        return turn if basis is None else basis
    return turn @ basis


def _principal(centred: Array, count: int) -> Array:
    """The first principal axes (count, D), the largest number of each above 0."""
    _, axes = np.linalg.eigh(centred.T @ centred)
    basis = axes.T[::-1][:count]
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)
    return cast(Array, basis * np.where(largest < 0, -1.0, 1.0))


def _orthogonal(dim: int, rng: np.random.Generator) -> Array:
    """A random rotation (dim, dim)."""
    found, upper = np.linalg.qr(rng.normal(size=(dim, dim)))
    return cast(Array, found * np.where(np.diag(upper) < 0, -1.0, 1.0))


def _codebooks(
    method: Method, steps: Array, rng: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.int16] | None]:
    """Codebooks and edges of numbers (n, D') in int8 steps."""
    if method.kind == "pq":
        groups = np.split(steps, method.number, axis=1)
        return np.stack([_words(_means(group, rng)) for group in groups]), None
    if method.kind in ("bits", "simhash"):
        shares = np.full(steps.shape[1], 0.5)
        if method.kind == "simhash":
            low, high = SPREAD
            shares = low + (high - low) * (rng.permutation(len(shares)) + 0.5) / len(shares)
        found = [_halves(*pair) for pair in zip(steps.T, shares, strict=True)]
    elif method.kind == "turboquant":
        dim = steps.shape[1]
        radius = float(np.sqrt(np.sum(steps**2) / len(steps)))
        levels, edges = _lloyd_max(*_coordinate(dim), 2**method.number)
        pair: tuple[Array, Array] = (radius * levels, radius * edges)
        found = [pair] * dim
    elif method.number == 8:
        found = [(np.linspace(-128, 127, 256), np.linspace(-127.5, 126.5, 255))] * steps.shape[1]
    else:
        ones = np.ones(len(steps))
        found = [_lloyd_max(np.sort(column), ones, 2**method.number) for column in steps.T]
    words = np.stack([_words(levels)[:, None] for levels, _ in found])
    fine = np.stack([np.rint(edges * FINE) for _, edges in found])
    return words, np.clip(fine, -32768, 32767).astype(np.int16)


def _words(levels: Array) -> NDArray[np.int8]:
    return np.clip(np.rint(levels), -LIMIT, LIMIT).astype(np.int8)


def _halves(column: Array, share: float) -> tuple[Array, Array]:
    """Two levels about a quantile: the means of what lies up to it and of what lies above."""
    edge = np.quantile(column, share, method="lower")
    above = column > edge
    high = column[above].mean() if above.any() else edge
    return np.array([column[~above].mean(), high]), np.array([edge])


def _lloyd_max(values: Array, weights: Array, count: int) -> tuple[Array, Array]:
    """Levels (count,) and the edges between them (count - 1,) of least squared error for ascending
    values with weights (Lloyd 1982, Max 1960)."""
    mass, moment = (np.r_[0, np.cumsum(part)] for part in (weights, weights * values))
    ranks = np.searchsorted(mass[1:], mass[-1] * (np.arange(count) + 0.5) / count)
    levels = values[np.minimum(ranks, len(values) - 1)]
    edges = (levels[1:] + levels[:-1]) / 2
    for _ in range(_TURNS):
        cuts = np.r_[0, np.searchsorted(values, edges, side="right"), len(values)]
        held = np.diff(mass[cuts])
        # A level without values stays where it is.
        levels = np.where(held > 0, np.diff(moment[cuts]) / np.where(held > 0, held, 1), levels)
        levels = np.sort(levels)
        before, edges = edges, (levels[1:] + levels[:-1]) / 2
        if np.array_equal(before, edges):
            break
    return levels, edges


def _coordinate(dim: int) -> tuple[Array, Array]:
    """Values in -1..1 and weights: how one coordinate of a point of the unit sphere lies."""
    x = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    weights = (dim - 3) / 2 * np.log1p(-(x**2))
    return x, np.exp(weights - weights.max())


def _means(points: Array, rng: np.random.Generator) -> Array:
    """256 words (256, width) of points (n, width) by Lloyd's iteration; a word without points
    moves to one of those that lie worst."""
    starts = rng.permutation(np.arange(max(len(points), _WORDS)) % len(points))
    words: Array = points[starts[:_WORDS]]
    for _ in range(_MEANS_TURNS):
        gaps = np.sum(words**2, axis=1) - 2 * (points @ words.T)
        nearest = np.argmin(gaps, axis=1)
        held = np.bincount(nearest, minlength=_WORDS)
        sums = [np.bincount(nearest, column, minlength=_WORDS) for column in points.T]
        moved = np.stack(sums, axis=1) / np.maximum(held, 1)[:, None]
        worst = np.argsort(-gaps[np.arange(len(points)), nearest] - np.sum(points**2, axis=1))
        empty = np.flatnonzero(held == 0)
        moved[empty] = points[np.resize(worst, len(empty))]
        if np.array_equal(moved, words):
            break
        words = moved
    return words
