"""What does the pyramid cost, and is a cell's colour that of its tiles?

Of made archives (dense cells on four dates, made vectors): seconds and the peak memory of making
the pyramid, in a process of its own; its bytes a row of the archive; requests and bytes of a first
view at the finest level, a window of WINDOW degrees, after opening. Of the archive in the package:
how far the mean pixel of what a cell decodes to is from the mean over all its tiles' decodes, root
mean square over cells and bands, as a share of the spread of cells.

    python benchmarks/bench_pyramid.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from made_archive import make
from report import save

import embarchive
from embarchive import serve
from embarchive.levels import make_pyramid
from embarchive.store import open_store

ROWS = (1_000_000, 10_000_000)
WINDOW = 1.0


def made(root: str) -> dict[str, Any]:
    """Make the pyramid of an archive here, and look at a window of it."""
    began = time.perf_counter()
    about = make_pyramid(open_store(root), progress=lambda *_: None)
    took, peak = time.perf_counter() - began, _peak()
    archive = embarchive.open_archive(root)
    west, south, east, north = archive.bounds
    lon, lat = (west + east) / 2, (south + north) / 2
    requests, read = archive.store.requests, archive.store.bytes_read
    cells = archive.pyramid(about["level"], bbox=(lon, lat, lon + WINDOW, lat + WINDOW))
    return row(
        f"made, {len(archive):,} rows", rows=len(archive), cells=about["rows"], seconds=took,
        peak_mb=peak, bytes_a_row=about["bytes"] / len(archive), window_cells=len(cells),
        window_requests=archive.store.requests - requests,
        window_bytes=archive.store.bytes_read - read,
    )  # fmt: skip


def colours(root: str) -> dict[str, Any]:
    """How far the pixels of cells are from the means of their tiles."""
    about = make_pyramid(open_store(root), progress=lambda *_: None)
    archive = embarchive.open_archive(root)
    cells = archive.pyramid(about["level"])
    tiles = archive.select(columns=["geohash", "datetime", "source"])
    means = archive.decode(tiles).mean(axis=(2, 3), dtype=np.float64)
    names = np.array([name[: about["level"]] for name in tiles["geohash"].to_pylist()])
    own = np.array([means[names == name].mean(axis=0) for name in cells["geohash"].to_pylist()])
    pixels = archive.decode(cells).mean(axis=(2, 3), dtype=np.float64)
    gap, spread = np.sqrt(((pixels - own) ** 2).mean()), np.sqrt(own.var(axis=0).mean())
    return row(
        "packaged", rows=len(archive), cells=about["rows"],
        bytes_a_row=about["bytes"] / len(archive), colour_error=float(gap / spread),
    )  # fmt: skip


def row(archive: str, **values: Any) -> dict[str, Any]:
    """One row of results; what was not measured is null."""
    keys = ("rows", "cells", "seconds", "peak_mb", "bytes_a_row", "window_cells")
    more = ("window_requests", "window_bytes", "colour_error")
    return {"archive": archive, **{key: values.get(key) for key in (*keys, *more)}}


def _peak() -> float:
    """MB; that of getrusage would start with the peak of the process before."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Everything, in one run."""
    if len(sys.argv) > 2:
        print(json.dumps(made(sys.argv[2])))
        return
    found = []
    for count in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count)
            command = [sys.executable, __file__, "one", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
            print(found[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(serve.demo_root(), Path(folder) / "a")
        found.append(colours(f"{folder}/a"))
        print(found[-1], flush=True)
    save("pyramid", found)


if __name__ == "__main__":
    main()
