"""Fit a fidelity code: its transform, its scan, its tables, and the step that meets a quality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embarchive import contexts, fidelity, transform
from embarchive.contexts import Ints
from embarchive.fidelity import Code, Levels
from embarchive.rangecoder import cumulative

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

# A position is coded when at least this share of the training tiles has something there.
LEAST_USED = 0.004
# Rounds of choosing levels by the tables, and making tables of what was chosen.
ROUNDS = 2
# Rounding for the first tables: a magnitude starts at this.
DEAD = 0.62
# How many coefficients the first tables weigh as much as.
TRUST = 30.0
# Steps a stream may choose from when all are to be short, four an octave.
LADDER = 32


def fit(images: Images, step: float, several: bool = False) -> Code:
    """A code for images like these, float32 (n, channels, height, width), by a quantiser step in
    their units; several: LADDER steps for streams of a most length, the finest being `step`."""
    code, values = _begin(images, step, several)
    rungs = np.arange(len(values[0])) % len(code.steps)
    for _ in range(ROUNDS):
        code = _counted(code, values, fidelity.choose(code, values, rungs))
    return code


def sizes(code: Code, images: Images) -> tuple[float, float]:
    """Mean bytes and mean squared error that a code of one step comes to."""
    total, error = 0.0, 0.0
    for start in range(0, len(images), fidelity.BATCH):
        some = images[start : start + fidelity.BATCH]
        values = fidelity.coefficients(code, some)
        choice = fidelity.choose(code, values, np.zeros(len(some), np.int64))
        total += float(choice.bits.sum()) / 8
        error += float(((fidelity.picture(code, choice) - some) ** 2).mean(axis=(1, 2, 3)).sum())
    return total / len(images), error / len(images)


def _begin(images: Images, step: float, several: bool) -> tuple[Code, Floats]:
    """A code whose tables come from the form of the distribution alone, and the coefficients."""
    steps = step * 2.0 ** (np.arange(LADDER if several else 1) / 4)
    mean, basis = transform.principal(images)
    found = transform.forward(images, mean, basis).reshape(len(images), -1)
    scale = np.abs(found).mean(axis=0)
    order = np.argsort(-scale, kind="stable")
    used = (np.abs(found[:, order]) > DEAD * steps[0]).mean(axis=0) > LEAST_USED
    order = order[: max(1, int(np.flatnonzero(used)[-1]) + 1 if used.any() else 1)]
    values = np.ascontiguousarray(found[:, order].T)
    size = np.floor(np.abs(values)[None] / steps[:, None, None] + 1 - DEAD)
    ends = np.unique(np.ceil(2.0 ** (np.arange(0, 4 * np.log2(len(order)) + 1) / 4)).astype(int))
    ends = np.unique(np.concatenate([[0], np.minimum(ends, len(order)), [len(order)]]))
    count = len(steps)
    code = Code(
        height=images.shape[2],
        width=images.shape[3],
        mean=mean,
        basis=basis,
        steps=steps,
        order=order.astype(np.int64),
        expected=_expected(size.mean(axis=2)),
        tables=cumulative(_forms()),
        end_tables=np.repeat(cumulative(np.ones(len(ends)))[None], count, axis=0),
        step_table=cumulative(np.ones((1, count))),
        ends=ends.astype(np.int64),
        centres=np.zeros((contexts.CLASSES, fidelity.CENTRES), np.int64),
    )
    return code, values


def _forms() -> Floats:
    """Geometric magnitudes of each class's expected one, signs alike, (CLASSES, SYMBOLS)."""
    expected = 2.0 ** (-8.125 + np.arange(contexts.CLASSES) / 4)
    share = (expected / (1 + expected))[:, None]
    exact = (1 - share) * share ** np.arange(fidelity.EXACT + 1)
    first = fidelity.EXACT - 1 + 2.0 ** np.arange(1, fidelity.MOST_EXTRA + 2)
    over = share ** first[:-1] - share ** first[1:]
    form = np.concatenate([exact, over], axis=1)
    pairs = np.repeat(form[:, 1:] / 2, 2, axis=1)
    return np.concatenate([form[:, :1], pairs], axis=1) + 1e-6


def _expected(size: Floats) -> Ints:
    units = np.rint((size + 2e-4) * contexts.UNIT)
    return np.minimum(units, contexts.MOST_EXPECTED).astype(np.int64)


def _counted(code: Code, values: Floats, choice: Levels) -> Code:
    """The code with the tables of what was chosen."""
    positions = len(choice.level)
    coded = np.arange(positions)[:, None] < code.ends[choice.end]
    size, kind = np.abs(choice.level[coded]), choice.kind[coded]
    ends = np.full((len(code.steps), len(code.ends)), 0.05)
    np.add.at(ends, (choice.step, choice.end), 1.0)
    ends[:, 1:-1] += (ends[:, :-2] + ends[:, 2:]) / 5
    return replace(
        code,
        expected=_seen(code, choice),
        tables=_tables(kind, fidelity.bucket(size)),
        end_tables=cumulative(ends),
        centres=_centres(
            kind, size, (np.abs(values[:positions]) / code.steps[choice.step])[coded] - size
        ),
    )


def _seen(code: Code, choice: Levels) -> Ints:
    """Magnitudes as chosen. Of several steps each has few tiles, so that what was expected of all
    tiles is only scaled, as theirs turned out."""
    size = np.zeros((len(code.order), choice.level.shape[1]))
    size[: len(choice.level)] = np.abs(choice.level)
    if len(code.steps) == 1:
        return _expected(size.mean(axis=1)[None])
    foreseen = code.expected.sum(axis=1)[choice.step].sum() / contexts.UNIT
    return _expected(code.expected / contexts.UNIT * size.sum() / max(float(foreseen), 1e-9))


def _tables(kind: Ints, box: Ints) -> Ints:
    """Cumulative frequencies of buckets of a magnitude, by their classes."""
    counts = np.zeros((contexts.CLASSES, fidelity.BUCKETS))
    np.add.at(counts, (kind, box), 1.0)
    # A class lends to those beside it.
    lent = counts.copy()
    lent[1:] += counts[:-1] / 5
    lent[:-1] += counts[1:] / 5
    pairs = np.repeat(lent[:, 1:] / 2, 2, axis=1)
    forms = _forms()
    forms /= forms.sum(axis=1, keepdims=True)
    return cumulative(np.concatenate([lent[:, :1], pairs], axis=1) + TRUST * forms)


def _centres(kind: Ints, size: Ints, gap: Floats) -> Ints:
    """Where in its step a magnitude lies, 64ths of a step, by classes."""
    total, weight = np.zeros((2, contexts.CLASSES, fidelity.CENTRES + 1))
    place = np.minimum(size, fidelity.CENTRES)
    np.add.at(total, (kind, place), gap)
    np.add.at(weight, (kind, place), 1.0)
    # Towards the middle where few were seen.
    found = np.rint(total / (weight + 20) * transform.STEP_UNITS)[:, 1:]
    return np.asarray(np.clip(found, -transform.STEP_UNITS, transform.STEP_UNITS), np.int64)
