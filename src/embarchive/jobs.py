"""Builds, in the steps that array jobs run: plan, train, encode, commit.

Every step reads the plan, does what no record says is done, and writes content-named objects
first and its record last. Only `commit` touches the pointer. A killed step is run again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from embarchive import digests, encode, engine, fitting, grid, manifest, model, quantize
from embarchive import regions, rows, shards, tiles
from embarchive.additions import Addition, add_to_archive
from embarchive.archive import open_archive
from embarchive.commit import find_head
from embarchive.errors import BadInput, Conflict
from embarchive.fitting import Base, Split
from embarchive.manifest import Generation, ShardRow, Space, object_path
from embarchive.progress import Report
from embarchive.recipe import Recipe, Settings
from embarchive.sample import Names, Sample, chip_grid, cut_scene, gather, scene_cells
from embarchive.scenes import Scene, find_scenes, scene_from_json, scene_to_json
from embarchive.staging import MODEL_KEYS, JobPlan, Staging, read_plan, write_plan
from embarchive.storage import Store
from embarchive.store import VerifiedObject, open_store

# Bytes of chips kept in memory to train the shared networks, and a region's decoder.
ROOM, REGION_ROOM = 192 << 20, 48 << 20
PART_TILES = 100_000
KEYS = ("geohash", "datetime", "source", "input_digest")


def build(
    scenes: Sequence[str], out: str, recipe: Recipe, *, workers: int, progress: Report
) -> dict[str, Any]:
    """Plan, train, encode and commit; the `build` document of the command line."""
    began = time.monotonic()
    made = plan(scenes, out, recipe, parts=1)
    train(out, plan=made["plan"], part=None, backbone=False, progress=progress)
    task = partial(_encode_part, out, made["plan"])
    parts = max(-(-int(made["tiles"]) // PART_TILES), 2 * workers if workers > 1 else 1)
    for done, _ in enumerate(engine.run(task, parts, workers) if workers > 1 else ()):
        progress("encode parts", done + 1, parts)
    if workers <= 1:
        for part in range(parts):
            encode_step(out, plan=made["plan"], part=(part, parts), progress=progress)
    return commit(out, plan=made["plan"], progress=progress) | {
        "seconds": round(time.monotonic() - began, 3)
    }


def dry_run(scenes: Sequence[str], out: str, recipe: Recipe) -> dict[str, Any]:
    """Tiles, bytes and seconds that a build is expected to take; writes nothing.

    Tiles are counted from the scenes' outlines; the time from cutting a few of them.
    """
    job = _decide(open_store(out), scenes, recipe)
    found = [scene_from_json(values) for values in job.scenes]
    cells = [scene_cells(scene, job.settings) for scene in found]
    total = sum(len(some) for some in cells)
    began, cut = time.monotonic(), 0
    for scene, some in zip(found[:1], cells[:1], strict=True):
        middle = tiles.groups(some)[len(tiles.groups(some)) // 2]
        cut += len(middle[:128])
        list(cut_scene(scene, middle[:128], job.settings))
    a_tile = (time.monotonic() - began) / max(cut, 1)
    training = 0.02 * recipe.steps if job.parent == 0 else 0.0
    s = job.settings
    return {
        "scenes": len(found),
        "tiles": total,
        "places": len(np.unique(np.concatenate(cells))),
        "regions": len(np.unique(regions.region_of(np.concatenate(cells), s))),
        "bytes": total * (s.dim + s.bits // 8 + 20),
        "seconds": round(total * (2 * a_tile + 0.004) + training, 1),
        "precision": s.precision,
        "gsd": s.gsd,
        "chip": [s.height, s.width],
        "bands": list(s.bands),
    }


def plan(scenes: Sequence[str], out: str, recipe: Recipe, *, parts: int) -> dict[str, Any]:
    """Decide what a build does and write the plan; the same input gives the same plan."""
    store = open_store(out)
    job = _decide(store, scenes, recipe)
    store.check_writable()
    staging = write_plan(store, job)
    cells = _plan_cells(job)
    return {
        "plan": staging.plan_id,
        "parts": parts,
        "scenes": len(job.scenes),
        "tiles": sum(len(some) for some in cells),
        "regions": len(np.unique(regions.region_of(np.concatenate(cells), job.settings))),
        "next": [f"embarchive encode {out} --part {i}/{parts}" for i in range(parts)],
    }


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
    scenes = [scene_from_json(values) for values in job.scenes]
    base = _base_record(store, staging, job)
    sample: Sample | None = None
    if base is None:
        if part is not None:
            raise BadInput("train: expected the shared networks; run train --backbone first")
        sample = gather(scenes, job.settings, None, ROOM, partial(progress, "read"))
        base = _train_base(store, staging, job, sample, progress)
    if backbone:
        return {"plan": staging.plan_id, "regions": 0}
    wanted = _new_regions(out, job, base)
    if part is not None:
        owner = regions.assign(wanted, part[1])
        wanted = [name for name, mine in zip(wanted, owner, strict=True) if mine == part[0]]
    _train_regions(store, staging, job, base, wanted, sample, progress)
    return {"plan": staging.plan_id, "regions": len(wanted)}


def encode_step(
    out: str, *, plan: str | None, part: tuple[int, int] | None, progress: Report
) -> dict[str, Any]:
    """Encode the tiles of one part (shards are dealt to parts by their prefix), or of all."""
    store = open_store(out)
    staging, job = read_plan(store, plan)
    mine = _shard_names(job)
    if part is not None:
        owner = regions.assign(mine, part[1])
        mine = [name for name, whose in zip(mine, owner, strict=True) if whose == part[0]]
    mine = [name for name in mine if staging.read("encode", name) is None]
    if mine:
        _encode_shards(out, store, staging, job, mine, progress)
    return {"plan": staging.plan_id, "shards": len(mine)}


def commit(out: str, *, plan: str | None, progress: Report) -> dict[str, Any]:
    """Make what the parts of a plan have written the next generation."""
    store = open_store(out)
    staging, job = read_plan(store, plan)
    base = _base_record(store, staging, job)
    records = {name: staging.read("encode", name) for name in _shard_names(job)}
    missing = sum(record is None for record in records.values())
    if base is None or missing:
        raise BadInput(f"commit: expected every part encoded, found {missing} shards missing")
    done = {name: record for name, record in records.items() if record is not None}
    if not any(record["rows"] or record["held"] for record in done.values()):
        raise BadInput("build: expected tiles that are data, found none in any scene")
    head = add_to_archive(store, partial(_addition, out, store, staging, job, base, done))
    staging.clear()
    progress("commit", 1, 1)
    archive = open_archive(out)
    info = archive.info()
    return {
        "generation": head.generation.number,
        "tiles": info["tiles"],
        "regions": info["regions"],
        "bytes": info["bytes"],
        "added": sum(record["rows"] for record in done.values()),
    }


# ---------------------------------------------------------------- plan


def _decide(store: Store, paths: Sequence[str], recipe: Recipe) -> JobPlan:
    head = find_head(store)
    if head is not None:
        recipe = replace(recipe, bands=head.generation.settings.bands)
    scenes = find_scenes(paths, recipe)
    if not scenes:
        raise BadInput(f"scenes: expected rasters in {', '.join(paths)}, found none")
    settings = head.generation.settings if head else _settings(scenes, recipe)
    for scene in scenes:
        names = tuple(band.name for band in scene.bands)
        if names != settings.bands:
            raise BadInput(
                f"scene {scene.source}: expected bands {', '.join(settings.bands)}, "
                f"found {', '.join(names)}"
            )
    values = {key: getattr(recipe, key) for key in MODEL_KEYS}
    return JobPlan(
        tuple(scene_to_json(scene) for scene in scenes),
        settings,
        values,
        head.generation.number if head else 0,
    )


def _settings(scenes: Sequence[Scene], recipe: Recipe) -> Settings:
    latitudes = [lat for scene in scenes for box in scene.bounds for lat in (box[1], box[3])]
    gsd = recipe.gsd or min(scene.gsd for scene in scenes)
    chips = grid.choose_grid(gsd, latitudes, recipe.precision)
    dates = len({scene.datetime for scene in scenes})
    cells = np.unique(
        np.concatenate([tiles.cells_of(scene.bounds, chips.precision) for scene in scenes])
    )
    bands = tuple(band.name for band in scenes[0].bands)
    mapping = (
        regions.read_regions(recipe.region_file, chips.precision) if recipe.region_file else {}
    )
    prefix = recipe.region_prefix or regions.choose_region_prefix(cells, chips.precision)
    settings = Settings(
        precision=chips.precision,
        gsd=chips.gsd,
        height=chips.height,
        width=chips.width,
        bands=bands,
        units=scenes[0].units,
        region_prefix=prefix,
        shard_prefix=recipe.shard_prefix or regions.choose_shard_prefix(cells, dates),
        indices=recipe.indices or fitting.default_index(bands),
        dim=recipe.dim,
        bits=recipe.bits,
        codec=recipe.codec,
        min_cover=recipe.min_cover,
        min_valid=recipe.min_valid,
        regions=mapping,
        title=recipe.title,
        attribution=recipe.attribution or scenes[0].attribution,
        licence=recipe.licence or scenes[0].licence,
    )
    fitting.index_bands(settings)
    return settings


def _plan_cells(job: JobPlan) -> list[Names]:
    """The cells that each scene may touch."""
    return [scene_cells(scene_from_json(values), job.settings) for values in job.scenes]


def _shard_names(job: JobPlan) -> list[str]:
    names = np.unique(np.concatenate(_plan_cells(job)))
    return [str(name) for name in np.unique(names.astype(f"U{job.settings.shard_prefix}"))]


# ---------------------------------------------------------------- train


def _base_record(store: Store, staging: Staging, job: JobPlan) -> dict[str, Any] | None:
    """The record of the shared networks: the archive's newest space, or the plan's own."""
    record = staging.read("train", "base")
    if record is not None or job.parent == 0:
        return record
    head = find_head(store)
    if head is None or head.generation.models is None:
        return None
    ref, space = head.generation.models, head.generation.spaces[-1]
    path = object_path("manifest-parquet", ref.sha256)
    table = manifest.parse_models(VerifiedObject(store, path, ref.sha256, ref.length).whole())
    ours = [row for row in table.to_pylist() if row["space_id"] == space.space_id]
    first = next((row for row in ours if row["backbone"] or row["kind"] == "shared"), None)
    plain = {f.name: getattr(space, f.name) for f in fields(Space)}
    extra = dict(space.baselines)
    backbone = (extra["backbone"], extra["backbone_length"]) if "backbone" in extra else None
    if backbone is None and first is None:
        return None
    sha, length = backbone or (first["backbone"], first["backbone_length"])  # type: ignore[index]
    return {
        "space": plain,
        "backbone": sha,
        "backbone_length": length,
        "onnx_sha256": ours[0]["onnx_sha256"],
        "onnx_length": ours[0]["onnx_length"],
        "peak": extra.get("peak", 0.0),
        "test": [],
    }


def _train_base(
    store: Store, staging: Staging, job: JobPlan, sample: Sample, progress: Report
) -> dict[str, Any]:
    cells = sample.geohash if sample.whole else np.unique(np.concatenate(_plan_cells(job)))
    if not len(sample):
        raise BadInput("build: expected tiles that are data, found none in any scene")
    split = fitting.split_cells(cells, job.settings, job.recipe.seed)
    step = partial(progress, "train")
    record = fitting.fit_space(store, job.settings, job.recipe, sample, split, step)
    record["space"]["baselines"] = {
        key: record[key] for key in ("backbone", "backbone_length", "peak")
    }
    record["test"], record["train"] = sorted(split.test), sorted(split.train)
    staging.write("train", "base", record)
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
    base = _load_base(store, record)
    todo = [name for name in wanted if staging.read("train", f"region-{name}") is None]
    if not todo:
        return
    scenes = [scene_from_json(values) for values in job.scenes]
    every = np.unique(np.concatenate(_plan_cells(job)))
    owner = regions.region_of(every, job.settings)
    if "train" in record:
        split = Split(frozenset(record["train"]), frozenset(record["test"]))
    else:
        split = fitting.split_cells(every, job.settings, job.recipe.seed)
    pca: fitting.Pca | None = None
    for done, region in enumerate(todo):
        if sample is not None and sample.whole:
            own = sample.only(regions.region_of(sample.geohash, job.settings) == region)
        else:
            cells = every[owner == region]
            own = gather(scenes, job.settings, cells, REGION_ROOM, lambda done, total: None)
        keep, test = split.masks(own.geohash)
        test[np.flatnonzero(test)[fitting.MOST_TEST :]] = False
        if pca is None and sample is not None:
            pca = fitting.fit_pca(sample.pixels[split.masks(sample.geohash)[0]], job.settings.dim)
        data = own.only(keep), own.only(test)
        row = fitting.fit_region(store, base, job.settings, job.recipe, region, data, pca)
        staging.write("train", f"region-{region}", row)
        progress("regions", done + 1, len(todo))


def _new_regions(out: str, job: JobPlan, record: Mapping[str, Any]) -> list[str]:
    """Regions of the plan that have no model in its space."""
    cells = np.unique(np.concatenate(_plan_cells(job)))
    names = {str(name) for name in np.unique(regions.region_of(cells, job.settings))}
    return sorted(names - set(_held_models(out, job, record["space"]["space_id"])))


def _held_models(out: str, job: JobPlan, space_id: str) -> dict[str, dict[str, Any]]:
    if job.parent == 0:
        return {}
    table = open_archive(out).models().to_pylist()
    return {row["region"]: row for row in table if row["space_id"] == space_id}


def _load_base(store: Store, record: Mapping[str, Any]) -> Base:
    space = Space(**record["space"])
    arch = model.Architecture.from_json(space.decoder)
    simhash = quantize.SimHash.from_json(space.simhash) if space.simhash else None
    return Base(
        space.space_id,
        arch,
        _weights(store, arch, "encoder", space.encoder, space.encoder_length),
        _weights(store, arch, "backbone", record["backbone"], record["backbone_length"]),
        record["backbone"],
        record["backbone_length"],
        quantize.Int8(space.scale),
        simhash,
        (record["onnx_sha256"], record["onnx_length"]),
        record["peak"],
    )


def _weights(
    store: Store, arch: model.Architecture, kind: str, sha256: str, length: int
) -> model.Weights:
    path = object_path("model", sha256)
    data = VerifiedObject(store, path, sha256, length).whole()
    return model.load_weights(data, arch, kind)


# ---------------------------------------------------------------- encode


def _encode_part(out: str, plan_id: str, part: int, parts: int) -> None:
    encode_step(out, plan=plan_id, part=(part, parts), progress=lambda stage, done, total: None)


def _encoder(out: str, store: Store, staging: Staging, job: JobPlan) -> encode.Encoder:
    record = _base_record(store, staging, job)
    if record is None:
        raise BadInput("encode: expected trained networks; run train first")
    base = _load_base(store, record)
    found: dict[str, encode.RegionModel] = {}
    table = dict(_held_models(out, job, base.space_id))
    for region in _new_regions(out, job, record):
        row = staging.read("train", f"region-{region}")
        if row is None:
            raise BadInput(f"encode: expected a model of region {region}; run train first")
        table[region] = row
    for region, row in table.items():
        adapter = own = None
        if row["kind"] in ("adapter", "full"):
            loaded = _weights(
                store, base.architecture, row["kind"], row["model_id"], row["length"]
            )
            adapter, own = (loaded, None) if row["kind"] == "adapter" else (None, loaded)
        found[region] = encode.RegionModel(row["model_id"], adapter, own)
    index = fitting.index_bands(job.settings)
    return encode.Encoder(
        base.architecture, base.encoder, base.backbone, base.quantiser, base.simhash, found, index
    )


def _encode_shards(
    out: str, store: Store, staging: Staging, job: JobPlan, mine: Sequence[str], progress: Report
) -> None:
    encoder = _encoder(out, store, staging, job)
    stored = {name: _stored_keys(out, job, name) for name in mine}
    found: dict[str, list[pa.Table]] = {name: [] for name in mine}
    held, clipped = dict.fromkeys(mine, 0), dict.fromkeys(mine, 0)
    prefix = job.settings.shard_prefix
    work = list(zip(job.scenes, _plan_cells(job), strict=True))
    total = sum(len(cells) for _, cells in work)
    done = 0
    for values, cells in work:
        scene = scene_from_json(values)
        wanted = cells[np.isin(cells.astype(f"U{prefix}"), mine)]
        done += len(cells) - len(wanted)
        for chips in cut_scene(scene, wanted, job.settings) if len(wanted) else ():
            for name in np.unique(chips.geohash.astype(f"U{prefix}")).tolist():
                some = chips.select(chips.geohash.astype(f"U{prefix}") == name)
                fresh = _fresh(some, scene, stored[name])
                held[name] += len(some) - int(fresh.sum())
                if fresh.any():
                    some = some.select(fresh)
                    owner = regions.region_of(some.geohash, job.settings)
                    table, cut = encoder.rows(some, owner, scene.datetime, scene.source)
                    found[name].append(table)
                    clipped[name] += cut
            progress("encode", done + int(np.searchsorted(wanted, chips.geohash[-1])), total)
        done += len(wanted)
        progress("encode", done, total)
    record = _base_record(store, staging, job)
    assert record is not None
    for name in mine:
        known = {key[0] for key in stored[name]}
        values = _write_shards(store, job.settings, record["space"], name, found[name], known)
        values |= {"held": held[name], "clipped": clipped[name], "generation": job.parent}
        staging.write("encode", name, values)


def _fresh(
    chips: tiles.Chips, scene: Scene, stored: Mapping[tuple[str, datetime | None, str], bytes]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which chips are not stored yet. Raises Conflict when other pixels are stored."""
    fresh = np.ones(len(chips), dtype=bool)
    for i, name in enumerate(chips.geohash.tolist()):
        digest = stored.get((name, scene.datetime, scene.source))
        if digest is not None:
            fresh[i] = False
            _agree((name, scene.datetime, scene.source), digest, chips.digest[i])
    return fresh


