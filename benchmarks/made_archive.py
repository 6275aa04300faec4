"""A made archive of any size in the real formats, a prefix at a time, of synthetic embeddings.

python benchmarks/made_archive.py ROOT ROWS [--dates N] [--lean]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import synthetic
from numpy.typing import NDArray

from embarchive import digests, grid, manifest, rows, shards
from embarchive.additions import Addition, add_to_archive
from embarchive.manifest import ShardRow, object_path
from embarchive.prefixes import put_shard
from embarchive.quantize import SimHash, fit_simhash
from embarchive.recipe import Settings
from embarchive.store import open_store

DIM, BITS, CELLS = synthetic.DIM, 128, 32**3
FIRST = datetime(2023, 5, 1, 10, 30, tzinfo=UTC)
SPACE = "synthetic-1"
SAMPLE = 20_000


def make(root: Path, count: int, dates: int = 1, lean: bool = False) -> int:
    """Write an archive of `count` rows: all cells of some prefixes, of the last one the first, each
    on `dates` dates. lean: of what no search looks at only what can be compressed away. Gives the
    number of rows, which is a multiple of `dates`."""
    model, store = synthetic.load(), open_store(root)
    simhash = fit_simhash(synthetic.draw(model, SAMPLE, 1), BITS, 0)
    assert simhash is not None
    weights = _put(store, b"no weights")
    space = manifest.Space(
        space_id=SPACE, encoder=_put(store, b"no encoder"), encoder_length=10, dim=DIM, metric="l2",
        scale=model.scale, simhash=simhash.to_json(), trained={"synthetic": model.name},
    )  # fmt: skip
    left, found, emb = count // dates, [], {"emb:type": "chip", "emb:dimensions": DIM}
    for prefix in prefixes(-(-left // CELLS)):
        some = min(left, CELLS)
        vectors = synthetic.of_prefix(model, prefix, dates)[:some].reshape(-1, DIM)
        table = _rows(prefix, vectors, dates, simhash, lean)
        for shard in shards.write_shards(table, emb | {"data_type": "int8"}):
            found.append(put_shard(store, shard, prefix, SPACE))
        left -= some
    models = ({"model_id": weights, "length": 10, "kind": "shared", "region": "synthetic",
               "space_id": SPACE, "mse": 1e-4},)  # fmt: skip
    addition = Addition(
        make_settings(model.name), tuple(found), models, (space,), scenes=dates,
        places=count // dates,
    )  # fmt: skip
    add_to_archive(store, lambda _: addition)
    return count // dates * dates


def make_manifest(root: Path, count: int) -> None:
    """A manifest alone, of `count` shards of 1,024 rows that are nowhere: what opening and planning
    cost."""
    store = open_store(root)
    found = []
    for prefix in prefixes(-(-count // 1024)):
        names = [prefix + a + b for a in grid.ALPHABET for b in grid.ALPHABET]
        sides = grid.bounds(np.array(names)).tolist()
        for name, box in zip(names, sides, strict=True):
            west, south, east, north = box
            found.append(ShardRow(
                prefix=name, space_id=SPACE, sha256=digests.sha256(name.encode()), length=76_000,
                footer_length=8_000, blocks=digests.sha256(b"of " + name.encode()), rows=1_024,
                geohash_min=f"{name}00", geohash_max=f"{name}zz",
                bbox=(west, south, east, north), datetime_min=FIRST, datetime_max=FIRST,
                model_ids=(),
            ))  # fmt: skip
    space = manifest.Space(
        space_id=SPACE, encoder=None, encoder_length=0, dim=DIM, metric="l2", scale=1.0
    )
    settings = make_settings("no rows", prefix=5, precision=7, bits=0)
    addition = Addition(settings, tuple(found[:count]), spaces=(space,), places=count)
    add_to_archive(store, lambda _: addition)


def make_settings(name: str, prefix: int = 3, precision: int = 6, bits: int = BITS) -> Settings:
    """Settings of a synthetic archive."""
    return Settings(
        precision=precision, gsd=25.0, height=48, width=48,
        bands=("B02", "B03", "B04"), units="reflectance", region_prefix=3,
        shard_prefix=prefix, indices={}, dim=DIM, bits=bits, codec="shared", min_cover=0.5,
        min_valid=0.1, title=f"synthetic, for tests of scale ({name})",
    )  # fmt: skip


def cells(prefix: str) -> Iterator[str]:
    """All cells of a prefix of three characters, sorted."""
    letters = grid.ALPHABET
    return (prefix + a + b + c for a in letters for b in letters for c in letters)


def prefixes(count: int) -> list[str]:
    """Neighbouring prefixes of three characters: those of u and its neighbours in order."""
    letters = grid.ALPHABET
    return [a + b + c for a in "usgevt" for b in letters for c in letters][:count]


def _rows(
    prefix: str, vectors: NDArray[np.int8], dates: int, simhash: SimHash, lean: bool
) -> pa.Table:
    places = len(vectors) // dates
    names = np.array(list(cells(prefix)))[:places].repeat(dates)
    rng = np.random.default_rng([3, *prefix.encode()])
    digest = np.zeros((len(names), 8), np.uint8)
    valid = np.ones(len(names))
    if not lean:
        digest = rng.integers(0, 256, digest.shape, np.uint8)
        # Whole for nine of ten tiles, as in the packaged demo.
        valid = np.where(rng.random(len(names)) < 0.9, 1, rng.uniform(0.5, 1, len(names)))
    fixed: dict[str, Any] = {
        "model_id": [digests.sha256(b"no weights")] * len(names),
        "source": [f"synthetic-{date}" for date in range(dates)] * places,
        "input_digest": rows.binary(digest),
        "valid_fraction": valid,
    }
    when = [FIRST + timedelta(days=30 * date) for date in range(dates)] * places
    return rows.make_rows(names, when, vectors, simhash.encode(vectors), fixed)


def _put(store: Any, data: bytes) -> str:
    sha = digests.sha256(data)
    store.put_new(object_path("model", sha), data)
    return sha


def main() -> None:
    """An archive as the command line asks, and beside it ROOT.json: what making it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--dates", type=int, default=1)
    parser.add_argument("--lean", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    count = make(asked.root, asked.rows, asked.dates, asked.lean)
    told = {"rows": count, "space_id": SPACE, "seconds": time.monotonic() - began}
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked.root.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
