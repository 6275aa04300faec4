"""An archive as a torch dataset: tiles, or the dates of a place, streamed shard by shard.

Only the columns and row groups that are needed are read, verified as everywhere, and at most
one shard prefix is held at a time. Workers share the prefixes out among themselves, and all
stay on the generation that the dataset was made from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from embarchive import grid, oneband
from embarchive.archive import Archive, open_archive
from embarchive.errors import BadInput
from embarchive.filters import Dates, make_filter
from embarchive.manifest import ShardRow
from embarchive.quantize import Int8
from embarchive.reads import read_plan
from embarchive.rows import ORDER, date_keys, embeddings, place_keys
from embarchive.store import open_store

# Rows held at once; a prefix with more is read cell by cell, so that places stay whole.
MOST_ROWS = 65_536
NO_DATE = np.iinfo(np.int64).max
DAY = 86_400_000_000
Index = NDArray[np.intp]


class TileDataset(IterableDataset[dict[str, Any]]):
    """Tiles of an archive, or with `sequences` its places, as dicts of numpy arrays.

    A tile: embedding float32 (D,), geohash, datetime (seconds since 1970, NaN without a
    date), lonlat float32 (2,) of the cell's centre in degrees, source, valid_fraction; with
    `images` also image float32 (bands, H, W) in recipe units, decoded `batch_rows` at a time.

    A place with at least `min_dates` days: geohash, lonlat, embeddings float32 (T, D),
    datetimes float64 (T,) ascending, and with `images` images float32 (T, bands, H, W); of
    each UTC day the row with the highest valid_fraction, rows without a date left out. T
    differs between places, so a DataLoader needs batch_size=None or its own collate_fn.

    Rows are those of the newest embedding space, as in a search, ordered by geohash,
    datetime, source; `shuffle_seed` mixes shards, and rows or places within them. Every
    worker reads whole shard prefixes, so more workers than prefixes are idle. bbox, polygon,
    datetime, band as in `Archive.select`. Raises BadInput.
    """

    def __init__(
        self,
        archive: Archive | str | Path,
        *,
        bbox: Sequence[float] | None = None,
        polygon: Any = None,
        datetime: Dates | None = None,
        images: bool = False,
        sequences: bool = False,
        min_dates: int = 2,
        shuffle_seed: int | None = None,
        batch_rows: int = 1024,
        band: str | None = None,
    ) -> None:
        for name, value in (("min_dates", min_dates), ("batch_rows", batch_rows)):
            if value < 1:
                raise BadInput(f"{name}: expected at least 1, found {value!r}")
        self._images, self._sequences, self._min_dates = images, sequences, min_dates
        self._seed, self._batch_rows = shuffle_seed, batch_rows
        self._archive = archive if isinstance(archive, Archive) else open_archive(archive)
        self._wanted = self._archive.in_band(make_filter(bbox, polygon, None, datetime), band)
        if sequences and band is None and oneband.single(self._archive.settings):
            raise BadInput(f"sequences: expected band, one of {', '.join(self._archive.bands)}")
        self._head = self._archive.head
        self._process = os.getpid()

    def __len__(self) -> int:
        """Number of tiles. Raises TypeError with filters or sequences: only reading tells."""
        if self._sequences or not self._wanted.everything:
            raise TypeError("TileDataset has no length with filters or sequences")
        if len(self._archive.spaces) == 1:
            return len(self._archive)
        return self._archive.plan(self._wanted, self._archive.space().space_id).rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        archive = self._opened()
        for number, shards in self._share(archive):
            # by prefix, so that the order within one does not depend on the workers
            rng = None if self._seed is None else np.random.default_rng([self._seed, 1 + number])
            for table in self._pieces(archive, shards, rng):
                if self._sequences:
                    yield from self._place_items(archive, table, rng)
                else:
                    yield from self._tile_items(archive, table, rng)

    def __getstate__(self) -> dict[str, Any]:
        # Stores hold connections and locks; the URL and the generation are enough to go on.
        return {**self.__dict__, "_archive": self._archive.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._archive = Archive(open_store(state["_archive"]), self._head)
        self._process = os.getpid()

    def _opened(self) -> Archive:
        """The archive in this process: a forked worker must not use its parent's store."""
        if self._process != os.getpid():
            root = self._archive.root
            if root.startswith("s3://"):
                # The client's threads are not there after a fork; it would wait for ever.
                raise BadInput(
                    f"{root}: expected workers that are spawned, found forked ones: "
                    'give the DataLoader multiprocessing_context="spawn"'
                )
            self._archive = Archive(open_store(root), self._head)
            self._process = os.getpid()
        return self._archive

    def _share(self, archive: Archive) -> list[tuple[int, list[ShardRow]]]:
        """Number and shards of each prefix that this worker reads, in reading order."""
        plan = archive.plan(self._wanted, archive.space().space_id)
        by_prefix: dict[str, list[ShardRow]] = {}
        for read in plan.reads:
            by_prefix.setdefault(read.shard.prefix, []).append(read.shard)
        units = [(number, by_prefix[prefix]) for number, prefix in enumerate(sorted(by_prefix))]
        if self._seed is not None:
            order = np.random.default_rng([self._seed, 0]).permutation(len(units))
            units = [units[number] for number in order.tolist()]
        worker = get_worker_info()
        return units if worker is None else units[worker.id :: worker.num_workers]

    def _pieces(
        self, archive: Archive, shards: Sequence[ShardRow], rng: np.random.Generator | None
    ) -> Iterator[pa.Table]:
        """The rows of one prefix in tables of about MOST_ROWS at most, places whole."""
        names, rows = [shards[0].prefix], sum(shard.rows for shard in shards)
        while rows > MOST_ROWS and len(names[0]) < archive.settings.precision:
            names = [name + letter for name in names for letter in grid.ALPHABET]
            rows //= len(grid.ALPHABET)
        columns = [*ORDER, "embedding", "valid_fraction", *(["model_id", "code"] * self._images)]
        for at in range(len(names)) if rng is None else rng.permutation(len(names)).tolist():
            wanted = replace(self._wanted, geohash=(names[at],)) if len(names) > 1 else self._wanted
            yield archive.reader.rows(read_plan(shards, wanted), wanted, columns)

    def _tile_items(
        self, archive: Archive, table: pa.Table, rng: np.random.Generator | None
    ) -> Iterator[dict[str, Any]]:
        index = np.arange(len(table)) if rng is None else rng.permutation(len(table))
        for start in range(0, len(index), self._batch_rows):
            some = table.take(pa.array(index[start : start + self._batch_rows]))
            columns: dict[str, Sequence[Any] | NDArray[Any]] = {
                "embedding": self._vectors(archive, some),
                "geohash": some["geohash"].to_pylist(),
                "datetime": _seconds(some).tolist(),
                "lonlat": _centers(some),
                "source": some["source"].to_pylist(),
                "valid_fraction": some["valid_fraction"].to_pylist(),
            }
            if self._images:
                columns["image"] = archive.decode(some)
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))

    def _place_items(
        self, archive: Archive, table: pa.Table, rng: np.random.Generator | None
    ) -> Iterator[dict[str, Any]]:
        places = _places(table, self._min_dates)
        if rng is not None:
            places = [places[at] for at in rng.permutation(len(places)).tolist()]
        for batch in _batches(places, self._batch_rows):
            some = table.take(pa.array(np.concatenate(batch)))
            vectors, seconds, centers = self._vectors(archive, some), _seconds(some), _centers(some)
            images = archive.decode(some) if self._images else None
            end = 0
            for index in batch:
                start, end = end, end + len(index)
                item = {
                    "geohash": some["geohash"][start].as_py(),
                    "lonlat": centers[start],
                    "embeddings": vectors[start:end],
                    "datetimes": seconds[start:end],
                }
                yield item if images is None else {**item, "images": images[start:end]}

    def _vectors(self, archive: Archive, table: pa.Table) -> NDArray[np.float32]:
        space, q = archive.space(), embeddings(table)
        quantiser = archive.quantiser(space)
        return quantiser.restore(q) if quantiser else Int8(space.scale).decode(q)