def _agree(key: tuple[str, datetime | None, str], held: bytes, new: bytes) -> None:
    if held != new:
        name, when, source = key
        raise Conflict(
            f"tile {name} of {source} at {when}: expected the stored input {held.hex()}, "
            f"found {new.hex()}"
        )


def _stored_keys(
    out: str, job: JobPlan, prefix: str
) -> dict[tuple[str, datetime | None, str], bytes]:
    """Identity of the rows that the archive holds under a shard prefix, to their digest."""
    if job.parent == 0 and find_head(open_store(out)) is None:
        return {}
    held = open_archive(out).select(geohash=[prefix], columns=list(KEYS))
    columns = [held[name].to_pylist() for name in KEYS]
    return {(g, when, s): digest for g, when, s, digest in zip(*columns, strict=True)}


def _write_shards(
    store: Store,
    settings: Settings,
    space: Mapping[str, Any],
    prefix: str,
    found: Sequence[pa.Table],
    known: set[str],
) -> dict[str, Any]:
    """Write the shards of a prefix; their record."""
    if not found:
        return {"rows": 0, "places": 0, "sources": [], "shards": []}
    table = rows.sort_rows(pa.concat_tables(found).unify_dictionaries())
    emb = shards.emb_metadata(settings, space["space_id"], space["encoder"], space["scale"])
    written = []
    for shard in shards.write_shards(table, emb):
        blocks = digests.sha256(shard.outboard)
        store.put_new(object_path("blocks", blocks), shard.outboard)
        store.put_new(object_path("shard", shard.sha256, prefix), shard.data)
        values = {f.name: getattr(shard, f.name, None) for f in fields(ShardRow)}
        values |= {"prefix": prefix, "space_id": space["space_id"], "blocks": blocks}
        values["model_ids"], values["bbox"] = list(shard.model_ids), list(shard.bbox)
        for key in ("datetime_min", "datetime_max"):
            values[key] = values[key].isoformat() if values[key] else None
        written.append(values)
    return {
        "rows": len(table),
        "places": len(set(table["geohash"].to_pylist()) - known),
        "sources": sorted(set(table["source"].cast(pa.string()).to_pylist())),
        "shards": written,
    }


