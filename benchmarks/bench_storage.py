"""What a tile takes and how far its decode is off: the archive beside classical compression.

Real data from EMBARCHIVE_DATA or ../shared/data; see sets.py for what is held out. All methods
code the same held-out tiles, of which the pixels of the cell count, in all bands, what is not
valid as the tiles have it. bytes_per_tile = code_bytes + model_bytes / 1e6 tiles, by the same
rule for weights, bases and headers. With `--resume` a run goes on where another ended.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import classical
import native
import numpy as np
import ours
import report
import sets
import vectors
from coding import Coded, Method

from embarchive import encode
from embarchive.errors import BadInput

TARGETS = (8, 16, 32, 64, 128)
SPREAD = 1_000_000
METHODS: dict[str, Method] = {
    "tile_mean": vectors.tile_mean,
    "pca": vectors.pca,
    "embedding": vectors.embedding,
    "code": ours.code,
    "dates": ours.dates,
    "jpeg2000_whole_tiles": classical.jpeg2000_whole_tiles,
    "jpeg2000_tiles": classical.jpeg2000_tiles,
    "jpeg2000_scene": classical.jpeg2000_scene,
    "hevc_scene": classical.hevc_scene,
    "jpeg_xl_tiles": classical.jpeg_xl_tiles,
    "jpeg_xl_scene": classical.jpeg_xl_scene,
    "avif_scene": classical.avif_scene,
}
# What sets of all dates of a place are for: theirs beside the best methods of single dates.
OF_DATES = ("code", "dates", "jpeg2000_tiles", "jpeg2000_scene", "hevc_scene")
JPEG2000 = {
    "break_even_tiles": "JPEG 2000, tiles, shared headers",
    "break_even_scene": "JPEG 2000, scene, headers stripped",
}
Row = dict[str, Any]
# Rows of each set and method, kept from one run to the next.
CACHE = Path(tempfile.gettempdir()) / "embarchive-bench-storage"


def measure(task: sets.Task, coded: Coded) -> Row:
    """One row: bytes and errors of a method at a target."""
    test = task.test
    every = np.ones_like(test.valid)
    mse = encode.errors(test.images, coded.images, every, None)[0]
    mae = encode.errors(test.images, coded.images, test.valid, task.index)[1]
    psnr = 10 * np.log10(task.peak**2 / np.maximum(mse, 1e-30))
    return {
        **_head(task, coded.method, coded.target, coded.rate),
        "bytes_per_tile": float(coded.code_bytes) + coded.model_bytes / SPREAD,
        "code_bytes": float(coded.code_bytes),
        "model_bytes": int(coded.model_bytes),
        "archive_bytes": None,
        "mse_median": float(np.median(mse)),
        "mse_mean": float(mse.mean()),
        "psnr_median": float(np.median(psnr)),
        "index_mae": float(mae.mean()) if task.index else None,
    }


def lossless_rows(task: sets.Task) -> list[Row]:
    """What the scenes take as they are."""
    stored = native.lossless(task)
    found = (
        ("raw native samples", stored.raw),
        ("LZW GeoTIFF", stored.lzw_geotiff),
        ("ZSTD COG", stored.zstd_cog),
    )
    return [
        {
            **_head(task, name, None, "lossless"),
            "bytes_per_tile": size,
            "code_bytes": size,
            "model_bytes": 0,
            "archive_bytes": None,
            "mse_median": 0.0,
            "mse_mean": 0.0,
            "psnr_median": None,
            "index_mae": None,
        }
        for name, size in found
    ]


def _head(task: sets.Task, method: str, target: int | None, rate: str) -> Row:
    return {
        "dataset": task.name,
        "method": method,
        "target_bytes": target,
        "rate": rate,
        "tiles": len(task.train) + task.held,
        "test_tiles": len(task.test),
        "test_cells": task.cells,
    }


def break_even(ours: Row, theirs: Sequence[Row]) -> float | None:
    """Tiles from which ours takes less than another method at our error, all bytes counted; 0
    from the first, None never, or where theirs has no such error.

    Bytes of theirs between two targets: logarithms of error and bytes on a line.
    """
    rows = sorted(theirs, key=lambda row: -row["mse_median"])
    error = [-math.log(row["mse_median"]) for row in rows]
    wanted = -math.log(ours["mse_median"])
    if not rows or not error[0] <= wanted <= error[-1]:
        return None
    code = math.exp(np.interp(wanted, error, [math.log(row["code_bytes"]) for row in rows]))
    model = float(np.interp(wanted, error, [row["model_bytes"] for row in rows]))
    saved = code - ours["code_bytes"]
    return max(0.0, (ours["model_bytes"] - model) / saved) if saved > 0 else None


def with_break_even(rows: Sequence[Row]) -> list[Row]:
    """The rows, those of the fidelity code with the tiles from which it takes less than JPEG 2000
    of tiles, and of a scene as one, both with shared headers and one slope; None elsewhere."""
    found = []
    for row in rows:
        even: dict[str, float | None] = dict.fromkeys(JPEG2000)
        for key, method in JPEG2000.items():
            theirs = [
                one
                for one in rows
                if (one["dataset"], one["method"], one["rate"]) == (row["dataset"], method, "slope")
            ]
            if row["method"].startswith("embarchive code"):
                even[key] = break_even(row, theirs)
        found.append(row | even)
    return found


def judge(rows: Sequence[Row]) -> int:
    """Say where the embedding alone is not 10 % below PCA of as many int8; 1 when it is not."""
    error = {
        (row["dataset"], row["method"], row["target_bytes"]): row["mse_median"]
        for row in rows
        if row["test_cells"] >= sets.LEAST_CELLS and row["rate"] == "equal"
    }
    bad = 0
    for (name, method, target), value in error.items():
        plain = error.get((name, "PCA, int8", target))
        if method.startswith("embedding") and plain and value > 0.9 * plain:
            say(f"{name}: {method}, {target} bytes: {value / plain:.2f} of PCA, expected 0.9")
            bad = 1
    return bad


def rows_of(name: str, methods: Sequence[str], run: bool = True) -> list[Row]:
    """The rows of a set; a method whose rows lie in the cache is not run again, and others only
    where they shall `run`."""
    task: sets.Task | None = None
    rows: list[Row] = []
    together = sets.SETS[name].together
    suited = [one for one in methods if (one in OF_DATES if together else one != "dates")]
    for method in ("lossless", *suited):
        path = CACHE / f"{name}-{method}.json"
        if path.is_file():
            rows += json.loads(path.read_text(encoding="utf-8"))
            continue
        if not run:
            continue
        task = task or sets.load(name)
        began = time.monotonic()
        if method == "lossless":
            found = lossless_rows(task)
        else:
            found = [measure(task, coded) for coded in METHODS[method](task, TARGETS)]
        say(f"{name}: {method} in {time.monotonic() - began:.0f} s")
        CACHE.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
        rows += found
    return rows


def say(text: str) -> None:
    """One line on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure and save; 2 when a set's data is not at hand, 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=sets.SETS, default=list(sets.SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--resume", action="store_true", help="take rows of a run before this one")
    parser.add_argument("--kept", action="store_true", help="take those rows and run nothing")
    options = parser.parse_args()
    if not (options.resume or options.kept):
        shutil.rmtree(CACHE, ignore_errors=True)
    try:
        found = partial(rows_of, methods=options.methods, run=not options.kept)
        rows = [row for name in options.sets for row in found(name)]
    except BadInput as error:
        print(f"storage: {error}", file=sys.stderr)
        return 2
    rows.sort(key=lambda row: (list(sets.SETS).index(row["dataset"]), row["rate"]))
    rows = with_break_even(rows)
    say(str(report.save("storage", rows)))
    return judge(rows)


if __name__ == "__main__":
    sys.exit(main())
