"""What do opening, a search in a box and a search of everything cost at 1e5 to 5e7 tiles, here and
by what a user would take instead?

Synthetic archives (synthetic.py), made below EMBARCHIVE_SCALE if they are not there; 100 queries
that no archive holds; truth is a scan of all int8 vectors. Each line is a process of its own, and
each query cold: it opens the archive or table anew, on a local disk. seconds is the median of the
queries, requests and bytes_read the largest: what the store counts, of others what the system says
that the process read. "build" of an archive without overview is with making its rows, with one of
the overview alone, and of others it is without making the rows. peak_mb is of the whole process.

    python benchmarks/bench_scale.py [--tiles N ...] [--engines NAME ...] [--queries NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_archive
import numpy as np
import report
import rivals
import scale_truth
import synthetic
from numpy.typing import NDArray
from scale_truth import RECALL, K

import embarchive
from embarchive import make_overview
from embarchive.filters import make_filter
from embarchive.store import open_store

Row = dict[str, Any]
TILES = (100_000, 1_000_000, 10_000_000, 50_000_000)
# These carry only what a search looks at.
LEAN = 10_000_000
SHARDS = (1_000, 10_000, 100_000)
# An archive with its overview, which is beside one without.
OURS = ("embarchive", "no overview")
ENGINES = (*OURS, "duckdb", "lancedb", "lists")
QUERIES = ("open", "box", "whole", "build")
# Of LanceDB only as many rows as it indexes in minutes.
MOST = {"lancedb": 1_000_000}
# Cold queries a line at most, and seconds after which no further one is asked.
COLD, PATIENCE = 20, 60.0
# Of an engine that reads everything a few answers tell the recall.
FEW, SLOW = 3, 1.5
LISTS = (256, 1024, 4096)
Asked = Callable[[int], tuple[NDArray[np.float64], int, int]]


def row(engine: str, tiles: int, query: str, **values: Any) -> Row:
    """A line of the results; what is not said is None."""
    keys = ("shards", "setting", "seconds", "requests", "bytes_read", "share_read", "recall10",
            "peak_mb", "bytes_stored")  # fmt: skip
    unknown = set(values) - set(keys)
    if unknown:
        raise ValueError(f"row: expected only {keys}, found {unknown}")
    return {"engine": engine, "tiles": tiles, "query": query} | {
        key: values.get(key) for key in keys
    }


# ---------------------------------------------------------------- in a process of its own


def child(engine: str, tiles: int, query: str) -> Row:
    """One line."""
    if query == "overview":
        return overview(tiles)
    if query == "build":
        return built(engine, tiles)
    if engine in OURS:
        return ask_archive(engine, tiles, query)
    if engine == "manifest":
        return open_manifest(tiles)
    return ask_rival(engine, tiles, query)


def ask_archive(engine: str, tiles: int, query: str) -> Row:
    """Opening, with the plan of a box, or searches."""
    with np.load(scale_truth.path_of(tiles)) as kept:
        asked, boxes = kept["queries"], kept["boxes"]
        tenth = kept["box_tenth"] if query == "box" else kept["gaps"][:, -1]
    root = path_of(engine, tiles)
    whole, share = query == "whole", []

    def once(number: int) -> tuple[NDArray[np.float64], int, int]:
        archive = embarchive.open_archive(root)
        box = None if whole else tuple(boxes[number % len(boxes)].tolist())
        found = np.zeros(0)
        if query == "open":
            archive.plan(make_filter(box, None, None, None))
        else:
            hits = archive.search(asked[number], k=K, bbox=box)
            found = squared(archive, hits)
            share.append(float(hits.schema.metadata[b"share_read"]))
        return found, archive.store.requests, archive.store.bytes_read

    found, values = cold(once, len(asked))
    archive = embarchive.open_archive(root)
    if query != "open":
        tables = [found[number] for number in range(len(found))]
        if whole and values["seconds"] < SLOW:
            tables = [squared(archive, archive.search(one, k=K)) for one in asked]
        elif whole:
            tables = [squared(archive, one) for one in archive.search_many(list(asked), k=K)]
        values["recall10"] = scale_truth.recall(tables, tenth[: len(tables)])
        values["share_read"] = max(share)
    shards = archive.info()["shards"]
    return row(engine, tiles, query, shards=shards, peak_mb=peak_mb(), **values)


def squared(archive: embarchive.Archive, hits: Any) -> NDArray[np.float64]:
    """Squared distances of hits, in int8 steps."""
    return np.asarray(hits["score"].to_numpy() / archive.spaces[-1].scale ** 2)


def overview(tiles: int) -> Row:
    """Makes that of an archive; what it took is kept beside."""
    path = path_of("embarchive", tiles)
    began = time.perf_counter()
    told = make_overview.make(open_store(path), progress=lambda *_: None)
    told = {"seconds": time.perf_counter() - began, "peak_mb": peak_mb(), "bytes": told["bytes"]}
    path.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    return told


def open_manifest(shards: int) -> Row:
    """Opening an archive of so many shards, and the plan of a box."""
    # Of the first prefix, which all of them have.
    boxes = scale_truth.some_boxes(1)
    root = path_of("manifest", shards)

    def once(number: int) -> tuple[NDArray[np.float64], int, int]:
        archive = embarchive.open_archive(root)
        archive.plan(make_filter(tuple(boxes[number % len(boxes)].tolist()), None, None, None))
        return np.zeros(0), archive.store.requests, archive.store.bytes_read

    _, values = cold(once, len(boxes))
    tiles = len(embarchive.open_archive(root))
    return row("manifest alone", tiles, "open", shards=shards, peak_mb=peak_mb(), **values)


def ask_rival(engine: str, tiles: int, query: str) -> Row:
    """Searches by another engine."""
    with np.load(scale_truth.path_of(tiles)) as kept:
        asked, boxes = kept["queries"], kept["boxes"]
        tenth = kept["box_tenth"] if query == "box" else kept["gaps"][:, -1]
    rival, setting = rival_of(engine, tiles), None
    if query == "whole" and isinstance(rival, rivals.Lance):
        rival, setting = swept(rival, asked, tenth)

    def once(number: int) -> tuple[NDArray[np.float64], int, int]:
        before = reads()
        found = rival.ask(asked[number], boxes[number] if query == "box" else None)
        after = reads()
        return found, after[0] - before[0], after[1] - before[1]

    # What a first query imports is not of the table; what it caches goes with its connection.
    once(0)
    found, values = cold(once, len(boxes) if query == "box" else len(asked))
    tables = list(found)
    if setting is not None:
        tables = [rival.ask(one, None) for one in asked]
    right = scale_truth.recall(tables, tenth[: len(tables)])
    return row(engine, tiles, query, setting=setting, recall10=right, peak_mb=peak_mb(), **values)


def swept(
    rival: rivals.Lance, asked: NDArray[np.int8], tenth: NDArray[np.float64]
) -> tuple[rivals.Lance, str]:
    """The fastest setting that reaches .95, or else that of the best recall."""
    tried = []
    for lists, rows in rivals.SWEEP:
        one = rivals.Lance(rival.path, lists, rows)
        began = time.perf_counter()
        right = scale_truth.recall([one.ask(query, None) for query in asked], tenth)
        tried.append((min(right, RECALL), began - time.perf_counter(), one))
        print(f"lancedb: {lists} lists, {rows} times: {right:.3f}", file=sys.stderr, flush=True)
        if right >= RECALL and lists == rivals.SWEEP[0][0]:
            break
    best = max(tried, key=lambda one: one[:2])[2]
    return best, f"{best.lists} lists, {best.rows * K} rows compared"


def cold(once: Asked, most: int) -> tuple[list[NDArray[np.float64]], Row]:
    """Queries asked one after another: what each found, seconds (median), requests and bytes (the
    largest)."""
    found, seconds, requests, read = [], [], [], []
    until = time.monotonic() + PATIENCE
    for number in range(min(COLD, most)):
        if number >= FEW and time.monotonic() > until:
            break
        began = time.perf_counter()
        answer, asked, count = once(number)
        seconds.append(time.perf_counter() - began)
        found.append(answer)
        requests.append(asked)
        read.append(count)
    values = {"seconds": statistics.median(seconds), "requests": max(requests)}
    return found, {**values, "bytes_read": max(read)}


def built(engine: str, tiles: int) -> Row:
    """Seconds and bytes of what is built; an archive says what it took when it was made."""
    path = path_of(engine, tiles)
    if engine in OURS:
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        seconds, peak, size = told["seconds"], told["peak_mb"], told.get("bytes")
    else:
        seconds, peak, size = rival_of(engine, tiles).build(tiles), peak_mb(), None
    size = bytes_below(path) if size is None else size
    return row(engine, tiles, "build", seconds=seconds, peak_mb=peak, bytes_stored=size)


def path_of(engine: str, tiles: int) -> Path:
    """Where the rows of an engine lie."""
    name = {
        "embarchive": f"overview-{tiles}",
        "no overview": f"{tiles}",
        "duckdb": f"duckdb-{tiles}.parquet",
    }
    return synthetic.folder() / name.get(engine, f"{engine}-{tiles}")


def rival_of(engine: str, tiles: int) -> rivals.Rival:
    """Another engine over its rows."""
    kind = {"duckdb": rivals.Duck, "lancedb": rivals.Lance}[engine]
    return kind(path_of(engine, tiles))


def bytes_below(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def reads() -> tuple[int, int]:
    """Reads and bytes read by this process so far."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    told = dict(line.split(": ") for line in lines)
    return int(told["syscr"]), int(told["rchar"])