# ---------------------------------------------------------------- commit


def _addition(
    out: str,
    store: Store,
    staging: Staging,
    job: JobPlan,
    base: Mapping[str, Any],
    records: Mapping[str, Mapping[str, Any]],
    parent: Generation | None,
) -> Addition:
    if parent is not None and parent.number != job.parent:
        records = {
            name: _rebased(out, store, job, base, name, record)
            for name, record in records.items()
        }
    new = [_shard_row(values) for record in records.values() for values in record["shards"]]
    regional = _new_regions(out, job, base)
    models = [staging.read("train", f"region-{name}") for name in regional]
    used = {model_id for shard in new for model_id in shard.model_ids}
    sources = {source for record in records.values() for source in record["sources"]}
    return Addition(
        settings=job.settings,
        shards=tuple(new),
        models=tuple(row for row in models if row is not None and row["model_id"] in used),
        spaces=(_space(job, base, records),),
        scenes=len(sources),
        places=sum(record["places"] for record in records.values()),
        attribution=job.settings.attribution,
    )


def _rebased(
    out: str,
    store: Store,
    job: JobPlan,
    base: Mapping[str, Any],
    prefix: str,
    record: Mapping[str, Any],
) -> Mapping[str, Any]:
    """A record without the rows that another committer stored in the meantime."""
    stored = _stored_keys(out, job, prefix)
    kept, dropped = [], 0
    for values in record["shards"]:
        path = object_path("shard", values["sha256"], prefix)
        data = VerifiedObject(store, path, values["sha256"], values["length"]).whole()
        names = rows.schema(job.settings.dim, job.settings.bits).names
        metadata = pa.parquet.read_metadata(pa.BufferReader(data))
        groups = range(metadata.num_row_groups)
        table = shards.read_rows(pa.BufferReader(data), metadata, list(groups), names)
        columns = [table[name].to_pylist() for name in KEYS]
        keep = []
        for g, when, source, digest in zip(*columns, strict=True):
            held = stored.get((g, when, source))
            if held is not None:
                _agree((g, when, source), held, digest)
            keep.append(held is None)
        dropped += keep.count(False)
        kept.append(table.filter(pa.array(keep)))
    if not dropped:
        return record
    known = {key[0] for key in stored}
    some = [table for table in kept if len(table)]
    return _write_shards(store, job.settings, base["space"], prefix, some, known)


