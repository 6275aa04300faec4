"""What bench_scale asks of a synthetic archive, and the right answers, by a scan of all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import made_archive
import numpy as np
import synthetic
from numpy.typing import NDArray

from embarchive import grid

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]
K, ASKED, BOXES, RECALL = 10, 100, 20, 0.95
# Degrees of a box, some 600 cells; rows to make lists from.
BOX, SAMPLE = (0.25, 0.15), 400_000
PIECE = 8_192


@dataclass(frozen=True)
class Truth:
    """queries int8 (q, D); boxes (b, 4), asked for by the first of them, and the squared distance
    of the tenth nearest there (b,); of the ten nearest rows of all: squared distances float64
    (q, 10), vectors int8 (q, 10, D) and numbers of their prefixes (q, 10); means (p, D) and rows
    (p,) of each prefix; sample: some rows (s, D)."""

    queries: Int8s
    boxes: NDArray[np.float64]
    box_tenth: NDArray[np.float64]
    gaps: NDArray[np.float64]
    vectors: Int8s
    prefix: NDArray[np.int64]
    means: Floats
    rows: NDArray[np.int64]
    sample: Int8s


def path_of(tiles: int) -> Path:
    """Where the answers lie, a .npz with the fields of Truth; made if need be."""
    path = synthetic.folder() / f"truth-{tiles}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(scan(tiles)))
    return path


def truth_of(tiles: int) -> Truth:
    """All of it."""
    with np.load(path_of(tiles)) as kept:
        return Truth(**{name: kept[name] for name in kept.files})


def portions(tiles: int) -> Iterator[tuple[str, Int8s]]:
    """The vectors of an archive of so many rows of one date, a prefix at a time."""
    model = synthetic.load()
    for prefix in made_archive.prefixes(-(-tiles // made_archive.CELLS)):
        vectors = synthetic.of_prefix(model, prefix, 1)[:tiles, 0]
        yield prefix, vectors
        tiles -= len(vectors)


def scan(tiles: int) -> Truth:
    """Exact squared distances of int8 to all rows."""
    queries = synthetic.queries(synthetic.load(), ASKED)
    asked, step = queries.astype(np.float32), max(1, tiles // SAMPLE)
    gaps = np.full((ASKED, K), np.inf)
    owner = np.zeros((ASKED, K), np.int64)
    vectors = np.zeros((ASKED, K, queries.shape[1]), np.int8)
    means, rows, sample = [], [], []
    for number, (_, some) in enumerate(portions(tiles)):
        means.append(some.mean(axis=0, dtype=np.float32))
        rows.append(len(some))
        sample.append(some[::step])
        for start in range(0, len(some), PIECE):
            part = some[start : start + PIECE]
            found = distances(asked, part)
            for one in np.flatnonzero(found.min(axis=1) < gaps[:, -1]).tolist():
                near = np.flatnonzero(found[one] < gaps[one, -1])
                every = np.concatenate([gaps[one], found[one, near]])
                best = np.argsort(every, kind="stable")[:K]
                gaps[one] = every[best]
                owner[one] = np.concatenate([owner[one], np.full(len(near), number)])[best]
                vectors[one] = np.concatenate([vectors[one], part[near]])[best]
    kept = np.concatenate(sample)
    return Truth(
        queries, some_boxes(), in_boxes(), gaps, vectors, owner, np.stack(means), np.array(rows),
        kept,
    )  # fmt: skip


def distances(asked: Floats, rows: Int8s) -> Floats:
    """Squared, (q, n); whole numbers below 2^24, so exact."""
    wide = rows.astype(np.float32)
    square = np.einsum("nd,nd->n", wide, wide) - 2 * (asked @ wide.T)
    return np.asarray(square + np.einsum("nd,nd->n", asked, asked)[:, None])


def some_boxes(count: int = 2) -> NDArray[np.float64]:
    """Boxes (b, 4) in the first one or two prefixes, which are neighbours and in every archive."""
    sides = grid.bounds(np.array(made_archive.prefixes(count)))
    low, high = sides[:, :2].min(axis=0), sides[:, 2:].max(axis=0)
    corner = low + np.random.default_rng(7).random((BOXES, 2)) * (high - low - BOX)
    return np.concatenate([corner, corner + BOX], axis=1)


def in_boxes() -> NDArray[np.float64]:
    """The squared distance of the tenth nearest in each box to the query of its number."""
    names, vectors = [], []
    for prefix, some in portions(2 * made_archive.CELLS):
        names += list(made_archive.cells(prefix))
        vectors.append(some)
    sides, every = grid.bounds(np.array(names)), np.concatenate(vectors)
    asked = synthetic.queries(synthetic.load(), ASKED).astype(np.float32)
    found = []
    for number, box in enumerate(some_boxes()):
        inside = every[grid.bbox_intersects(sides, box.tolist())]
        found.append(np.sort(distances(asked[number : number + 1], inside)[0])[K - 1])
    return np.array(found, dtype=np.float64)


def recall(found: list[NDArray[np.float64]], tenth: NDArray[np.float64]) -> float:
    """Share of the ten nearest that were found: squared distances in int8 steps of each query's
    hits, against that of its tenth. Of equals any will do."""
    right = [
        min(K, int((np.rint(some) <= most).sum())) for some, most in zip(found, tenth, strict=True)
    ]
    return float(np.mean(right)) / K


# ---------------------------------------------------------------- which lists


def by_prefix(truth: Truth) -> tuple[float, float]:
    """Share of all rows that must be read for .95 of the nearest, and the recall, where prefixes
    are read by the distance of their mean."""
    return _share(truth, truth.means, truth.rows, truth.prefix)


def by_lists(truth: Truth, count: int) -> tuple[float, float]:
    """The same with the lists of an inverted file: k-means of a sample, whose lists tell sizes."""
    import faiss

    means = faiss.Kmeans(truth.sample.shape[1], count, niter=12, seed=1, max_points_per_centroid=96)
    rows = truth.sample.astype(np.float32)
    means.train(rows)
    owner = means.index.search(rows, 1)[1][:, 0]
    near = means.index.search(truth.vectors.reshape(-1, rows.shape[1]).astype(np.float32), 1)[1]
    sizes = np.bincount(owner, minlength=count)
    return _share(truth, means.centroids, sizes, near.reshape(truth.gaps.shape))


def _share(
    truth: Truth, means: Floats, sizes: NDArray[np.int64], owner: NDArray[np.int64]
) -> tuple[float, float]:
    asked = truth.queries.astype(np.float32)
    apart = (means**2).sum(axis=1) - 2 * asked @ means.T
    order = np.argsort(apart, axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    where = np.take_along_axis(rank, owner, axis=1)
    read = np.cumsum(sizes[order], axis=1).mean(axis=0) / sizes.sum()
    reached = np.array([(where <= probes).mean() for probes in range(len(sizes))])
    probes = int(np.argmax(reached >= RECALL))
    return float(read[probes]), float(reached[probes])
