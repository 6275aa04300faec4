"""The overview of a generation: for each space that it covers the lists of an inverted file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embarchive import digests
from embarchive.coarse import Coarse, load_coarse
from embarchive.errors import Damaged
from embarchive.inverted import Cells, Codes, parse_index, unpack_segment
from embarchive.manifest import Space, TableRef, object_path
from embarchive.reader import Reader, expiring, in_threads
from embarchive.store import coalesce, cut


@dataclass(frozen=True)
class Lists:
    """The lists of a space: its coarse quantiser, the index's rows of it, and the rows that each of
    its lists holds (K,)."""

    coarse: Coarse
    index: pa.Table
    rows: NDArray[np.int64]

    @property
    def named(self) -> tuple[str, int]:
        """Hash and length of the object that holds the coarse quantiser."""
        return self.index["coarse"][0].as_py(), self.index["coarse_length"][0].as_py()

    @property
    def total(self) -> int:
        """Rows of all lists, which are those of the space."""
        return int(self.rows.sum())

    @property
    def width(self) -> float:
        """Bytes of a row in the lists, on average."""
        return float(pc.sum(self.index["length"]).as_py() / max(1, self.total))

    def segments(self, numbers: NDArray[np.integer[Any]]) -> pa.Table:
        """The index's rows of some lists."""
        return self.index.filter(pc.is_in(self.index["list"], pa.array(numbers, pa.int32())))


class Overview:
    """What a generation's overview holds, fetched when it is first asked for; verified."""

    def __init__(self, reader: Reader, ref: TableRef | None) -> None:
        self._reader, self._ref = reader, ref
        self._index: pa.Table | None = None
        self._lists: dict[str, Lists] = {}

    @property
    def index(self) -> pa.Table | None:
        """The index, None where there is no overview. Raises Damaged."""
        if self._index is None and self._ref is not None:
            data = self._reader.object("overview", self._ref.sha256, self._ref.length)
            self._index = parse_index(data)
        return self._index

    @property
    def precision(self) -> int:
        """Letters of a cell."""
        return self._reader.settings.precision

    def lists(self, space: Space) -> Lists | None:
        """The lists of a space; None where it has none. Raises Damaged."""
        if self.index is None:
            return None
        if space.space_id not in self._lists:
            own = self.index.filter(pc.equal(self.index["space_id"], space.space_id))
            if not len(own):
                return None
            quantiser = self._reader.quantiser(space.space_id)
            dim = quantiser.dim if quantiser else space.dim
            self._lists[space.space_id] = self._opened(own, dim)
        return self._lists[space.space_id]

    def read(
        self, lists: Lists, numbers: NDArray[np.integer[Any]]
    ) -> list[tuple[int, Codes, Cells]]:
        """Some lists, a segment after another, each its number, codes by columns int8 (D, n) and
        cells as numbers of 5 bits a letter (n,). Raises Damaged, GenerationExpired."""
        found = lists.segments(numbers).to_pylist()
        held = {_key(row): self._reader.cache.get(_key(row)) for row in found}
        files: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            if held[_key(row)] is None:
                files.setdefault(row["file"], []).append(row)
        for fetched in in_threads(self._fetch, list(files.values())):
            held |= fetched
        dim, end = lists.coarse.dim, 1 << 5 * self.precision
        return [
            (row["list"], *unpack_segment(held[_key(row)] or b"", row["rows"], dim, end))
            for row in found
        ]

    def _opened(self, own: pa.Table, dim: int) -> Lists:
        sha, length = own["coarse"][0].as_py(), own["coarse_length"][0].as_py()
        coarse = load_coarse(self._reader.object("model", sha, length), dim)
        numbers = own["list"].to_numpy()
        if numbers.max() >= len(coarse.centroids):
            most = len(coarse.centroids)
            raise Damaged(f"overview: expected lists below {most}, found {numbers.max()}")
        rows = np.zeros(len(coarse.centroids), np.int64)
        np.add.at(rows, numbers, own["rows"].to_numpy())
        return Lists(coarse, own, rows)

    def _fetch(self, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], bytes]:
        """Segments of one file, in few requests; they are kept for later."""
        path = object_path("overview", rows[0]["file"])
        ranges = [(row["offset"], row["offset"] + row["length"]) for row in rows]
        spans = coalesce(ranges, rows[0]["file_length"], block=1)
        bodies = expiring(lambda: self._reader.store.get_ranges(path, spans))
        found = {}
        for row, (start, end) in zip(rows, ranges, strict=True):
            data = cut(spans, bodies, start, end)
            digests.check_short(f"{path}: list {row['list']}", data, row["digest"])
            self._reader.cache.put(_key(row), data)
            found[_key(row)] = data
        return found


def _key(row: dict[str, Any]) -> tuple[str, int]:
    """A segment by its content, in the reader's cache."""
    return row["digest"].hex(), row["length"]
