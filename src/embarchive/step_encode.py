"""The encode step: tiles of a part become shards, each recorded when it is on the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import encode, indices, oneband, regions, tiles
from embarchive.archive import open_archive
from embarchive.codes import Shared, complete, share, slots
from embarchive.commit import find_head
from embarchive.dates import season
from embarchive.errors import BadInput
from embarchive.gather import cut_scene
from embarchive.layer import Layer
from embarchive.manifest import object_path
from embarchive.memory import give_back
from embarchive.prefixes import NOTHING, Key, Stored, agree, held_rows, write_shard_record
from embarchive.progress import Report
from embarchive.recipe import Settings
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import JobPlan, Staging, read_plan, region_record
from embarchive.step_bands import read_bands
from embarchive.step_drift import watched_regions
from embarchive.step_plan import areas, plan_cells, shard_names
from embarchive.step_train import (
    base_record,
    held_models,
    load_base,
    load_model,
    new_regions,
)
from embarchive.storage import Store
from embarchive.store import VerifiedObject, open_store
from embarchive.weights import load_codes


def encode_step(
    out: str, *, plan: str | None, part: tuple[int, int] | None, progress: Report
) -> dict[str, Any]:
    """Encode the tiles of one part (shards are dealt to parts by their prefix), or of all."""
    store = open_store(out)
    staging, job = read_plan(store, plan)
    mine = shard_names(job)
    if part is not None:
        owner = regions.assign(mine, part[1])
        mine = [name for name, whose in zip(mine, owner, strict=True) if whose == part[0]]
    mine = [name for name in mine if staging.read("encode", name) is None]
    if mine:
        _encode_shards(out, store, staging, job, mine, progress)
    return {"plan": staging.plan_id, "shards": len(mine)}


def encoder_of(out: str, store: Store, staging: Staging, job: JobPlan) -> encode.Encoder:
    """What encodes the tiles of a plan whose networks are trained. Raises BadInput."""
    record = base_record(store, staging, job)
    if record is None:
        raise BadInput("encode: expected trained networks; run train first")
    base = load_base(store, record)
    found: dict[str, encode.RegionModel] = {}
    table = dict(held_models(out, job, base.space.space_id))
    for region in new_regions(out, job, record):
        row = staging.read("train", region_record(region))
        if row is None:
            raise BadInput(f"encode: expected a model of region {region}; run train first")
        table[region] = row
    for region in watched_regions(out, store, staging, job):
        seen = staging.read("drift", region_record(region))
        if seen is None:
            raise BadInput(f"encode: expected a watch of region {region}; run train first")
        table[region] = seen["model"] or table[region]
    for region, row in table.items():
        adapter = own = None
        if row["kind"] in ("adapter", "full"):
            loaded = load_model(
                store, base.architecture, row["kind"], row["model_id"], row["length"]
            )
            adapter, own = (loaded, None) if row["kind"] == "adapter" else (None, loaded)
        found[region] = encode.RegionModel(row["model_id"], adapter, own)
    index = next(iter(indices.index_bands(job.settings)), None)
    return encode.Encoder(
        base.architecture,
        base.encoder,
        base.backbone,
        base.quantiser,
        base.simhash,
        found,
        index,
        load_codes(base.space, job.settings, partial(_object, store)),
    )


def _encode_shards(
    out: str, store: Store, staging: Staging, job: JobPlan, mine: Sequence[str], progress: Report
) -> None:
    encoder = encoder_of(out, store, staging, job)
    record = base_record(store, staging, job)
    assert record is not None
    bands = read_bands(staging, record)
    space = dict(record["space"])
    stored = {name: stored_rows(out, job, name, space["space_id"]) for name in mine}
    found: dict[str, list[pa.Table]] = {name: [] for name in mine}
    held = dict.fromkeys(mine, 0)
    clipped: dict[str, dict[str, list[int]]] = {name: {} for name in mine}
    prefix = job.settings.shard_prefix
    every = plan_cells(job)
    work = list(zip(job.scenes, every, strict=True))
    together = _together(encoder, job, every, mine, stored, progress)
    total = sum(len(cells) for _, cells in work)
    done = 0
    for number, (values, cells) in enumerate(work):
        scene = scene_from_json(values)
        single = oneband.single(job.settings)
        here = encoder.for_band(bands[scene.bands[0].name]) if single else encoder
        wanted = cells[np.isin(cells.astype(f"U{prefix}"), mine)]
        done += len(cells) - len(wanted)
        for chips in cut_scene(scene, wanted, job.settings) if len(wanted) else ():
            for name in np.unique(chips.geohash.astype(f"U{prefix}")).tolist():
                some = chips.select(chips.geohash.astype(f"U{prefix}") == name)
                fresh = _fresh(some, scene, stored[name].keys)
                held[name] += len(some) - int(fresh.sum())
                if fresh.any():
                    some = some.select(fresh)
                    owner = areas(some.geohash, scene, job.settings)
                    table, cut = here.rows(
                        some, owner, scene.datetime, scene.source, together.get(number)
                    )
                    found[name].append(table)
                    seen = clipped[name].setdefault(season(scene.datetime), [0, 0])
                    seen[0], seen[1] = seen[0] + cut, seen[1] + len(table)
            give_back()
            progress("encode", done + int(np.searchsorted(wanted, chips.geohash[-1])), total)
        done += len(wanted)
        progress("encode", done, total)
    for name in mine:
        values = write_shard_record(store, job.settings, space, name, found[name], stored[name])
        values |= {"held": held[name], "clipped": clipped[name], "generation": job.parent}
        staging.write("encode", name, values)


def _object(store: Store, sha256: str, length: int) -> bytes:
    return VerifiedObject(store, object_path("model", sha256), sha256, length).whole()


def _together(
    encoder: encode.Encoder,
    job: JobPlan,
    cells: Sequence[NDArray[np.str_]],
    mine: Sequence[str],
    stored: Mapping[str, Stored],
    progress: Report,
) -> dict[int, dict[str, Shared]]:
    """By number of the scene and cell: what a tile shares with the other dates of its place. Only
    where none of them is stored yet: a stream stands with the first."""
    place = encoder.codes and encoder.codes.place
    if not place:
        return {}
    scenes = [scene_from_json(values) for values in job.scenes]
    slot = slots([one.datetime for one in scenes], place.dates)
    prefix = job.settings.shard_prefix
    wanted = np.unique(
        np.concatenate([cells[i] for i, at in slot.items() if at >= 0] or [cells[0][:0]])
    )
    wanted = wanted[np.isin(wanted.astype(f"U{prefix}"), mine)]
    known = {key[0] for one in stored.values() for key in one.keys}
    wanted = wanted[~np.isin(wanted, list(known))]
    found: dict[int, dict[str, Shared]] = {i: {} for i in slot}
    runs = tiles.groups(wanted)
    for done, run in enumerate(runs):
        parts = [
            (i, chips)
            for i, at in slot.items()
            if at >= 0 and np.isin(cells[i], run).any()
            for chips in cut_scene(scenes[i], cells[i][np.isin(cells[i], run)], job.settings)
        ]
        if parts:
            _share(encoder, place, job.settings, parts, slot, found)
        progress("encode places", done + 1, len(runs))
    return found


def _share(
    encoder: encode.Encoder,
    place: Layer,
    settings: Settings,
    parts: Sequence[tuple[int, tiles.Chips]],
    slot: Mapping[int, int],
    found: dict[int, dict[str, Shared]],
) -> None:
    """Code the whole places among chips of scenes, and note it by scene and cell."""
    names = np.concatenate([chips.geohash for _, chips in parts])
    scene = np.concatenate([np.full(len(chips), i) for i, chips in parts])
    clear = np.concatenate([chips.valid_fraction for _, chips in parts])
    date = [slot[i] for i in scene.tolist()]
    rows = complete(names.tolist(), date, clear.tolist(), len(place.dates))
    if not len(rows):
        return
    pixels = np.concatenate([chips.pixels for _, chips in parts])[rows]
    flat = pixels.reshape(-1, *pixels.shape[2:])
    owner = regions.region_of(names[rows.ravel()], settings)
    decoded = encoder.decoded(flat, owner).reshape(pixels.shape)
    for own, stream in zip(rows, share(place, pixels, decoded), strict=True):
        for at, row in enumerate(own.tolist()):
            found[int(scene[row])][str(names[row])] = Shared(stream, at)


def _fresh(chips: tiles.Chips, scene: Scene, stored: Mapping[Key, bytes]) -> NDArray[np.bool_]:
    """Which chips are not stored yet. Raises Conflict when other pixels are stored."""
    fresh = np.ones(len(chips), dtype=bool)
    for i, name in enumerate(chips.geohash.tolist()):
        digest = stored.get((name, scene.datetime, scene.source))
        if digest is not None:
            fresh[i] = False
            agree((name, scene.datetime, scene.source), digest, chips.digest[i])
    return fresh


def stored_rows(out: str, job: JobPlan, prefix: str, space_id: str) -> Stored:
    """What the newest generation holds under a shard prefix."""
    if job.parent == 0 and find_head(open_store(out)) is None:
        return NOTHING
    return held_rows(open_archive(out), prefix, space_id)