def _shard_row(values: Mapping[str, Any]) -> ShardRow:
    plain = dict(values)
    for key in ("datetime_min", "datetime_max"):
        plain[key] = datetime.fromisoformat(plain[key]) if plain[key] else None
    plain["bbox"], plain["model_ids"] = tuple(plain["bbox"]), tuple(plain["model_ids"])
    return ShardRow(**plain)


def _space(
    job: JobPlan, base: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]
) -> Space:
    """The space with what this job learnt: on what it was trained, what it clipped."""
    space = Space(**base["space"])
    numbers = sum(record["rows"] for record in records.values()) * space.dim
    clipped = sum(record.get("clipped", 0) for record in records.values())
    share = clipped / numbers if numbers else 0.0
    found = [scene_from_json(values) for values in job.scenes]
    dates = sorted(scene.datetime for scene in found if scene.datetime is not None)
    trained = dict(space.trained)
    if job.parent == 0:
        boxes = np.array([box for scene in found for box in scene.bounds])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        trained["bounds"] = [*low.tolist(), *high.tolist()]
        trained["datetime"] = [d.isoformat() for d in (dates[0], dates[-1])] if dates else None
    seasons = sorted({_season(when) for when in dates}) or ["undated"]
    saturation = {**space.saturation, **dict.fromkeys(seasons, share)} if numbers else None
    return replace(space, trained=trained, saturation=saturation or space.saturation)


def _season(when: datetime) -> str:
    """Meteorological seasons by their months: DJF MAM JJA SON."""
    return ("DJF", "MAM", "JJA", "SON")[when.month % 12 // 3]


__all__ = ["build", "commit", "dry_run", "encode_step", "plan", "train"]
_ = chip_grid