def peak_mb() -> float:
    """Of this process; that of getrusage would start with the peak of the process before."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# ---------------------------------------------------------------- all of them


def lists(tiles: int) -> list[Row]:
    """Which lists to read: how much of all rows where shards are chosen by the mean of their
    vectors, and where the lists are those of k-means."""
    truth = scale_truth.truth_of(tiles)
    share, right = scale_truth.by_prefix(truth)
    found = [row("shard means", tiles, "whole", shards=len(truth.rows), share_read=share,
                 recall10=right)]  # fmt: skip
    for count in LISTS:
        if count * 64 <= len(truth.sample):
            share, right = scale_truth.by_lists(truth, count)
            name = "lists of k-means"
            found.append(
                row(name, tiles, "whole", setting=f"{count} lists", share_read=share,
                    recall10=right)
            )  # fmt: skip
    return found


def measured(engine: str, tiles: int, queries: list[str]) -> list[Row]:
    """The lines of an engine, each from a process of its own; what it asks is made if need be."""
    if engine == "lists":
        return lists(tiles) if "whole" in queries else []
    scale_truth.path_of(tiles)
    path, names = path_of(engine, tiles), [name for name in QUERIES if name in queries]
    if engine in OURS:
        make_archive(tiles, engine == "embarchive")
    elif not path.exists():
        names = list(dict.fromkeys(["build", *names]))
    names = [name for name in names if engine in OURS or name != "open"]
    return [run(engine, tiles, name) for name in names]


def make_archive(tiles: int, with_overview: bool) -> None:
    """An archive, and one of the same files with an overview, if they are not there."""
    plain, path = (path_of(engine, tiles) for engine in ("no overview", "embarchive"))
    if not plain.exists():
        command = [sys.executable, made_archive.__file__, str(plain), str(tiles)]
        subprocess.run(command + ["--lean"] * (tiles >= LEAN), check=True)
    if with_overview and not path.exists():
        shutil.copytree(plain, path, copy_function=os.link)
        run("embarchive", tiles, "overview")


def run(engine: str, tiles: int, query: str) -> Row:
    """A line, from a process of its own."""
    command = [sys.executable, __file__, "--child", engine, str(tiles), query]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr, flush=True)
    return found


def opened() -> list[Row]:
    """The lines of manifests alone."""
    for count in SHARDS:
        if not path_of("manifest", count).exists():
            made_archive.make_manifest(path_of("manifest", count), count)
    return [run("manifest", count, "open") for count in SHARDS]


def merged(old: list[Row], new: list[Row]) -> list[Row]:
    """New lines in the place of old ones of the same engine, tiles, query and lists."""

    def key(one: Row) -> tuple[Any, ...]:
        own = one["setting"] if one["engine"] == "lists of k-means" else ""
        return one["engine"], one["tiles"], one["query"], own

    both = {key(one): one for one in [*old, *new]}
    return sorted(both.values(), key=lambda one: (one["tiles"], one["query"] == "build"))


def kept() -> list[Row]:
    """The lines so far."""
    path = report.HERE / "results" / "scale.json"
    found: list[Row] = []
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return found


def keep(new: list[Row]) -> list[Row]:
    """All lines, with the new ones, saved."""
    found = merged(kept(), new)
    print(report.save("scale", found), file=sys.stderr)
    return found


def judge(rows: list[Row]) -> int:
    """1 where a promise is not kept."""
    ours = {(one["query"], one["tiles"]): one for one in rows if one["engine"] == "embarchive"}
    alone = [one["bytes_read"] for one in rows if one["engine"] == "manifest alone"]
    bad = []
    if alone and (max(alone) > 512 << 10 or max(alone) > 1.5 * min(alone)):
        bad.append(f"opening: expected 512 KB and 1.5 times, found {alone}")
    small, large = ours.get(("box", TILES[1])), ours.get(("box", TILES[-1]))
    if small and large and abs(large["bytes_read"] / small["bytes_read"] - 1) > 0.2:
        bad.append(f"box: expected as many bytes, found {small} and {large}")
    every = ours.get(("whole", TILES[-1]))
    if every and (
        every["bytes_read"] > 8e6 or every["requests"] > 60 or every["recall10"] < RECALL
    ):
        bad.append(f"whole: expected 8 MB, 60 requests and .95, found {every}")
    bad += [f"memory: expected 2 GiB, found {one}" for one in ours.values()
            if (one["peak_mb"] or 0) > 2048]  # fmt: skip
    for line in bad:
        print(line, file=sys.stderr)
    return int(bool(bad))


def main() -> int:
    """Measure what is asked for; lines of earlier runs stay. 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=TILES)
    parser.add_argument("--engines", nargs="+", choices=(*ENGINES, "manifest"),
                        default=(*ENGINES, "manifest"))  # fmt: skip
    parser.add_argument("--queries", nargs="+", choices=QUERIES, default=QUERIES)
    parser.add_argument("--child", nargs=3, metavar=("ENGINE", "TILES", "QUERY"))
    asked = parser.parse_args()
    if asked.child:
        engine, tiles, query = asked.child
        print(json.dumps(child(engine, int(tiles), query)))
        return 0
    found = kept()
    if "manifest" in asked.engines:
        found = keep(opened())
    for tiles in asked.tiles:
        for engine in asked.engines:
            if engine != "manifest" and tiles <= MOST.get(engine, tiles):
                found = keep(measured(engine, tiles, list(asked.queries)))
    return judge(found)


if __name__ == "__main__":
    sys.exit(main())
