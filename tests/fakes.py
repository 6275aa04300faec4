"""Additions made of bytes that only look like shards, for what looks at hashes alone."""

import hashlib
from datetime import UTC, datetime

from embarchive import digests, manifest
from embarchive.additions import Addition
from embarchive.recipe import Settings

DAY = datetime(2023, 8, 15, 10, 30, tzinfo=UTC)
SETTINGS = Settings(
    precision=6, gsd=10.0, height=64, width=64, bands=("B02", "B8A"), units="reflectance",
    region_prefix=4, shard_prefix=3, indices={"ndvi": ("B8A", "B02")}, dim=64, bits=128,
    codec="adapter", min_cover=0.5, min_valid=0.1,
)  # fmt: skip


def sha(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


def space(space_id="s1", **more):
    values = {"encoder_length": 7, "dim": 64, "metric": "l2", "scale": 0.03125, **more}
    return manifest.Space(space_id=space_id, encoder=sha("encoder"), **values)


def shard_row(prefix="u33", data=b"x" * 20_000, rows=10, *, west=13.0, south=52.0, **more):
    outboard = digests.block_digests(data)
    values = {
        "geohash_min": prefix + "000", "geohash_max": prefix + "zzz", "footer_length": 100,
        "rows": rows, "bbox": (west, south, west + 1, south + 1), "datetime_min": DAY,
        "datetime_max": DAY, "space_id": "s1", "model_ids": (sha("model"),), **more,
    }  # fmt: skip
    return manifest.ShardRow(
        prefix=prefix, sha256=digests.sha256(data), length=len(data),
        blocks=digests.sha256(outboard), **values,
    )  # fmt: skip


def addition(name, prefix="u33", **more):
    """One shard of bytes made from a name, with its outboard and a model."""
    data = hashlib.shake_256(str(name).encode()).digest(20_000)
    row = shard_row(prefix, data, **more)
    return Addition(
        SETTINGS,
        shards=(row,),
        models=({"model_id": sha("model"), "length": 5, "kind": "shared", "space_id": "s1"},),
        spaces=(space(),),
        scenes=1,
        places=row.rows,
        objects=(
            (manifest.object_path("shard", row.sha256, prefix), data),
            (manifest.object_path("blocks", row.blocks), digests.block_digests(data)),
        ),
    )


def generation(**more):
    values = {
        "number": 1, "parent": None, "commit_id": "0" * 32, "created": "2026-11-21T08:00:00Z",
        "settings": SETTINGS, "spaces": (space(),), "models": None, "parts": (), "tiles": 0,
        "places": 0, "bytes": {"shards": 0, "models": 0, "overview": 0}, "scenes": 0, **more,
    }  # fmt: skip
    return manifest.Generation(**values)
