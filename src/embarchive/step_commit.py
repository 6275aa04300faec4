"""The commit step: what the parts of a plan have written becomes the next generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embarchive import drift, rows, shards
from embarchive.additions import Addition, add_to_archive
from embarchive.archive import open_archive
from embarchive.codes import orphans
from embarchive.errors import BadInput, Conflict
from embarchive.manifest import Generation, Space, object_path
from embarchive.prefixes import KEYS, agree, shard_row, write_shard_record
from embarchive.progress import Report
from embarchive.scenes import scene_from_json
from embarchive.staging import JobPlan, Staging, read_plan, region_record
from embarchive.step_drift import watched_regions
from embarchive.step_encode import stored_rows
from embarchive.step_plan import shard_names
from embarchive.step_train import base_record, new_regions
from embarchive.storage import Store
from embarchive.store import VerifiedObject, open_store


def commit(out: str, *, plan: str | None, progress: Report) -> dict[str, Any]:
    """Make what the parts of a plan have written the next generation."""
    store = open_store(out)
    staging, job = read_plan(store, plan)
    base = base_record(store, staging, job)
    records = {name: staging.read("encode", name) for name in shard_names(job)}
    missing = sum(record is None for record in records.values())
    if base is None or missing:
        raise BadInput(f"commit: expected every part encoded, found {missing} shards missing")
    done = {name: record for name, record in records.items() if record is not None}
    if not any(record["rows"] or record["held"] for record in done.values()):
        staging.clear()
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
        "space_id": base["space"]["space_id"],
        "added": sum(record["rows"] for record in done.values()),
    }


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
            name: _rebased(out, store, job, base, name, record) for name, record in records.items()
        }
    new = [shard_row(values) for record in records.values() for values in record["shards"]]
    regional = new_regions(out, job, base)
    models = [staging.read("train", region_record(name)) for name in regional]
    watched = watched_regions(out, store, staging, job)
    seen = [staging.read("drift", region_record(name)) for name in watched]
    found = [record for record in seen if record is not None]
    models += [record["model"] for record in found]
    used = {model_id for shard in new for model_id in shard.model_ids}
    sources = {source for record in records.values() for source in record["sources"]}
    return Addition(
        settings=job.settings,
        shards=tuple(new),
        models=tuple(row for row in models if row is not None and row["model_id"] in used),
        spaces=(
            _space(job, _banded(_known(parent, base), staging), records, drift.summary(found)),
        ),
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
    stored = stored_rows(out, job, prefix, base["space"]["space_id"])
    kept, dropped = [], 0
    for values in record["shards"]:
        path = object_path("shard", values["sha256"], prefix)
        data = VerifiedObject(store, path, values["sha256"], values["length"]).whole()
        names = rows.schema(job.settings.dim, job.settings.bits).names
        metadata = pq.read_metadata(pa.BufferReader(data))
        groups = range(metadata.num_row_groups)
        table = shards.read_rows(pa.BufferReader(data), metadata, list(groups), names)
        columns = [table[name].to_pylist() for name in KEYS]
        keep = []
        for g, when, source, digest in zip(*columns, strict=True):
            held = stored.keys.get((g, when, source))
            if held is not None:
                agree((g, when, source), held, digest)
            keep.append(held is None)
        lost = orphans(columns[0], table["code"].to_pylist(), keep)
        if base["space"].get("together") and lost:
            raise Conflict(
                f"tile {lost[0]}: expected none of its dates in the archive, found one that "
                "another committer added; run the build again"
            )
        dropped += keep.count(False)
        kept.append(table.filter(pa.array(keep)))
    if not dropped:
        return record
    some = [table for table in kept if len(table)]
    return write_shard_record(store, job.settings, base["space"], prefix, some, stored)


def _known(parent: Generation | None, base: Mapping[str, Any]) -> Space:
    """The plan's space, as the archive has it where it does."""
    held = {space.space_id: space for space in parent.spaces} if parent else {}
    return held.get(base["space"]["space_id"], Space(**base["space"]))


def _banded(space: Space, staging: Staging) -> Space:
    """The space with the numbers of bands that are new to it."""
    fresh = staging.read("train", "bands")
    if not fresh:
        return space
    bands = {**fresh, **space.trained.get("bands", {})}
    return replace(space, trained={**space.trained, "bands": bands})


def _space(
    job: JobPlan,
    space: Space,
    records: Mapping[str, Mapping[str, Any]],
    watched: Mapping[str, Any] | None,
) -> Space:
    """The space with what this job learnt: on what it was trained, what it clipped, and how the
    decoders that it found there did."""
    found = [scene_from_json(values) for values in job.scenes]
    dates = sorted(scene.datetime for scene in found if scene.datetime is not None)
    trained = dict(space.trained)
    if job.first and "bounds" not in trained:
        boxes = np.array([box for scene in found for box in scene.bounds])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        trained["bounds"] = [*low.tolist(), *high.tolist()]
        trained["datetime"] = [d.isoformat() for d in (dates[0], dates[-1])] if dates else None
    if watched is not None:
        trained["drift"] = dict(watched)
    seen: dict[str, list[int]] = {}
    for record in records.values():
        for name, (cut, total) in record.get("clipped", {}).items():
            held = seen.setdefault(name, [0, 0])
            held[0], held[1] = held[0] + cut, held[1] + total
    shares = {name: cut / (count * space.dim) for name, (cut, count) in sorted(seen.items())}
    return replace(space, trained=trained, saturation={**space.saturation, **shares})