def _places(table: pa.Table, min_dates: int) -> list[Index]:
    """Rows of each place with at least min_dates days, the best row of each day, by date.

    table: sorted, with whole places. Ties go to the first row in order.
    """
    when, place = date_keys(table["datetime"]), place_keys(table["geohash"])
    day = when // DAY
    order = np.lexsort((-table["valid_fraction"].to_numpy(), day, place))
    order = order[when[order] != NO_DATE]
    # lexsort is stable: the first of each place and day is the best
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(place[order]) != 0) | (np.diff(day[order]) != 0)
    best = order[new]
    cuts = np.flatnonzero(np.diff(place[best])) + 1
    return [index for index in np.split(best, cuts) if len(index) >= max(min_dates, 1)]


def _batches(places: Sequence[Index], rows: int) -> Iterator[list[Index]]:
    """Whole places, together at most `rows` rows unless one alone has more."""
    batch: list[Index] = []
    held = 0
    for index in places:
        if batch and held + len(index) > rows:
            yield batch
            batch, held = [], 0
        batch.append(index)
        held += len(index)
    if batch:
        yield batch


def _seconds(table: pa.Table) -> NDArray[np.float64]:
    """Seconds since 1970, NaN without a date, float64 (n,)."""
    when = date_keys(table["datetime"])
    return np.where(when == NO_DATE, np.nan, when / 1e6)


def _centers(table: pa.Table) -> NDArray[np.float32]:
    """Longitude and latitude of the cells' centres, float32 (n, 2)."""
    return grid.centers(np.asarray(table["geohash"].to_pylist())).astype(np.float32)
