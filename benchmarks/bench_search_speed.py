"""How fast is a search? Hamming top 10 in memory beside other libraries, and whole searches of an
archive on disk.

In memory: random codes, every answer compared with faiss's. All engines take turns for some
rounds, so that they meet the same machine; qps is the median, `ours_times` the median over rounds
of our qps to theirs. The row "memory" is the bound for one query at a time: how often all codes can
be read. Of an archive: a synthetic one of ROWS_ON_DISK rows, in a process of its own.

    python benchmarks/bench_search_speed.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Else threads of faiss that wait take the cores from those that work, where others work too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import duckdb
import faiss
import numkong
import numpy as np
import pyarrow as pa
from made_archive import BITS, make
from numpy.typing import NDArray
from report import save
from usearch.index import MetricKind
from usearch.index import search as usearch_search

import embarchive
from embarchive import queries, shortlist

Codes = NDArray[np.uint8]
Found = NDArray[np.integer[Any]]
ROWS, WIDTH, BATCH, TOP, ROUNDS = 1_000_000, 128, 100, 10, 7
ROWS_ON_DISK = 10_000_000
NONE = np.zeros(0, np.int64)
# Engines that answer several queries at once.
BATCHED = ("embarchive", "faiss", "usearch", "numkong")


class Engines:
    """Every engine over the same codes uint8 (n, W): queries (c, W) to the numbers (c, TOP) of the
    nearest, sorted."""

    def __init__(self, codes: Codes, threads: int) -> None:
        self.codes, self.threads = codes, threads
        self.places = np.arange(len(codes))
        self.pool = ThreadPoolExecutor(threads)
        self.index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        self.index.add(codes)
        self.con = duckdb.connect()
        self.con.execute(f"SET threads = {threads}")
        for statement in queries.macro_statements():
            self.con.execute(statement)
        bits = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(codes.shape[1]), len(codes), [None, pa.py_buffer(codes)]
        )
        self.con.register("given", pa.table({"bits": bits}))
        self.con.execute("CREATE TABLE codes AS SELECT bits::BLOB AS bits FROM given")

    def embarchive(self, asked: Codes) -> Found:
        """The product's own scan."""
        votes = [shortlist.Votes(one[None], asked[:0], None, NONE) for one in asked]
        chunk = [(self.codes, self.places)]
        found = shortlist.least(chunk, votes, TOP, per_place=0, threads=self.threads)
        return np.stack([numbers for _, numbers in found])

    def faiss(self, asked: Codes) -> Found:
        """IndexBinaryFlat."""
        faiss.omp_set_num_threads(self.threads)
        return np.asarray(self.index.search(asked, TOP)[0])

    def usearch(self, asked: Codes) -> Found:
        """Exact search."""
        found = usearch_search(
            self.codes, asked, TOP, MetricKind.Hamming, exact=True, threads=self.threads
        )
        return np.asarray(found.distances).astype(int).reshape(len(asked), TOP)

    def numkong(self, asked: Codes) -> Found:
        """All numbers in one call a thread, then a partition."""
        packed = numkong.hammings_pack(asked, dtype="uint1")
        out = numkong.empty((len(self.codes), len(asked)), dtype="uint32")
        edges = np.linspace(0, len(self.codes), self.threads + 1).astype(int).tolist()

        def some(part: int) -> None:
            numkong.hammings_packed(
                self.codes, packed, out=out, start_row=edges[part], end_row=edges[part + 1]
            )

        list(self.pool.map(some, range(self.threads)))
        numbers = np.asarray(out).T
        return np.stack([np.sort(np.partition(one, TOP)[:TOP]) for one in numbers])

    def duckdb(self, asked: Codes) -> Found:
        """The macro of embarchive's SQL."""
        text = f"SELECT hamming(bits, ?::BLOB) AS d FROM codes ORDER BY d LIMIT {TOP}"
        rows = [self.con.execute(text, [one.tobytes()]).fetchall() for one in asked]
        return np.array(rows)[:, :, 0]

    def memory(self, asked: Codes) -> Found:
        """Reads every code once a query."""
        words = self.codes.view(np.uint64)
        edges = np.linspace(0, len(words), self.threads + 1).astype(int).tolist()
        for _ in asked:
            list(self.pool.map(lambda i: words[edges[i] : edges[i + 1]].max(), range(self.threads)))
        return np.zeros((0, TOP))


