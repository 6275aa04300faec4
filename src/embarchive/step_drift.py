"""The watch of a train step: decoders that are held against new tiles, and new versions of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import drift, fit_regions, fitting, regions, train
from embarchive.archive import Archive, open_archive
from embarchive.fit_regions import Area, Held, Work
from embarchive.fitting import Base
from embarchive.gather import Names, Sample, gather
from embarchive.memory import give_back
from embarchive.progress import Report
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import JobPlan, Staging, read_plan, region_record
from embarchive.step_bands import Numbers, band_areas, read_bands
from embarchive.step_plan import plan_areas, plan_cells
from embarchive.step_train import REGION_ROOM, base_record, held_models, load_base, load_model
from embarchive.storage import Store
from embarchive.store import open_store

# Bytes of a region's chips that are watched; the rest is read only where they drift.
WATCH_ROOM = 8 << 20
# A version is judged on at least so many held-out tiles.
LEAST_TEST = 4
_log = logging.getLogger("embarchive")


@dataclass(frozen=True)
class _Job:
    """What watching a region needs."""

    store: Store
    archive: Archive
    base: Base
    job: JobPlan
    scenes: tuple[Scene, ...]

    def for_band(self, band: str | None, bands: Mapping[str, Numbers]) -> _Job:
        """The work of a single band; all of it for None."""
        if band is None:
            return self
        scenes = tuple(scene for scene in self.scenes if scene.bands[0].name == band)
        return replace(self, base=self.base.for_band(bands[band]), scenes=scenes)


def watch(
    out: str, *, plan: str | None, part: tuple[int, int] | None, progress: Report
) -> dict[str, Any]:
    """Watch the decoders that the archive holds for a plan's regions, all or those of a part.

    A region's record says `drift.Watch`'s numbers, the held decoder's level, the errors of the
    same held-out tiles before and after, and the new version's row, where it is the better one.
    """
    store = open_store(out)
    staging, job = read_plan(store, plan)
    wanted = [
        name
        for name in watched_regions(out, store, staging, job)
        if staging.read("drift", region_record(name)) is None
    ]
    if part is not None:
        owner = regions.assign(wanted, part[1])
        wanted = [name for name, mine in zip(wanted, owner, strict=True) if mine == part[0]]
    if not wanted:
        return {"watched": 0}
    record = base_record(store, staging, job)
    assert record is not None
    base = load_base(store, record)
    found = sorted(map(scene_from_json, job.scenes), key=_moment)
    work = _Job(store, open_archive(out), base, job, tuple(found))
    cells, owner = np.concatenate(plan_cells(job)), np.concatenate(plan_areas(job))
    held = held_models(out, job, base.space.space_id)
    band_of, bands = band_areas(job), read_bands(staging, record)
    done = []
    for name in wanted:
        mine = np.unique(cells[owner == name])
        done.append(_watch_region(work.for_band(band_of[name], bands), name, held[name], mine))
        staging.write("drift", region_record(name), done[-1])
        progress("watch", len(done), len(wanted))
        give_back()
    _tell(done)
    return {"watched": len(wanted)}


def watched_regions(out: str, store: Store, staging: Staging, job: JobPlan) -> list[str]:
    """Regions of a plan whose decoders the archive held before it; none without a watch."""
    record = base_record(store, staging, job)
    if record is None or job.recipe.drift == 0:
        return []
    held = held_models(out, job, record["space"]["space_id"])
    names = {str(name) for name in np.unique(np.concatenate(plan_areas(job)))}
    # What another committer has added in the meantime has a model of this plan's own already.
    own = {name for name in names & set(held) if staging.read("train", region_record(name))}
    return sorted((names & set(held)) - own)


def _watch_region(work: _Job, region: str, row: Mapping[str, Any], cells: Names) -> dict[str, Any]:
    base, job, level = work.base, work.job, row["mse"]
    known = _stored(work.archive, cells)
    weights = None
    if row["kind"] != "shared":
        kind, name, length = row["kind"], row["model_id"], row["length"]
        weights = load_model(work.store, base.architecture, kind, name, length)
    held = Held(row, weights)
    errors, clipped = _errors(work, held, cells, known)
    usable = errors if level else errors[:0]
    seen = drift.watch(usable, level or 1.0, job.recipe.drift)
    made: dict[str, Any] | None = None
    before = after = None
    if seen.alarm is not None and (weights is not None or job.settings.codec == "auto"):
        data = _split(_fresh(work, cells, known, REGION_ROOM, work.scenes), job)
        if len(data[0]) >= train.LEAST_TILES and len(data[1]) >= LEAST_TEST:
            area = Area(region, *data, sum(map(len, data)))
            fit = Work(work.store, base, job.settings, job.recipe)
            made, before = fit_regions.refit_region(fit, held, area)
            after = made["mse"]
            made = made if after < before else None
    left = seen.ratio * (level or 0.0) if before is None else min(before, after or before)
    alarm = seen.alarm is not None
    return {
        "region": region,
        "tiles": seen.tiles,
        "level": level,
        "ratio": seen.ratio if seen.tiles else None,
        "highest": seen.highest,
        "alarm": seen.alarm,
        "before": before,
        "after": after,
        "clipped": clipped,
        "encoder": drift.beyond_decoders(alarm, left, level or 1.0, clipped),
        "model": made,
    }


def _errors(
    work: _Job, held: Held, cells: Names, known: set[tuple[Any, ...]]
) -> tuple[NDArray[np.float64], float]:
    """Errors of new clear tiles in the order of their dates, and the share that int8 cuts off.
    Those of a date come mixed: neighbours are alike, and a run of them would look like drift."""
    rng = np.random.default_rng(work.job.recipe.seed)
    found, cut, count = [np.zeros(0)], 0.0, 0
    for scene in work.scenes:
        sample = _fresh(work, cells, known, WATCH_ROOM // len(work.scenes), (scene,))
        if len(sample):
            errors = fit_regions.tile_errors(work.base, held, sample)
            found.append(errors[rng.permutation(len(errors))])
            cut += fitting.clipped_share(work.base, sample.pixels) * len(sample)
            count += len(sample)
    return np.concatenate(found), cut / max(count, 1)


def _fresh(
    work: _Job, cells: Names, known: set[tuple[Any, ...]], room: int, scenes: Sequence[Scene]
) -> Sample:
    """Clear chips of scenes that the archive has no rows of yet."""
    settings, found = work.job.settings, []
    for scene in scenes:
        some = gather([scene], settings, cells, room // len(scenes), lambda done, total: None)
        keys = [(name, scene.datetime, scene.source) for name in some.geohash.tolist()]
        keep = np.array([key not in known for key in keys], dtype=bool)
        found.append(some.only(keep & (some.valid.mean(axis=(1, 2)) >= drift.CLEAR)))
    return Sample(
        np.concatenate([some.geohash for some in found]),
        np.concatenate([some.pixels for some in found]),
        np.concatenate([some.valid for some in found]),
        all(some.whole for some in found),
    )


def _split(sample: Sample, job: JobPlan) -> tuple[Sample, Sample]:
    """Training and test chips, by place."""
    if not len(sample):
        return sample, sample
    split = fitting.split_cells(sample.geohash, job.settings, job.recipe.seed)
    keep, test = split.masks(sample.geohash)
    test[np.flatnonzero(test)[fitting.MOST_TEST :]] = False
    return sample.only(keep), sample.only(test)


def _stored(archive: Archive, cells: Names) -> set[tuple[Any, ...]]:
    """(geohash, datetime, source) of the rows that are held of cells."""
    names = ["geohash", "datetime", "source"]
    rows = archive.select(geohash=cells.tolist(), columns=names)
    return set(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _moment(scene: Scene) -> tuple[bool, datetime, str]:
    when = scene.datetime
    return when is None, when or datetime.max.replace(tzinfo=UTC), scene.source


def _tell(done: Sequence[Mapping[str, Any]]) -> None:
    found = drift.summary(done)
    if found is None or not found["drifted"] + found["reencode"]:
        return
    _log.warning(
        "drift: %d of %d regions, %d of them with a new decoder now", found["drifted"],
        found["watched"], found["refitted"],
    )  # fmt: skip
    if found["reencode"]:
        names = ", ".join(row["region"] for row in found["worst"] if row["encoder"])
        _log.warning("drift: a decoder does not help, only reencode would: %s", names)
