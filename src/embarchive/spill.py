"""Rows set aside in a temporary folder, by where they are or to which list they belong, until they
are written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Codes = NDArray[np.uint64]

MOST_BUCKETS = 256


def edges(prefixes: Codes, buckets: int) -> Codes:
    """The least prefix of each bucket, at most `buckets` of them, so that each gets about as many
    of a sorted sample of prefixes."""
    at = np.linspace(0, len(prefixes), min(buckets, MOST_BUCKETS), endpoint=False).astype(int)
    found = np.unique(prefixes[at])
    found[0] = 0
    return found


class Spill:
    """A folder of buckets of rows, removed at the end of the `with` that it is used in.

    edges: see `edges`; schema: of the rows.
    """

    def __init__(self, edges: Codes, schema: pa.Schema) -> None:
        self._edges, self._schema = edges, schema
        self._stack = ExitStack()
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}

    def __enter__(self) -> Spill:
        made = tempfile.TemporaryDirectory(prefix="embarchive-spill-")
        self._folder = Path(self._stack.enter_context(made))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, prefixes: Codes, rows: pa.Table) -> None:
        """Set rows aside by their prefixes (n,)."""
        bucket = np.searchsorted(self._edges, prefixes, side="right") - 1
        order = np.argsort(bucket, kind="stable")
        starts = np.searchsorted(bucket[order], np.arange(len(self._edges) + 1))
        taken = rows.take(pa.array(order))
        for number in np.flatnonzero(np.diff(starts)).tolist():
            some = taken.slice(starts[number], starts[number + 1] - starts[number])
            self._writer(number).write_table(some)

    def buckets(self) -> Iterator[pa.Table]:
        """The rows of one bucket after another, each in the order in which they came."""
        for writer in self._writers.values():
            writer.close()
        for number in sorted(self._writers):
            path = self._path(number)
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                table = stream.read_all()
            path.unlink()
            yield table

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.arrows"

    def _writer(self, number: int) -> pa.RecordBatchStreamWriter:
        if number not in self._writers:
            file = self._stack.enter_context(pa.OSFile(str(self._path(number)), "wb"))
            writer = pa.ipc.new_stream(file, self._schema)
            self._writers[number] = self._stack.enter_context(writer)
        return self._writers[number]