def measure(codes: Codes, asked: Codes, threads: int) -> list[dict[str, Any]]:
    """Rows of all engines, one query at a time and all at once."""
    engines = Engines(codes, threads)
    right = engines.faiss(asked)
    found = []
    for mode, some in (("single", asked[:1]), ("batch", asked)):
        names = [*BATCHED, "duckdb", "memory"] if mode == "single" else list(BATCHED)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(ROUNDS + 1):
            for name in names:
                took, numbers = timed(getattr(engines, name), some)
                if turn:
                    seconds[name].append(took)
                elif len(numbers) and not np.array_equal(numbers, right[: len(some)]):
                    raise ValueError(f"{name}: other numbers than faiss")
        for name in names:
            ratio = np.median(np.divide(seconds[name], seconds["embarchive"]))
            qps = len(some) / float(np.median(seconds[name]))
            found.append(
                row(name, mode, threads, len(codes), codes.shape[1] * 8, qps, float(ratio))
            )
            print(found[-1], flush=True)
    return found


def timed(work: Callable[[Codes], Found], asked: Codes) -> tuple[float, Found]:
    """Seconds, and what came out."""
    began = time.perf_counter()
    found = work(asked)
    return time.perf_counter() - began, found


def row(
    engine: str, mode: str, threads: int, rows: int, bits: int, qps: float,
    ratio: float | None = None, peak: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One row of results."""
    return {
        "engine": engine, "mode": mode, "threads": threads, "rows": rows, "bits": bits,
        "qps": qps, "ours_times": ratio, "peak_mb": peak,
    }  # fmt: skip


def on_disk(root: str) -> list[dict[str, Any]]:
    """Rows of searches like a vector, of an archive opened here; the first is of all its rows, and
    the peak is that of this process until then."""
    archive = embarchive.open_archive(root)
    west, south, east, north = archive.bounds
    box = (west, south, west + (east - west) / 8, south + (north - south) / 8)
    day = "2023-05-31"
    likes = np.random.default_rng(3).integers(-60, 61, (20, 64)).astype(np.int8)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("all, first", {}), ("all, again", {}), ("box, first", {"bbox": box}),
        ("box, again", {"bbox": box}), ("time", {"datetime": day}),
        ("box and time", {"bbox": box, "datetime": day}), ("and, all", {"op": "and"}),
        ("exact, box", {"bbox": box, "exact": True}),
    ]  # fmt: skip
    found = []
    for like, (mode, options) in zip(likes, asked, strict=False):
        began = time.perf_counter()
        hits = archive.search(like, k=TOP, **options)
        qps = 1 / (time.perf_counter() - began)
        if len(hits) != TOP:
            raise ValueError(f"{mode}: expected {TOP} hits, found {len(hits)}")
        found.append(row("archive", mode, 2, len(archive), BITS, qps, peak=_peak()))
    began = time.perf_counter()
    archive.search_many(list(likes), k=TOP, bbox=box)
    qps = len(likes) / (time.perf_counter() - began)
    found.append(row("archive", "box, batch of 20", 2, len(archive), BITS, qps, peak=_peak()))
    return found


def _peak() -> float:
    """MB; that of getrusage would start with the peak of the process before."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Everything, in one run."""
    if len(sys.argv) > 2:
        print(json.dumps(on_disk(sys.argv[2])))
        return
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (ROWS, WIDTH), dtype=np.uint8)
    asked = rng.integers(0, 256, (BATCH, WIDTH), dtype=np.uint8)
    found = [one for threads in (1, 2) for one in measure(codes, asked, threads)]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), ROWS_ON_DISK, dates=4)
        command = [sys.executable, __file__, "disk", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found += json.loads(done.stdout)
    save("search_speed", found)


if __name__ == "__main__":
    main()
