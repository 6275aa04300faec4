"""Methods of bench_storage that are the archive's fidelity code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from coding import Coded
from sets import Images, Task

from embarchive import fidelity, fit_fidelity, fit_layer, refine, regions
from embarchive.fidelity import Code
from embarchive.layer import Layer, dump_layer

# How near below the target the mean of the test tiles has to come, and trials for it, with so many
# of the training tiles.
NEAR, TRIES, TRIED = 0.03, 6, 800


def code(task: Task, targets: Sequence[int]) -> list[Coded]:
    """The code alone, without and with the filter; one step for all test tiles, whose mean is the
    target, and for each tile the finest step that keeps to it."""
    found = []
    for target in targets:
        made = _filtered(task, Layer(_at(task, target), "pixels"))
        found += _both(task, target, "slope", made)
        # Two octaves below it few tiles could keep to the target.
        step = float(made.code.steps[0]) / 4
        several = fit_fidelity.fit(_train(task), step, several=True)
        # The filter has seen pictures of the same number of bytes.
        found += _both(task, target, "equal", Layer(several, "pixels", target, made.filter))
    return found


def _both(task: Task, target: int, rate: str, made: Layer) -> list[Coded]:
    """Without the filter and with it, the same where there is none."""
    streams = fidelity.encode(made.code, task.test.images, made.most or None)
    size = float(np.mean([len(stream) for stream in streams]))
    images = fidelity.decode(made.code, streams)
    name, plain = "embarchive code", replace(made, filter=None)
    model = len(dump_layer(plain, "float16"))
    found = [Coded(f"{name}, no filter", target, rate, size, model, images)]
    if made.filter is not None:
        images, model = refine.refine(made.filter, images), len(dump_layer(made, "float16"))
    return [*found, Coded(name, target, rate, size, model, images)]


def _train(task: Task) -> Images:
    """Training tiles, as many as a build takes."""
    images = task.train.images
    some = np.random.default_rng(0).permutation(len(images))[: fit_layer.MOST_TILES]
    return images[np.sort(some)]


def _filtered(task: Task, plain: Layer) -> Layer:
    """The layer as a build makes it."""
    some = np.random.default_rng(0).permutation(len(task.train))[: fit_layer.MOST_TILES]
    names = task.train.sample.geohash[np.sort(some)]
    check = regions.assign(names.tolist(), fit_layer.CHECK) == 0
    pixels = _train(task)
    return fit_layer.with_filter(plain, pixels, pixels, check, task.recipe, lambda *at: None)


def _at(task: Task, target: int) -> Code:
    """The code of a step at which the test tiles take the target on average, or barely less."""
    train, test = _train(task)[:: max(1, len(task.train) // TRIED)], task.test.images
    place, slope = math.log(float(train.std())), 1.2
    tried: list[tuple[float, float]] = []
    for _ in range(TRIES):
        made = fit_fidelity.fit(train, math.exp(place))
        size = np.mean([len(stream) for stream in fidelity.encode(made, test)])
        tried.append((place, math.log(max(float(size), 0.01) / target)))
        if -NEAR <= tried[-1][1] <= 0:
            break
        if len(tried) > 1 and tried[-1][0] != tried[-2][0]:
            slope = -(tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        place += np.clip((tried[-1][1] + NEAR / 2) / min(max(slope, 0.3), 3.0), -2, 2)
    good = [one for one in tried if one[1] <= 0] or tried
    step = math.exp(max(good, key=lambda one: one[1])[0])
    return fit_fidelity.fit(_train(task), step)
