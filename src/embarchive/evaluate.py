"""How well the vectors of an archive serve: neighbours kept by each quantiser, intrinsic dimension,
and, with labels, what probes tell from them.

Neighbours are those of the stored numbers, which stand for what the encoder or the import gave;
rows of the query's own place never count. Codes are compared with codes, as a search by place of
the quantised archive does. Intervals are of spatial blocks drawn whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import measures, probes
from embarchive.archive import Archive
from embarchive.errors import BadInput
from embarchive.exemplars import best_of_places
from embarchive.fit_quantisers import fit_quantiser, parse_quantiser
from embarchive.labels import classes, read_labels
from embarchive.manifest import Space
from embarchive.quantize import Int8
from embarchive.questions import Scope, scope
from embarchive.rows import cell_names, embeddings

METHODS = ("int8", "int4", "int2", "bits", "simhash128", "pq16", "turboquant4", "pca32+int8")
K, SHORTLIST = 10, 100
MOST_ROWS, MOST_QUERIES, MOST_LABELLED = 20_000, 1_000, 5_000
# Neighbours that the dimension is estimated from; rows that a shard needs for one of its own.
_NEAR, _LOCAL, _LEAST_ROWS, _MOST_SHARDS = 20, 60, 200, 20
# Rows whose distances to a query are ranked.
_RANKED = 500
LEAST_BLOCKS = 10
Report = Callable[[int, int], None]
Doc = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """Rows of a space: geohash (n,), vectors float32 (n, D), shard (n,): number of each, block
    (n,): geohash prefixes that lie apart on the ground."""

    geohash: NDArray[np.str_]
    vectors: NDArray[np.float32]
    shard: NDArray[np.int64]
    block: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.geohash)


def evaluate(
    archive: Archive,
    *,
    methods: Sequence[str] | None = None,
    labels: str | Path | None = None,
    column: str = "label",
    seed: int = 0,
    space: str | None = None,
    band: str | None = None,
    progress: Report = lambda done, total: None,
) -> Doc:
    """A JSON document: space, tiles, rows (sampled), dim, `quantisers` (a row a method),
    `dimension` (whole and by shard) and, with labels, `labels`.

    methods: names of quantisers, default those of METHODS that vectors of this length can have;
    band: of an archive of single bands the one that is told of. Raises BadInput, MissingExtra.
    """
    about = scope(archive, space=space, band=band)
    here = about.space
    methods = _methods(methods, archive, here)
    rng = np.random.default_rng(seed)
    table, shard = read_sample(about)
    # A file of labels that does not match stops this before any work.
    found = _labelled(table, labels, column)
    sample = _sample(table, shard, here.scale)
    if len(sample) < SHORTLIST + 2:
        raise BadInput(f"evaluate: expected more than {SHORTLIST} tiles, found {len(sample)}")
    steps = 1 + len(methods) * (1 if found is None else 2)
    dimension = _dimensions(sample, rng)
    progress(1, steps)
    asked = np.sort(rng.permutation(len(sample))[:MOST_QUERIES])
    quantisers = []
    for at, name in enumerate(methods):
        quantisers.append(_kept(sample, asked, name, seed))
        progress(2 + at, steps)
    document: Doc = {
        "space": here.space_id,
        "tiles": len(archive),
        "rows": len(sample),
        "queries": len(asked),
        "blocks": len(np.unique(sample.block)),
        "dim": sample.vectors.shape[1],
        "k": K,
        "quantisers": quantisers,
        "dimension": dimension,
        "labels": None,
    }
    if found is not None:
        after = 1 + len(methods)
        rows, label, few = found
        told = _probes(
            rows, label, here.scale, methods, seed, lambda at: progress(after + at, steps)
        )
        document["labels"] = {"file": str(labels), "left_out": few, **told}
    return document


def _methods(wanted: Sequence[str] | None, archive: Archive, here: Space) -> list[str]:
    """Names of quantisers that fit the vectors of a space; raises BadInput where one that was
    asked for does not."""
    quantiser = archive.quantiser(here)
    dim = quantiser.dim if quantiser else here.dim
    found = []
    for name in METHODS if wanted is None else wanted:
        try:
            parse_quantiser(name).check(dim)
        except BadInput:
            if wanted is None:
                continue
            raise
        found.append(name)
    return found


def read_sample(about: Scope) -> tuple[pa.Table, NDArray[np.int64]]:
    """Every so many rows of a space, MOST_ROWS at most, in order, and the shard of each (n,)."""
    names = ("geohash", "datetime", "source", "valid_fraction", "embedding")
    plan = about.archive.plan(about.wanted, about.space.space_id)
    found = about.archive.reader.sample(plan, about.wanted, names, MOST_ROWS)
    if not len(found[0]):
        raise BadInput(f"space {about.space.space_id}: expected tiles to evaluate, found none")
    return found


def blocks_of(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """The shortest geohash prefixes of which there are at least LEAST_BLOCKS, else the names."""
    for length in range(1, len(str(names[0])) if len(names) else 0):
        short = names.astype(f"<U{length}")
        if len(np.unique(short)) >= LEAST_BLOCKS:
            return short
    return names


def _sample(table: pa.Table, shard: NDArray[np.int64], scale: float) -> Sample:
    names = cell_names(table["geohash"])
    vectors = Int8(scale).decode(embeddings(table))
    return Sample(names, vectors, shard, blocks_of(names))


def _kept(sample: Sample, asked: NDArray[np.int64], name: str, seed: int) -> Doc:
    """What a quantiser keeps of neighbours and distances: fitted as `quantize` does, to the rows
    that it stores, and asked with their own codes."""
    quantiser = fit_quantiser(name, sample.vectors, seed)
    coded = quantiser.decode(quantiser.encode(sample.vectors)).astype(np.float32)
    query = coded[asked]
    own = sample.geohash[asked], sample.geohash
    true, _ = measures.nearest(sample.vectors[asked], sample.vectors, K, own)
    found, _ = measures.nearest(query, coded, SHORTLIST, own)
    each = measures.recall(true, found[:, :K])
    low, high = measures.interval(each, sample.block[asked], seed)
    some = np.random.default_rng(seed).permutation(len(sample))[:_RANKED]
    exact = measures.distances(sample.vectors[asked], sample.vectors[some])
    near = measures.distances(query, coded[some])
    order = [measures.spearman(a, b) for a, b in zip(exact, near, strict=True)]
    return {
        "name": name,
        "bytes": quantiser.bytes,
        "recall10": float(each.mean()),
        "recall10_low": low,
        "recall10_high": high,
        "recall10_rerank": float(measures.recall(true, found).mean()),
        "spearman": float(np.nanmean(order)),
    }


def _dimensions(sample: Sample, rng: np.random.Generator) -> Doc:
    """Estimates of the whole sample, and of the shards with rows enough."""
    found: Doc = {"whole": _dimension(sample, np.arange(len(sample)), rng), "shards": []}
    numbers, counts = np.unique(sample.shard, return_counts=True)
    for number in numbers[counts >= _LEAST_ROWS][:_MOST_SHARDS].tolist():
        rows = np.flatnonzero(sample.shard == number)
        first, last = sample.geohash[rows[0]], sample.geohash[rows[-1]]
        about = {"geohash_min": str(first), "geohash_max": str(last), "rows": len(rows)}
        found["shards"].append({**about, **_dimension(sample, rows, rng)})
    return found


def _dimension(sample: Sample, rows: NDArray[np.int64], rng: np.random.Generator) -> Doc:
    names, base = sample.geohash[rows], sample.vectors[rows]
    asked = np.sort(rng.permutation(len(rows))[:MOST_QUERIES])
    try:
        near, gaps = measures.nearest(base[asked], base, _LOCAL, (names[asked], names))
    except BadInput:
        return {"mle": None, "two_nn": None, "local_pca": None}
    return {
        "mle": measures.dimension_mle(gaps[:, :_NEAR]),
        "two_nn": measures.dimension_two_nn(gaps),
        "local_pca": measures.dimension_local(base, near),
    }


# ---------------------------------------------------------------- labels


def _labelled(
    table: pa.Table, labels: str | Path | None, column: str
) -> tuple[pa.Table, NDArray[np.str_], dict[str, int]] | None:
    """The best row of each labelled place, its class, and the places of classes that are left out
    because not every fold can have one of them."""
    if labels is None:
        return None
    best = best_of_places(table)
    names = best["geohash"].to_pylist()
    said = read_labels(labels, column, names)
    rows = [at for at, name in enumerate(names) if name in said]
    rows = rows[:: max(1, -(-len(rows) // MOST_LABELLED))]
    label = np.array([said[names[at]] for at in rows], dtype=np.str_)
    names, counts = np.unique(label, return_counts=True)
    few = dict(zip(names.tolist(), counts.tolist(), strict=True))
    few = {name: count for name, count in few.items() if count < probes.FOLDS}
    if len(names) - len(few) < 2:
        have = ", ".join(name for name in names.tolist() if name not in few)
        raise BadInput(
            f"labels {labels}: expected at least 2 classes of {probes.FOLDS} places (where as many "
            f"labels say one class as another, the first by name counts), found "
            f"{have[:60] or 'none'}{f', and {len(few)} of fewer places' if few else ''}"
        )
    kept = ~np.isin(label, list(few))
    return best.take(pa.array(np.array(rows)[kept])), label[kept], few


def _probes(
    table: pa.Table,
    label: NDArray[np.str_],
    scale: float,
    methods: Sequence[str],
    seed: int,
    step: Callable[[int], None],
) -> Doc:
    """What probes tell from the stored numbers, and from each quantiser's."""
    names = cell_names(table["geohash"])
    vectors = Int8(scale).decode(embeddings(table))
    block = blocks_of(names)
    whole = {one: probes.predict(one, vectors, label, block) for one in probes.PROBES}
    rows = [_told("stored", vectors.shape[1], whole, whole, label, block, seed)]
    for at, name in enumerate(methods):
        quantiser = fit_quantiser(name, vectors, seed)
        near = quantiser.vectors(quantiser.encode(vectors))
        said = {one: probes.predict(one, near, label, block) for one in probes.PROBES}
        rows.append(_told(name, quantiser.bytes, said, whole, label, block, seed))
        step(at + 1)
    count = classes(dict(zip(names.tolist(), label.tolist(), strict=True)))
    blocks = len(np.unique(block))
    return {"tiles": len(label), "blocks": blocks, "classes": count, "probes": rows}


def _told(
    name: str,
    size: int,
    said: dict[str, Any],
    whole: dict[str, Any],
    label: NDArray[np.str_],
    block: NDArray[np.str_],
    seed: int,
) -> Doc:
    row: Doc = {"name": name, "bytes": size}
    for probe in probes.PROBES:
        right = said[probe] == label
        low, high = measures.interval(right.astype(float), block, seed)
        row |= {f"{probe}_acc": float(right.mean()), f"{probe}_low": low, f"{probe}_high": high}
        row[f"{probe}_mcnemar_p"] = measures.mcnemar(right, whole[probe] == label)
    before = measures.f1_by_class(label, whole["linear"])
    after = measures.f1_by_class(label, said["linear"])
    row["f1"] = after
    row["f1_drop"] = {one: before[one] - after[one] for one in before}
    return row
