"""Probes: how well labels are told from vectors by k nearest neighbours and by a line.

Every prediction is of tiles whose spatial block was not trained on. Needs scikit-learn.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput, MissingExtra
from embarchive.measures import Floats, Names

NEIGHBOURS = 5
FOLDS = 5
# Inverse strengths of the penalty that a line is tried with, on blocks within the training part.
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
PROBES = ("knn", "linear")
_STEPS = 300


def folds(block: Names, count: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Which fold each row belongs to (n,): blocks whole, the largest first to the emptiest fold.
    Raises BadInput below two blocks."""
    _, owner, sizes = np.unique(block, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise BadInput(f"probes: expected at least 2 spatial blocks, found {len(sizes)}")
    count = min(count, len(sizes))
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold, held = np.zeros(len(sizes), np.int64), np.zeros(count, np.int64)
    for one in order.tolist():
        fold[one] = int(held.argmin())
        held[fold[one]] += sizes[one]
    return fold[owner.ravel()]


def predict(probe: str, vectors: Floats, label: Names, block: Names) -> Names:
    """What a probe says of every row (n,), each from the folds that its block is not in.

    probe: "knn" (5 neighbours by cosine) or "linear" (logistic regression on standardised numbers,
    its strength chosen on blocks of the training part). Raises BadInput, MissingExtra.
    """
    where = folds(block)
    said = np.empty(len(label), dtype=label.dtype)
    for fold in np.unique(where).tolist():
        train, test = where != fold, where == fold
        if len(np.unique(label[train])) < 2:
            raise BadInput("probes: expected two classes in the training blocks, found one")
        made = _MADE[probe](vectors[train], label[train], block[train])
        said[test] = made(vectors[test])
    return said


def _knn(x: Floats, label: Names, block: Names) -> Callable[[Floats], Any]:
    neighbours = _sklearn("neighbors")
    found = neighbours.KNeighborsClassifier(min(NEIGHBOURS, len(x)), metric="cosine")
    return cast("Callable[[Floats], Any]", found.fit(_directed(x), label).predict)


def _linear(x: Floats, label: Names, block: Names) -> Callable[[Floats], Any]:
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    z = (x - mean) / spread
    strength = _strength(z, label, block)
    made = _line(z, label, strength)
    return lambda other: made((other - mean) / spread)


def _strength(z: Floats, label: Names, block: Names) -> float:
    """The strength of the best accuracy on a fifth of the blocks."""
    if len(np.unique(block)) < 2:
        return 1.0
    held = folds(block, seed=1) == 0
    if held.all() or len(np.unique(label[~held])) < 2:
        return 1.0
    right = {
        one: float((_line(z[~held], label[~held], one)(z[held]) == label[held]).mean())
        for one in STRENGTHS
    }
    return max(STRENGTHS, key=lambda one: right[one])


def _line(z: Floats, label: Names, strength: float) -> Callable[[Floats], Any]:
    linear = _sklearn("linear_model")
    with warnings.catch_warnings():
        # A line that has not come to rest is a probe as well.
        warnings.simplefilter("ignore")
        made = linear.LogisticRegression(C=strength, max_iter=_STEPS).fit(z, label)
    return cast("Callable[[Floats], Any]", made.predict)


def _directed(x: Floats) -> Floats:
    """Zero vectors have no direction; they get one that is far from all."""
    flat = ~x.any(axis=1)
    if not flat.any():
        return x
    x = x.copy()
    x[flat, 0] = 1e-9
    return x


def _sklearn(name: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError:
        raise MissingExtra(
            "probes need the report extra: pip install 'embarchive[report]'"
        ) from None


_MADE = {"knn": _knn, "linear": _linear}
