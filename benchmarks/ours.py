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
        made = _filtered(task, Layer(_at(_train(task), task.test.images, target), "pixels"))
        found += _both(task, target, "slope", made)
        # Two octaves below it few tiles could keep to the target.
        step = float(made.code.steps[0]) / 4
        several = fit_fidelity.fit(_train(task), step, several=True)
        # The filter has seen pictures of the same number of bytes.
        found += _both(task, target, "equal", Layer(several, "pixels", target, made.filter))
    return found


def dates(task: Task, targets: Sequence[int]) -> list[Coded]:
    """All dates of a place in one stream, whose bytes are those of its dates together; targets: of
    a tile, as everywhere."""
    n = int(task.test.date.max()) + 1
    train, test = (_stacks(some.images, n) for some in (task.train, task.test))
    found = []
    for target in targets:
        made = _at(train, test, target * n)
        streams = fidelity.encode(made, test)
        images = fidelity.decode(made, streams).reshape(task.test.images.shape)
        place = Layer(made, "pixels", dates=tuple(map(str, range(n))))
        name, model = "embarchive code of dates", len(dump_layer(place, "float16"))
        size = float(np.mean([len(stream) for stream in streams])) / n
        found.append(Coded(f"{name}, no filter", target, "slope", size, model, images))
        place = fit_layer.with_filter_of_dates(
            place, train, train, task.train.sample.geohash[::n], task.recipe, lambda *at: None
        )
        if place.filter is not None:
            images = refine.refine(place.filter, images)
            model = len(dump_layer(place, "float16"))
        found.append(Coded(name, target, "slope", size, model, images))
    return found


def _stacks(images: Images, dates: int) -> Images:
    """Dates of places as bands float32 (places, dates x bands, height, width)."""
    return images.reshape(len(images) // dates, -1, *images.shape[2:])


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


def _at(images: Images, test: Images, target: int) -> Code:
    """A code fitted to images, of a step at which test images take the target on average, or barely
    less."""
    train = images[:: max(1, len(images) // TRIED)]
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
    return fit_fidelity.fit(images, step)
