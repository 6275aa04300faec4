"""Vectors that others made become an archive: no encoder, no decoder, everything else.

Two passes: a survey with a sample, which decide cells, int8 scale and SimHash; then rows as int8,
set aside by place, sorted and written shard by shard. Objects are named by content and one commit
comes last, so that a killed import leaves an archive as it was and is run again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import digests, geohash, prefixes, rows, spill
from embarchive.additions import Addition, add_to_archive
from embarchive.archive import open_archive
from embarchive.commit import unless_refused
from embarchive.dates import SEASONS
from embarchive.errors import BadInput, Conflict
from embarchive.import_plan import Job, Options, decide
from embarchive.layouts import Layout, Wishes
from embarchive.manifest import Generation
from embarchive.memory import give_back
from embarchive.progress import Report
from embarchive.quantize import LIMIT, Int8
from embarchive.recipe import Settings
from embarchive.storage import Store
from embarchive.store import open_store
from embarchive.vectors import NO_DATE, Batch, batches

BUCKET_BYTES = 48 << 20
# A share of rows that may become zeros: more are no accident.
MOST_ZEROS = 0.01
# Times what int8 holds: a larger number is a mark of no data, or of other vectors.
MOST_CUT = 1000.0


def import_vectors(
    paths: Sequence[str | Path], out: str, wishes: Wishes, options: Options, progress: Report
) -> dict[str, Any]:
    """Make an archive from Parquet files of vectors, or add them to one that was made so; the
    `import` document of the command line. Raises BadInput, Conflict."""
    began = time.monotonic()
    store = open_store(out)
    job = decide(store, out, paths, wishes, options, progress)
    with unless_refused(store) if job.held is None else nullcontext(store) as target:
        target.check_writable()
        records, clipped = _write(target, job, progress)
        head = add_to_archive(target, partial(_addition, job, records, clipped, options))
    archive = open_archive(out)
    info, space = archive.info(), archive.space(job.space.space_id)
    return {
        "generation": head.generation.number,
        "tiles": info["tiles"],
        "places": info["places"],
        "added": sum(record["rows"] for record in records),
        "renamed": sum(record["renamed"] for record in records),
        "precision": job.settings.precision,
        "dim": job.settings.dim,
        "bits": job.settings.bits,
        "scale": space.scale,
        "saturation": space.saturation,
        "space_id": space.space_id,
        "bytes": info["bytes"],
        "seconds": round(time.monotonic() - began, 3),
    }


# ---------------------------------------------------------------- writing


def _write(
    store: Store, job: Job, progress: Report
) -> tuple[list[dict[str, Any]], Mapping[str, list[int]]]:
    """Write the shards; their records, and numbers clipped and rows seen by season."""
    s = job.settings
    schema = _schema(s.dim)
    shift = _shift(s.shard_prefix)
    clipped: dict[str, list[int]] = {}
    count = -(-job.found.rows * (s.dim + 80) // BUCKET_BYTES)
    least = spill.edges(job.found.places >> shift, count)
    records, before, done = [], 0, 0
    lost = _Lost(job.space.scale)
    with spill.Spill(least, schema) as aside:
        for layout in job.layouts:
            for batch in batches(layout, vectors=True):
                table = _quantised(job, layout, batch, before, clipped, schema)
                aside.add(batch.cells >> shift, table)
                done += len(table)
                lost.add(layout, batch, table["q"])
                progress("read", done, job.found.rows)
            before += layout.rows
        lost.check()
        done = 0
        for table in aside.buckets():
            for prefix, some in _by_prefix(table, s):
                records.append(_shards(store, job, prefix, some))
                give_back()
            done += len(table)
            progress("write", done, job.found.rows)
    return records, clipped


def _schema(dim: int) -> pa.Schema:
    """Of rows set aside. cell: at precision 12; row: its number among all files, from 0."""
    kinds = {
        "cell": pa.uint64(), "when": pa.int64(), "source": pa.string(), "row": pa.int64(),
        "digest": pa.binary(digests.CHIP_DIGEST), "valid": pa.float32(), "q": pa.binary(dim),
    }  # fmt: skip
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def _shift(letters: int) -> np.uint64:
    return np.uint64(5 * (geohash.LONGEST - letters))


def _quantised(
    job: Job,
    layout: Layout,
    batch: Batch,
    before: int,
    clipped: dict[str, list[int]],
    schema: pa.Schema,
) -> pa.Table:
    vectors = batch.vectors
    assert vectors is not None
    q = Int8(job.space.scale).encode(vectors)
    cut = (np.abs(vectors) > job.space.scale * (LIMIT + 0.5)).sum(axis=1)
    _tally(clipped, batch.when, cut)
    n, stem = len(q), layout.path.stem
    source = pa.array([stem] * n) if batch.source is None else _named(batch.source, stem)
    columns: dict[str, Any] = {
        "cell": batch.cells,
        "when": batch.when,
        "source": source,
        "row": np.arange(n) + before + batch.first - 1,
        "digest": pa.array(map(_digest, vectors), schema.field("digest").type),
        "valid": batch.valid,
        "q": pa.FixedSizeBinaryArray.from_buffers(
            schema.field("q").type, n, [None, pa.py_buffer(np.ascontiguousarray(q).tobytes())]
        ),
    }
    return pa.table(columns, schema=schema)


def _digest(vector: NDArray[np.float32]) -> bytes:
    """What names the input of a row."""
    return digests.chip_digest([vector.tobytes()])


def _named(source: pa.Array, stem: str) -> pa.Array:
    """Sources, that of the file where a row has none."""
    return pa.compute.if_else(pa.compute.equal(source, ""), stem, source)


def _tally(clipped: dict[str, list[int]], when: NDArray[np.int64], cut: NDArray[np.intp]) -> None:
    """Add numbers clipped and rows by season."""
    dated = when != NO_DATE
    month = np.where(dated, when, 0).astype("M8[us]").astype("M8[M]").astype(int) % 12
    season = np.where(dated, (month + 1) % 12 // 3, len(SEASONS))
    for number, name in enumerate((*SEASONS, "undated")):
        mine = season == number
        if mine.any():
            held = clipped.setdefault(name, [0, 0])
            held[0] += int(cut[mine].sum())
            held[1] += int(mine.sum())


def _by_prefix(table: pa.Table, settings: Settings) -> list[tuple[str, pa.Table]]:
    """Rows of a bucket by their shard prefix."""
    table = table.combine_chunks()
    code = table["cell"].to_numpy() >> _shift(settings.shard_prefix)
    order = np.argsort(code, kind="stable")
    found, starts = np.unique(code[order], return_index=True)
    names = geohash.spell(found, settings.shard_prefix).tolist()
    ends = [*starts[1:].tolist(), len(order)]
    return [
        (name, table.take(pa.array(order[start:end])))
        for name, start, end in zip(names, starts.tolist(), ends, strict=True)
    ]


def _shards(store: Store, job: Job, prefix: str, table: pa.Table) -> dict[str, Any]:
    """Write the rows of a prefix that the archive has not; their record."""
    s, space = job.settings, job.space
    held = prefixes.NOTHING
    if job.held is not None:
        held = prefixes.held_rows(job.held, prefix, space.space_id)
    source, renamed = _sources(job, table)
    cells = geohash.spell(table["cell"].to_numpy() >> _shift(s.precision), s.precision)
    micros = table["when"].to_numpy()
    q = np.frombuffer(_body(table["q"]), np.int8).reshape(len(table), s.dim)
    simhash = job.simhash
    made = rows.make_rows(
        cells,
        pa.array(micros, mask=micros == NO_DATE).cast(pa.timestamp("us", "UTC")),
        q,
        simhash.encode(q) if simhash else None,
        {
            "model_id": [""] * len(table),
            "source": source,
            "input_digest": table["digest"].combine_chunks(),
            "valid_fraction": table["valid"].to_numpy(),
        },
    )
    if held.keys:
        made = made.filter(pa.array(_fresh(made, held)))
    values = {"space_id": space.space_id, "encoder": None, "scale": space.scale}
    record = prefixes.write_shard_record(store, s, values, prefix, [made] * bool(len(made)), held)
    # There may be one a row.
    del record["sources"]
    return record | {"renamed": renamed}


def _body(column: pa.ChunkedArray) -> memoryview:
    """The bytes of a column of fixed width."""
    whole = column.combine_chunks()
    width = whole.type.byte_width
    return memoryview(whole.buffers()[1])[whole.offset * width :][: len(whole) * width]


def _fresh(table: pa.Table, held: prefixes.Stored) -> list[bool]:
    """Which rows are not stored yet. Raises Conflict where another vector is."""
    columns = [table[name].to_pylist() for name in prefixes.KEYS]
    fresh = []
    for name, when, source, digest in zip(*columns, strict=True):
        stored = held.keys.get((name, when, source))
        fresh.append(stored is None)
        if stored is not None:
            prefixes.agree((name, when, source), stored, digest)
    return fresh


def _sources(job: Job, table: pa.Table) -> tuple[list[str], int]:
    """Sources that differ among the rows of a cell and date: the second with the same one gets #2,
    in the order of the files. Raises BadInput for a source that was named twice at one place."""
    words = table["source"].combine_chunks().dictionary_encode()
    source: list[str] = table["source"].to_pylist()
    number, row = words.indices.to_numpy(), table["row"].to_numpy()
    place, when = table["cell"].to_numpy(), table["when"].to_numpy()
    if job.wishes.source:
        _once(job, place, when, number, row)
    cell = place >> _shift(job.settings.precision)
    order = np.lexsort((row, number, when, cell))
    same = _same(order, cell, when, number)
    start = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    turn = np.arange(len(order)) - start
    for at in np.flatnonzero(turn).tolist():
        source[order[at]] += f"#{turn[at] + 1}"
    keys = Counter(zip(cell.tolist(), when.tolist(), source, strict=True)) if turn.any() else {}
    if keys and max(keys.values()) > 1:
        found = max(keys, key=lambda key: keys[key])[2]
        raise BadInput(f"import: expected sources that do not end in a number, found {found!r}")
    return source, int(np.count_nonzero(turn))


def _once(job: Job, place: Any, when: Any, number: Any, row: Any) -> None:
    order = np.lexsort((row, number, when, place))
    same = np.flatnonzero(_same(order, place, when, number))
    if len(same):
        first, second = (_where(job, int(row[order[i]])) for i in (same[0] - 1, same[0]))
        raise BadInput(
            f"import {second}: expected a place, date and {job.wishes.source} of its own, found "
            f"those of {first}"
        )


def _same(order: NDArray[np.intp], *keys: Any) -> NDArray[np.bool_]:
    """Whether each row of an order has the keys of the one before."""
    same = np.ones(len(order), dtype=bool)
    same[0] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    return same


def _where(job: Job, row: int) -> str:
    """File and number of a row among all."""
    for layout in job.layouts:
        if row < layout.rows:
            return f"{layout.path.name} row {row + 1}"
        row -= layout.rows
    raise IndexError(row)


class _Lost:
    """What int8 numbers of one step, `scale`, would lose over the rows of all files."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._rows = self._zeros = 0
        self._largest = (0.0, "")

    def add(self, layout: Layout, batch: Batch, q: pa.ChunkedArray) -> None:
        """See rows and their int8 numbers, as bytes. Raises BadInput for a row far beyond them."""
        assert batch.vectors is not None
        blank = b"\0" * layout.dim
        self._rows += len(q)
        self._zeros += pa.compute.sum(pa.compute.equal(q, blank)).as_py() or 0
        each = np.abs(batch.vectors).max(axis=1)
        at = int(each.argmax())
        where, value = f"{layout.path.name} row {batch.first + at}", float(each[at])
        if value > MOST_CUT * LIMIT * self._scale:
            raise BadInput(
                f"import {where}: expected numbers up to about {LIMIT * self._scale:.3g}, found "
                f"{value:g}: leave out rows of no data"
            )
        self._largest = max(self._largest, (value, where))

    def check(self) -> None:
        """Raises BadInput when more than a small share of the rows would become zeros."""
        if self._zeros <= MOST_ZEROS * self._rows:
            return
        value, where = self._largest
        raise BadInput(
            f"import {where}: expected vectors that one int8 step can hold, found {value:g} there, "
            f"and {self._zeros:,} of {self._rows:,} rows that the step {self._scale:.3g} makes "
            "zeros: leave out rows of no data, or import the files apart"
        )


# ---------------------------------------------------------------- committing


def _addition(
    job: Job,
    records: Sequence[Mapping[str, Any]],
    clipped: Mapping[str, Sequence[int]],
    options: Options,
    parent: Generation | None,
) -> Addition:
    if (parent.number if parent else 0) != (job.held.generation if job.held else 0):
        raise Conflict("import: expected the archive as it was, found a new generation; run again")
    shares = {name: cut / (count * job.space.dim) for name, (cut, count) in sorted(clipped.items())}
    shards = [prefixes.shard_row(values) for record in records for values in record["shards"]]
    return Addition(
        settings=job.settings,
        shards=tuple(shards),
        spaces=(replace(job.space, saturation={**job.space.saturation, **shares}),),
        scenes=len(job.layouts) if shards else 0,
        places=sum(record["places"] for record in records),
        attribution=options.attribution,
    )
