"""The train step: the shared networks once, then a decoder for every new region."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from embarchive import fit_layer, fit_regions, fitting, model, quantize, regions, tensors
from embarchive.archive import open_archive
from embarchive.baselines import Pca, fit_pca
from embarchive.commit import find_head
from embarchive.errors import BadInput
from embarchive.fit_regions import Area, Work
from embarchive.fitting import Base, Split
from embarchive.gather import Sample, gather
from embarchive.manifest import Space, object_path
from embarchive.memory import give_back
from embarchive.progress import Report
from embarchive.scenes import scene_from_json
from embarchive.staging import JobPlan, Staging, read_plan, region_record
from embarchive.step_bands import (
    Numbers,
    band_areas,
    band_scenes,
    read_bands,
    read_sample,
    write_bands,
)
from embarchive.step_plan import plan_areas, plan_cells
from embarchive.step_tile2vec import train_encoder
from embarchive.storage import Store
from embarchive.store import VerifiedObject, open_store

# Bytes of chips kept in memory to train a region's decoder, and decoders of regions that train
# together.
REGION_ROOM, CHUNK_ROOM = 48 << 20, 96 << 20


def train(
    out: str,
    *,
    plan: str | None,
    part: tuple[int, int] | None,
    backbone: bool,
    progress: Report,
) -> dict[str, Any]:
    """Train what a plan needs: the shared networks once, then a decoder a region.

    With `part` only that part's regions, and the shared networks must be there already.
    """
    store = open_store(out)
    staging, job = read_plan(store, plan)
    base = base_record(store, staging, job)
    if job.recipe.encoder == "tile2vec":
        if base is None:
            train_encoder(store, staging, job, progress)
        return {"plan": staging.plan_id, "regions": 0}
    sample: Sample | None = None
    if base is None:
        if part is not None:
            raise BadInput("train: expected the shared networks; run train --backbone first")
        sample, bands = read_sample(job, partial(progress, "read"))
        base = _train_base(store, staging, job, (sample, bands), progress)
    write_bands(staging, job, base)
    if backbone:
        return {"plan": staging.plan_id, "regions": 0}
    wanted = new_regions(out, job, base)
    if sample is None and job.first:
        # PCA, the baseline, sees the same tiles again when a killed run goes on.
        sample, _ = read_sample(job, partial(progress, "read"))
    if part is not None:
        owner = regions.assign(wanted, part[1])
        wanted = [name for name, mine in zip(wanted, owner, strict=True) if mine == part[0]]
    _train_regions(store, staging, job, base, wanted, sample, progress)
    return {"plan": staging.plan_id, "regions": len(wanted)}


def base_record(store: Store, staging: Staging, job: JobPlan) -> dict[str, Any] | None:
    """The record of the shared networks: the plan's own, or the archive's newest space of its
    encoder."""
    record = staging.read("train", "base")
    if record is not None or job.first:
        return record
    head = find_head(store)
    spaces = head.generation.spaces if head else ()
    found = [space for space in spaces if space.kind == job.recipe.encoder]
    return {"space": asdict(found[-1])} if found else None


def _train_base(
    store: Store,
    staging: Staging,
    job: JobPlan,
    found: tuple[Sample, dict[str, Numbers]],
    progress: Report,
) -> dict[str, Any]:
    sample, bands = found
    cells = sample.geohash if sample.whole else np.unique(np.concatenate(plan_cells(job)))
    if not len(sample):
        raise BadInput("build: expected tiles that are data, found none in any scene")
    split = fitting.split_cells(cells, job.settings, job.recipe.seed)
    settings, recipe = job.settings, job.recipe
    space = fitting.fit_space(store, settings, recipe, sample, split, partial(progress, "train"))
    base = load_base(store, {"space": asdict(space)})
    keep, test = split.masks(sample.geohash)
    test[np.flatnonzero(test)[fitting.MOST_TEST :]] = False
    samples = sample.only(keep), sample.only(test)
    # A date of single bands is not one image of a place.
    when = [] if bands else [scene_from_json(values).datetime for values in job.scenes]
    step = partial(progress, "code")
    space = fit_layer.add_layer(store, base, settings, recipe, samples, when, step)
    if bands:
        space = replace(space, trained={**space.trained, "bands": bands})
    record = {"space": asdict(space), "test": sorted(split.test), "train": sorted(split.train)}
    staging.write("train", "base", record)
    give_back()
    return record


def _train_regions(
    store: Store,
    staging: Staging,
    job: JobPlan,
    record: Mapping[str, Any],
    wanted: Sequence[str],
    sample: Sample | None,
    progress: Report,
) -> None:
    base = load_base(store, record)
    todo = [name for name in wanted if staging.read("train", region_record(name)) is None]
    if not todo:
        return
    every = np.unique(np.concatenate(plan_cells(job)))
    if "train" in record:
        split = Split(frozenset(record["train"]), frozenset(record["test"]))
    else:
        split = fitting.split_cells(every, job.settings, job.recipe.seed)
    pca: Pca | None = None
    if sample is not None:
        pca = fit_pca(sample.pixels[split.masks(sample.geohash)[0]], job.settings.dim)
    bands, band_of = read_bands(staging, record), band_areas(job)
    count = iter(range(1, len(todo) + 1))
    load = _loader(job, split, sample)
    # One after the other: what trains together shares an encoder.
    for band in dict.fromkeys(band_of[name] for name in todo):
        mine = [name for name in todo if band_of[name] == band]
        numbers = bands[band] if band else None
        work = Work(store, base.for_band(numbers), job.settings, job.recipe)
        baseline = pca.scaled(numbers["mean"], numbers["std"]) if pca and numbers else pca
        for chunk in chunks(mine, load):
            for region, row in _fit_chunk(work, chunk, baseline):
                staging.write("train", region_record(region), row)
                progress("regions", next(count), len(todo))
            chunk.clear()
            give_back()


def _fit_chunk(
    work: Work, chunk: Sequence[Area], pca: Pca | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the models table, written one after the other, by region."""
    chips = [area.train.pixels for area in chunk]
    fresh = fit_regions.fit_adapters(work.base, work.settings, work.recipe, chips)
    for area, own in zip(chunk, fresh, strict=True):
        yield area.region, fit_regions.write_region(work, area, own, pca)


