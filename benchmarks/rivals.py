"""What a user would take instead of an archive, with the same rows: DuckDB over one Parquet file
in geohash order, and LanceDB with an IVF-PQ index.

Both read the local disk; bytes and requests are what the system counts as read by the process
(/proc/self/io), cold: each query opens its table anew.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import made_archive
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scale_truth
import synthetic
from numpy.typing import NDArray

from embarchive import grid

K, DIM, SIDES = scale_truth.K, synthetic.DIM, ("xmin", "ymin", "xmax", "ymax")
Box = NDArray[np.float64] | None
# Numbers of a code of product quantisation: LanceDB's own choice of 4 does not reach .95.
CODES = 16
# What a query asks of LanceDB: lists, and how many times ten rows are compared exactly.
SWEEP = [(lists, rows) for rows in (10, 20, 50, 100) for lists in (10, 20, 40, 80)]


class Rival(Protocol):
    """An engine over a table on the disk."""

    name: str

    def build(self, tiles: int) -> float:
        """Write the table and its indices; seconds, without those of making the rows."""
        ...

    def ask(self, query: NDArray[np.int8], box: Box) -> NDArray[np.float64]:
        """Squared distances of the ten nearest, in a box or of all, from opening on."""
        ...


def tables(tiles: int, kind: pa.DataType, spent: list[float]) -> Iterator[pa.RecordBatch]:
    """The rows of an archive, a prefix at a time; `spent` gets the seconds of making each."""
    began = time.perf_counter()
    for prefix, vectors in scale_truth.portions(tiles):
        names = np.array(list(made_archive.cells(prefix)))[: len(vectors)]
        flat = pa.array(vectors.astype(kind.to_pandas_dtype()).ravel())
        sides = grid.bounds(names).astype(np.float32)
        columns = [
            pa.array(names.tolist()),
            *(pa.array(np.ascontiguousarray(side)) for side in sides.T),
            pa.FixedSizeListArray.from_arrays(flat, DIM),
        ]
        batch = pa.record_batch(columns, names=["geohash", *SIDES, "vector"])
        spent.append(time.perf_counter() - began)
        yield batch
        began = time.perf_counter()


class Duck:
    """DuckDB over one Parquet file."""

    name = "duckdb"

    def __init__(self, path: Path) -> None:
        # Here, so that no query pays for the import.
        import duckdb

        self.path, self.connect = path, duckdb.connect

    def build(self, tiles: int) -> float:
        spent: list[float] = []
        began = time.perf_counter()
        writer = None
        for batch in tables(tiles, pa.int8(), spent):
            if writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(self.path, batch.schema, compression="zstd")
            writer.write_batch(batch)
        assert writer is not None
        writer.close()
        return time.perf_counter() - began - sum(spent)

    def ask(self, query: NDArray[np.int8], box: Box) -> NDArray[np.float64]:
        where = ""
        if box is not None:
            west, south, east, north = box.tolist()
            where = (
                f"WHERE xmin <= {east} AND xmax >= {west} AND ymin <= {north} AND ymax >= {south}"
            )
        text = (
            f"SELECT geohash, array_distance(vector::FLOAT[{DIM}], ?::FLOAT[{DIM}]) AS d "
            f"FROM '{self.path}' {where} ORDER BY d LIMIT {K}"
        )
        with self.connect() as con:
            rows = con.execute(text, [query.astype(float).tolist()]).fetchall()
        return np.array([d for _, d in rows], dtype=np.float64) ** 2


class Lance:
    """LanceDB, IVF-PQ; boxes by ordered indices on two sides, and exactly."""

    name = "lancedb"

    def __init__(self, path: Path, lists: int = 20, rows: int = 10) -> None:
        import lancedb

        self.path, self.lists, self.rows = path, lists, rows
        self.connect = lancedb.connect

    def build(self, tiles: int) -> float:
        spent: list[float] = []
        shutil.rmtree(self.path, ignore_errors=True)
        first = next(tables(1, pa.float32(), []))
        began = time.perf_counter()
        reader = pa.RecordBatchReader.from_batches(first.schema, tables(tiles, pa.float32(), spent))
        table = self.connect(self.path).create_table("rows", reader)
        table.create_index(
            metric="l2", vector_column_name="vector", index_type="IVF_PQ", num_sub_vectors=CODES
        )
        for side in ("xmin", "ymin"):
            table.create_scalar_index(side)
        return time.perf_counter() - began - sum(spent)

    def ask(self, query: NDArray[np.int8], box: Box) -> NDArray[np.float64]:
        table = self.connect(self.path).open_table("rows")
        asked: Any = table.search(query.astype(np.float32), vector_column_name="vector")
        asked = asked.distance_type("l2").limit(K).select(["geohash", "_distance"])
        if box is None:
            asked = asked.nprobes(self.lists).refine_factor(self.rows)
        else:
            west, south, east, north = box.tolist()
            asked = asked.bypass_vector_index().where(
                f"xmin <= {east} AND xmax >= {west} AND ymin <= {north} AND ymax >= {south}",
                prefilter=True,
            )
        return asked.to_arrow()["_distance"].to_numpy().astype(np.float64)
