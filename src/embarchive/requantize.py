"""An archive again, with its embeddings as codes of a quantiser.

The same rows, models and fidelity codes; only the vectors differ, and with them the SimHash bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import digests, quantize, shards
from embarchive.additions import Addition, add_to_archive
from embarchive.archive import Archive, open_archive
from embarchive.commit import find_head, unless_refused
from embarchive.errors import BadInput, Conflict
from embarchive.filters import Filter
from embarchive.fit_quantisers import Method, fit_quantiser, parse_quantiser
from embarchive.manifest import Generation, ShardRow, Space, object_path
from embarchive.parts import model_objects
from embarchive.progress import Report
from embarchive.quantisers import Quantiser, dump_quantiser
from embarchive.quantize import Int8
from embarchive.reads import ReadPlan, ShardRead
from embarchive.recipe import Settings
from embarchive.rows import binary, embeddings, schema
from embarchive.storage import Store
from embarchive.store import open_store

# Rows that a quantiser is fitted to, at most.
SAMPLE = 20_000
QUERIES, NEIGHBOURS = 500, 10
_CHUNK = 8192

Int8s = NDArray[np.int8]


def requantize(
    source: str, to: str, method: str, *, bits: int | None = None, progress: Report
) -> dict[str, Any]:
    """Write the archive `source` to a new one with codes of `method`, see
    `fit_quantisers.parse_quantiser`, and return what that came to.

    bits: of SimHash, default as many as `source` has. The document: generation, tiles, with, bits,
    bytes a row before and after (`vector`: embedding and bits; `shards`: on disk) and, by space,
    `recall`: of the 10 nearest rows of other cells by the int8 vectors, the share that the codes
    find too, over 500 queries. Raises BadInput.
    """
    archive, store, asked = open_archive(source), open_store(to), parse_quantiser(method)
    settings = archive.settings
    if settings.packed:
        raise BadInput(
            f"{archive.root}: expected int8 embeddings, found codes of {settings.packed} bytes: it "
            "is quantised already"
        )
    held = find_head(store)
    if held is not None:
        raise BadInput(
            f"{store.root}: expected no archive there yet, found generation "
            f"{held.generation.number}"
        )
    for space in archive.spaces:
        asked.check(space.dim)
    decoded = sum(asked.decoded(space.dim) for space in archive.spaces)
    bits = quantize.check_bits(settings.bits if bits is None else bits, decoded or 1, "quantize")
    with unless_refused(store) as target:
        target.check_writable()
        return _made(archive, target, asked, bits, progress)


def _made(
    archive: Archive, store: Store, asked: Method, bits: int, progress: Report
) -> dict[str, Any]:
    settings = archive.settings
    works = [_prepare(archive, space, asked, bits) for space in archive.spaces]
    if not works:
        raise BadInput(f"{archive.root}: expected tiles to quantise, found none")
    made = replace(settings, bits=bits, packed=works[0].quantiser.bytes)
    total, done, found = len(archive.shards()), 0, []
    for work in works:
        for row in _shards(archive, store, made, work):
            found.append(row)
            done += 1
            progress("quantize shards", done, total)
    _copy(archive, store)
    addition = Addition(
        settings=made,
        shards=tuple(found),
        models=tuple(archive.models().to_pylist()) if archive.head.generation.models else (),
        spaces=tuple(_space(store, work) for work in works),
        scenes=archive.head.generation.scenes,
        places=archive.head.generation.places,
        attribution=archive.head.generation.attribution,
    )
    head = add_to_archive(store, _first(addition, str(store.root)))
    return _said(archive, head.generation, works)


@dataclass
class _Work:
    """What one space gets, and how near its neighbours stay. asked, coded: queries as int8 vectors
    before and after; own: their cells; near, kept: by each of them distances and numbers
    of the nearest rows so far."""

    space: Space
    quantiser: Quantiser
    simhash: quantize.SimHash | None
    asked: Int8s
    coded: Int8s
    own: NDArray[np.str_]
    near: tuple[NDArray[np.float64], NDArray[np.int64]]
    kept: tuple[NDArray[np.float64], NDArray[np.int64]]
    rows: int = 0

    def watch(self, names: NDArray[np.str_], q: Int8s, codes: Int8s) -> None:
        """See rows of a shard: int8 vectors before and after."""
        for start in range(0, len(names), _CHUNK):
            some = slice(start, start + _CHUNK)
            same = names[some] == self.own[:, None]
            numbers = np.arange(self.rows + start, self.rows + start + same.shape[1])
            self.near = _nearest(self.near, self.asked, q[some], same, numbers)
            self.kept = _nearest(self.kept, self.coded, codes[some], same, numbers)
        self.rows += len(names)

    @property
    def recall(self) -> float:
        """The share of the nearest rows by int8 that the codes find too; NaN without any."""
        there = self.near[1] >= 0
        both = (self.near[1][:, :, None] == self.kept[1][:, None, :]).any(axis=2) & there
        return float(both.sum() / there.sum()) if there.any() else float("nan")


def _prepare(archive: Archive, space: Space, method: Method, bits: int) -> _Work:
    """A quantiser fitted to a sample of a space, and the queries to watch."""
    plan = archive.plan(Filter(), space.space_id)
    if not plan.reads:
        raise BadInput(f"space {space.space_id}: expected tiles to fit to, found none")
    table, _ = archive.reader.sample(plan, Filter(), ("geohash", "embedding"), SAMPLE)
    names, q = np.array(table["geohash"].to_pylist()), embeddings(table)
    mu = Int8(space.scale).decode(q)
    quantiser = fit_quantiser(method.name, mu)
    decoded = quantiser.decode(quantiser.encode(mu))
    simhash = quantize.fit_simhash(decoded, bits, 0)
    chosen = np.random.default_rng(0).permutation(len(q))[:QUERIES]
    none = np.full((len(chosen), NEIGHBOURS), np.inf), np.full((len(chosen), NEIGHBOURS), -1)
    return _Work(space, quantiser, simhash, q[chosen], decoded[chosen], names[chosen], none, none)


def _rows(archive: Archive, read: ShardRead, columns: tuple[str, ...]) -> pa.Table:
    return archive.reader.rows(ReadPlan((read,)), Filter(), columns)


def _nearest(
    held: tuple[NDArray[np.float64], NDArray[np.int64]],
    asked: Int8s,
    q: Int8s,
    same: NDArray[np.bool_],
    numbers: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The nearest rows so far and those of a chunk (n, D) together, of equals the first; of rows of
    the query's own cell (`same`) none."""
    gaps = np.where(same, np.inf, quantize.squared_l2_many(q, asked))
    far = np.concatenate([held[0], gaps], axis=1)
    number = np.concatenate([held[1], np.where(same, -1, numbers)], axis=1)
    first = np.argsort(far, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.take_along_axis(far, first, axis=1), np.take_along_axis(number, first, axis=1)


def _shards(archive: Archive, store: Store, settings: Settings, work: _Work) -> Iterator[ShardRow]:
    """Write the shards of a space with codes for embeddings."""
    scale, space = work.quantiser.scale, work.space
    emb = shards.emb_metadata(settings, space.space_id, space.encoder, scale, work.quantiser)
    for read in archive.plan(Filter(), space.space_id).reads:
        table = _rows(archive, read, tuple(archive.reader.names))
        q = embeddings(table)
        packed = work.quantiser.encode(Int8(space.scale).decode(q))
        decoded = work.quantiser.decode(packed)
        work.watch(np.array(table["geohash"].to_pylist()), q, decoded)
        columns = {name: table[name] for name in table.column_names}
        columns["packed"] = pa.chunked_array([binary(packed)])
        if work.simhash is not None:
            columns["bits"] = pa.chunked_array([binary(work.simhash.encode(decoded))])
        want = schema(0, settings.bits, settings.packed)
        # Errors are of what the embedding decoded to.
        for name in ("mse", "index_mae"):
            columns[name] = pa.chunked_array([pa.nulls(len(table), want.field(name).type)])
        rows = pa.table([columns[name] for name in want.names], schema=want)
        yield _written(store, shards.write_shard(rows, emb), read.shard)


def _written(store: Store, shard: shards.Shard, old: ShardRow) -> ShardRow:
    """Store a shard and its outboard; its row."""
    blocks = digests.sha256(shard.outboard)
    store.put_new(object_path("blocks", blocks), shard.outboard)
    store.put_new(object_path("shard", shard.sha256, old.prefix), shard.data)
    new = {f.name: getattr(shard, f.name) for f in fields(ShardRow) if hasattr(shard, f.name)}
    return replace(old, blocks=blocks, **new)


def _copy(archive: Archive, store: Store) -> None:
    """Copy all that spaces and models name."""
    named = [one for space in archive.spaces for one in space.objects()]
    for row in archive.models().to_pylist() if archive.head.generation.models else []:
        named += model_objects(row)
    for kind, sha256, length in dict.fromkeys(named):
        data = archive.reader.object(kind, sha256, length)
        store.put_new(object_path(kind, sha256), data)


def _space(store: Store, work: _Work) -> Space:
    """The space as the new archive has it, its quantiser stored."""
    data = dump_quantiser(work.quantiser)
    sha256 = digests.sha256(data)
    store.put_new(object_path("model", sha256), data)
    about = {"with": work.quantiser.name, "recall": round(work.recall, 4)}
    return replace(
        work.space,
        scale=work.quantiser.scale,
        simhash=work.simhash.to_json() if work.simhash else {},
        quantiser=sha256,
        quantiser_length=len(data),
        trained={**work.space.trained, "quantised": about},
    )


def _first(addition: Addition, root: str) -> Callable[[Generation | None], Addition]:
    def make(parent: Generation | None) -> Addition:
        if parent is not None:
            raise Conflict(f"{root}: expected no archive there yet, found that of another writer")
        return addition

    return make


def _said(archive: Archive, made: Generation, works: list[_Work]) -> dict[str, Any]:
    held = archive.head.generation
    before = {"vector": held.settings.dim + held.settings.bits / 8}
    after = {"vector": made.settings.packed + made.settings.bits / 8}
    for found, one in ((before, held), (after, made)):
        found["shards"] = round(one.bytes["shards"] / one.tiles, 1)
    return {
        "generation": made.number,
        "tiles": made.tiles,
        "with": works[-1].quantiser.name,
        "bits": made.settings.bits,
        "before": before,
        "after": after,
        "recall": {work.space.space_id: round(work.recall, 4) for work in works},
    }
