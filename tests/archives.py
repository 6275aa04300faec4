"""Small synthetic archives for the tests of readers: clustered vectors, the real formats, no
training. 50,000 tiles take a few seconds."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa

from embarchive import digests, grid, manifest, quantize, rows, shards
from embarchive.additions import Addition, Swap, add_to_archive, replace_shards
from embarchive.archive import open_archive
from embarchive.commit import commit
from embarchive.prefixes import put_shard
from embarchive.recipe import Settings
from embarchive.store import open_store

EMB = {"emb:type": "chip", "emb:dimensions": 64, "data_type": "int8"}
SCALE = 0.03125
FIRST = datetime(2023, 5, 1, 10, 30, tzinfo=UTC)


def make_cells(count, west=13.0, south=52.0, precision=6):
    """Geohashes of a square of neighbouring cells, sorted."""
    corner = grid.bounds(grid.encode(np.array([west]), np.array([south]), precision))[0]
    side = int(np.ceil(np.sqrt(count)))
    east, north = np.meshgrid(np.arange(side), np.arange(side))
    lon = corner[0] + (east.ravel()[:count] + 0.5) * (corner[2] - corner[0])
    lat = corner[1] + (north.ravel()[:count] + 0.5) * (corner[3] - corner[1])
    return np.sort(grid.encode(lon, lat, precision))


def make_vectors(count, dim=64, seed=0):
    """Clustered int8 vectors (count, dim): 12 kinds of place and noise."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(0, 30, (12, dim))
    noisy = kinds[rng.integers(12, size=count)] + rng.normal(0, 12, (count, dim))
    return np.clip(np.round(noisy), -127, 127).astype(np.int8)


def make_simhash(dim=64, bits=128):
    return quantize.fit_simhash(make_vectors(2000, dim, seed=9), bits, 0)


def make_table(
    count,
    *,
    dates=1,
    seed=0,
    dim=64,
    bits=128,
    models=("a" * 64, "b" * 64),
    nulls=False,
    cells=None,
    start=FIRST,
    named="scene",
):
    """Rows of `count` tiles: count / dates places on `dates` dates, two sources. The second
    half of the places belongs to the second model; `nulls` takes some dates away."""
    rng = np.random.default_rng(seed)
    places = make_cells(-(-count // dates)) if cells is None else np.sort(cells)
    index = np.arange(count) % len(places)
    turn = np.arange(count) // len(places)
    when = [start + timedelta(days=10 * int(t)) for t in turn]
    if nulls:
        when = [None if i % 7 == 0 else moment for i, moment in enumerate(when)]
    vectors = make_vectors(count, dim, seed)
    owner = index * len(models) // len(places)
    return rows.make_rows(
        places[index],
        when,
        vectors,
        make_simhash(dim, bits).encode(vectors) if bits else None,
        {
            "model_id": [models[i] for i in owner],
            "source": [f"{named}-{t % 2}-{t}" for t in turn],
            "input_digest": [int(i).to_bytes(8, "big") for i in range(count)],
            "valid_fraction": rng.uniform(0.2, 1, count),
            "mse": rng.uniform(0, 1e-3, count),
        },
    )


def make_archive(
    root,
    count,
    *,
    dates=1,
    nulls=False,
    shard_prefix=3,
    settings=None,
    named="scene",
    cells=None,
):
    """Write an archive of `make_table`'s rows with the real formats and a real commit; its
    models are bytes that nothing can decode. Returns the rows."""
    store = open_store(root)
    put = partial(_put, store)
    weights = [put("model", f"weights of model {name}".encode()) for name in "ab"]
    same = {"models": weights, "named": named, "cells": cells}
    table = make_table(count, dates=dates, nulls=nulls, **same)
    space = manifest.Space(
        space_id="synthetic-1",
        encoder=put("model", b"encoder"),
        encoder_length=7,
        backbone=weights[0],
        backbone_length=18,
        dim=64,
        metric="l2",
        scale=SCALE,
        simhash=make_simhash().to_json(),
        saturation={"spring": 0.0},
    )
    models = [
        {"model_id": sha, "length": 18, "kind": "shared", "region": f"region-{index}",
         "space_id": space.space_id, "mse": 1e-4}
        for index, sha in enumerate(weights)
    ]  # fmt: skip
    prefixes = np.array([name[:shard_prefix] for name in table["geohash"].to_pylist()])
    found = []
    for prefix in np.unique(prefixes).tolist():
        for shard in shards.write_shards(table.filter(pa.array(prefixes == prefix)), EMB):
            put("shard", shard.data, prefix)
            found.append(_shard_row(shard, prefix, space.space_id, put))
    addition = Addition(
        settings=settings or make_settings(shard_prefix),
        shards=tuple(found),
        models=tuple(models),
        spaces=(space,),
        scenes=dates,
        places=len(set(table["geohash"].to_pylist())),
    )
    add_to_archive(store, lambda _: addition)
    return table


def append_date(root, turn, count=300, space_id="synthetic-1"):
    """The same places on another date, as small shards of a commit of their own."""
    archive = open_archive(root)
    models = sorted({one for row in archive.shards() for one in row.model_ids})
    table = make_table(
        count, seed=turn, models=models, start=FIRST + timedelta(days=turn), named=f"scene{turn}"
    )
    prefixes = np.array([name[:3] for name in table["geohash"].to_pylist()])
    found = [
        put_shard(archive.store, shards.write_shard(some, EMB), prefix, space_id)
        for prefix in np.unique(prefixes).tolist()
        for some in [table.filter(pa.array(prefixes == prefix))]
    ]
    spaces = tuple(replace(space, space_id=space_id) for space in archive.spaces[:1])
    one = Addition(archive.settings, shards=tuple(found), spaces=spaces, scenes=1)
    add_to_archive(archive.store, lambda parent: one)


def without_heads(root):
    """Commit the shards with outboards as they were before there were heads."""
    archive, swaps = open_archive(root), []
    for row in archive.shards():
        outboard = digests.block_digests(archive.reader.file(row).fetch_whole())
        new = replace(row, blocks=_put(archive.store, "blocks", outboard))
        if new != row:
            swaps.append(Swap(frozenset([row.sha256]), (new,)))
    commit(archive.store, lambda head: replace_shards(archive.store, head.generation, swaps))


def make_settings(shard_prefix=3):
    return Settings(
        precision=6,
        gsd=25.0,
        height=48,
        width=48,
        bands=("B02", "B03", "B04"),
        units="reflectance",
        region_prefix=4,
        shard_prefix=shard_prefix,
        indices={},
        dim=64,
        bits=128,
        codec="shared",
        min_cover=0.5,
        min_valid=0.1,
    )


def _put(store, kind, data, prefix=None):
    sha = digests.sha256(data)
    store.put_new(manifest.object_path(kind, sha, prefix), data)
    return sha


def _shard_row(shard, prefix, space_id, put):
    same = {
        f.name: getattr(shard, f.name) for f in fields(manifest.ShardRow) if hasattr(shard, f.name)
    }
    return manifest.ShardRow(
        prefix=prefix, space_id=space_id, blocks=put("blocks", shard.outboard), **same
    )