def chunks(todo: Sequence[str], load: Callable[[str], Area]) -> Iterator[list[Area]]:
    """Regions with their chips, as many at once as fit in CHUNK_ROOM, at least one."""
    chunk: list[Area] = []
    room = CHUNK_ROOM
    for region in todo:
        area = load(region)
        size = area.train.pixels.nbytes + area.test.pixels.nbytes
        if chunk and size > room:
            yield chunk
            chunk, room = [], CHUNK_ROOM
        chunk.append(area)
        room -= size
    yield chunk


def _loader(job: JobPlan, split: Split, sample: Sample | None) -> Callable[[str], Area]:
    """Gives the chips of a region: of the sample when it holds all, else of the scenes."""
    scenes, band_of = band_scenes(job), band_areas(job)
    every, owner = np.concatenate(plan_cells(job)), np.concatenate(plan_areas(job))
    whole = sample if sample is not None and sample.whole else None
    sampled = owner[:0] if whole is None else regions.region_of(whole.geohash, job.settings)

    def load(region: str) -> Area:
        mine = owner == region
        if whole is not None:
            own = whole.only(sampled == region)
        else:
            cells = np.unique(every[mine])
            dated = scenes[band_of[region]]
            own = gather(dated, job.settings, cells, REGION_ROOM, lambda done, total: None)
        keep, test = split.masks(own.geohash)
        test[np.flatnonzero(test)[fitting.MOST_TEST :]] = False
        # Of a region too large to be read whole: cells that its scenes may touch.
        tiles = len(own) if own.whole else int(mine.sum())
        return Area(region, own.only(keep), own.only(test), tiles)

    return load


def new_regions(out: str, job: JobPlan, record: Mapping[str, Any]) -> list[str]:
    """Regions of the plan that have no model in its space; none in a space without decoders."""
    if record["space"]["backbone"] is None:
        return []
    names = {str(name) for name in np.unique(np.concatenate(plan_areas(job)))}
    return sorted(names - set(held_models(out, job, record["space"]["space_id"])))


def held_models(out: str, job: JobPlan, space_id: str) -> dict[str, dict[str, Any]]:
    """Models that the archive has in a space, by region: of each the newest version."""
    if job.parent == 0:
        return {}
    table = open_archive(out).models().to_pylist()
    return {row["region"]: row for row in table if row["space_id"] == space_id}


def load_base(store: Store, record: Mapping[str, Any]) -> Base:
    """The shared networks of a record, with their weights; no backbone without decoders."""
    space = Space(**record["space"])
    arch = model.Architecture.from_json(space.architecture)
    simhash = quantize.SimHash.from_json(space.simhash) if space.simhash else None
    assert space.encoder is not None
    backbone: model.Weights = {}
    if space.backbone is not None:
        backbone = load_model(store, arch, "backbone", space.backbone, space.backbone_length)
    return Base(
        space,
        arch,
        load_model(store, arch, "encoder", space.encoder, space.encoder_length),
        backbone,
        quantize.Int8(space.scale),
        simhash,
    )


def load_model(
    store: Store, arch: model.Architecture, kind: str, sha256: str, length: int
) -> model.Weights:
    """Weights of one model, hash and shapes checked."""
    path = object_path("model", sha256)
    data = VerifiedObject(store, path, sha256, length).whole()
    return tensors.load_weights(data, arch, kind)
