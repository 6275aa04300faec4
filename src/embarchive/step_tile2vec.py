"""The train step of a space whose encoder is Tile2Vec: tiles that lie together, a fit to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import digests, encode, fit_tile2vec, fitting, grid, quantize, tile2vec, train
from embarchive.errors import BadInput
from embarchive.gather import Sample, gather
from embarchive.manifest import Space
from embarchive.memory import give_back
from embarchive.model import Array
from embarchive.progress import Report
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import JobPlan, Staging
from embarchive.step_bands import ROOM
from embarchive.step_plan import plan_cells
from embarchive.storage import Store
from embarchive.strictjson import canonical_json
from embarchive.tile2vec import Pool

# Held-out anchors that are judged, at least.
JUDGED = 2_000
Embed = Callable[[Array], Array]


def train_encoder(store: Store, staging: Staging, job: JobPlan, progress: Report) -> dict[str, Any]:
    """Train the encoder of a plan by triplets of its tiles; the record of its space. Raises
    BadInput."""
    settings, recipe = job.settings, job.recipe
    cells = plan_cells(job)
    one = 4 * len(settings.bands) * settings.height * settings.width
    wanted = tile2vec.together(np.concatenate(cells), settings.precision, ROOM // one)
    scenes = [scene_from_json(values) for values in job.scenes]
    sample = gather(scenes, settings, wanted, ROOM, partial(progress, "read"))
    if not len(sample):
        raise BadInput("build: expected tiles that are data, found none in any scene")
    radius = recipe.radius or tile2vec.default_radius(sample.geohash)
    split = fitting.split_cells(np.unique(sample.geohash), settings, recipe.seed)
    keep, test = (sample.only(mask) for mask in split.masks(sample.geohash))
    date = _dates(scenes)
    pool = _pool(keep, date, radius)
    space, encoder = _fit(store, job, keep.pixels, pool, partial(progress, "train"))
    trained = {
        "encoder": recipe.encoder,
        "tiles": len(keep),
        "radius": radius,
        "temporal": recipe.temporal,
        "triplets": _judged(encoder, test, date, radius),
    }
    record = {"space": asdict(replace(space, trained=trained))}
    staging.write("train", "base", record)
    give_back()
    return record


def _fit(
    store: Store, job: JobPlan, chips: Array, pool: Pool, step: train.Step
) -> tuple[Space, Embed]:
    """Train an encoder, write it and its calibration; the space they make, and what embeds."""
    s, recipe = job.settings, job.recipe
    arch = fit_tile2vec.architecture(len(s.bands), s.height, s.width, s.dim)
    found = fit_tile2vec.fit(arch, chips, pool, recipe, step)
    packed = fitting.pack(arch, found.encoder, "encoder", recipe)
    fitting.put(store, packed)
    embed = partial(encode.embed, arch, packed.weights)
    mu = embed(chips)
    quantiser = quantize.Int8(float(packed.weights["step"][0]))
    simhash = quantize.fit_simhash(quantiser.encode(mu), s.bits, recipe.seed)
    plain = {} if simhash is None else simhash.to_json()
    identity = canonical_json([packed.sha256, quantiser.scale, plain])
    space = Space(
        space_id=digests.sha256(identity)[:16],
        encoder=packed.sha256,
        encoder_length=len(packed.data),
        dim=s.dim,
        metric="l2",
        scale=quantiser.scale,
        simhash=plain,
        saturation={"training": quantiser.saturation(mu)},
        architecture=arch.to_json(),
    )
    return space, embed


def _dates(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """A number a day of each scene (n,); scenes without a date share one."""
    days = [scene.datetime.date().isoformat() if scene.datetime else "" for scene in scenes]
    return np.unique(days, return_inverse=True)[1].ravel().astype(np.int64)


def _pool(sample: Sample, date: NDArray[np.int64], radius: float) -> Pool:
    assert sample.scene is not None
    return tile2vec.make_pool(grid.centers(sample.geohash), date[sample.scene], radius)


def _judged(
    embed: Embed, test: Sample, date: NDArray[np.int64], radius: float
) -> dict[str, Any] | None:
    """Triplets of held-out tiles, and the share whose neighbour is nearer than the distant tile;
    None where the held-out tiles make none."""
    try:
        pool = _pool(test, date, radius)
    except BadInput:
        return None
    z = embed(test.pixels)
    right, count = tile2vec.judge(pool, z, JUDGED)
    return {"held_out": count, "right": right}
