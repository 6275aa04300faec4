"""What a first pass over files of vectors finds out: a sample of the vectors, how fine cells have
to be, and how many rows lie where. Memory is bounded whatever the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import digests
from embarchive.geohash import LONGEST
from embarchive.layouts import Layout
from embarchive.progress import Report
from embarchive.regions import SHARD_ROWS
from embarchive.vectors import batches, group_rows

Codes = NDArray[np.uint64]

# At most this share of rows may have their cell, date and source in common with others.
MOST_SHARED = 0.01
MOST_KEYS = 200_000
MOST_PLACES = 1_000_000
SAMPLE_BYTES, LEAST_SAMPLE, MOST_SAMPLE = 16 << 20, 4096, 65_536
SAMPLE_GROUPS = 16
PREFIX_BYTES, MOST_SHARDS = 32 << 20, 8
# Where more of the rows than this have a source of their own, it tells rows apart, not scenes.
IDS = 0.5


@dataclass(frozen=True)
class Survey:
    """precision: the coarsest at which at most 1 % of the rows share cell, date and source;
    places: sorted cells at precision 12 of every `step`th row; rows: of all files."""

    rows: int
    precision: int
    places: Codes
    step: int


class Tally:
    """How often keys occur: all of the keys below a bound that sinks as more come, so that of any
    that is kept every occurrence was counted."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._bound = np.uint64(2**64 - 1)
        self._keys = np.zeros(0, np.uint64)
        self._counts = np.zeros(0, np.int64)
        self._new: list[Codes] = []

    def add(self, keys: Codes) -> None:
        """Count uniformly mixed keys (n,)."""
        self._new.append(keys[keys <= self._bound])
        if sum(map(len, self._new)) > self._most:
            self._merge()

    def _merge(self) -> None:
        fresh, times = np.unique(np.concatenate(self._new), return_counts=True)
        self._new = []
        both = np.concatenate([self._keys, fresh])
        self._keys, where = np.unique(both, return_inverse=True)
        counts = np.concatenate([self._counts, times])
        self._counts = np.bincount(where, counts, len(self._keys)).astype(np.int64)
        while len(self._keys) > self._most:
            self._bound >>= np.uint64(1)
            kept = self._keys <= self._bound
            self._keys, self._counts = self._keys[kept], self._counts[kept]

    def shared(self) -> float:
        """The share of occurrences whose key occurs more than once."""
        if self._new:
            self._merge()
        total = int(self._counts.sum())
        return float(self._counts[self._counts > 1].sum() / total) if total else 0.0


def survey(layouts: Sequence[Layout], progress: Report) -> Survey:
    """Where and when the rows of files are. Raises BadInput."""
    total = sum(layout.rows for layout in layouts)
    step = -(-total // MOST_PLACES)
    by_date, by_source = ([Tally() for _ in range(LONGEST)] for _ in range(2))
    sources, sourced = Tally(), any(layout.source for layout in layouts)
    places, done = [], 0
    for layout in layouts:
        for batch in batches(layout, vectors=False):
            dates = mix(batch.when.view(np.uint64))
            named = source_keys(batch.source, layout.path.stem, len(dates))
            if sourced:
                sources.add(named)
            for tallies, group in ((by_date, dates), (by_source, mix(dates ^ named))):
                for letters, tally in enumerate(tallies if sourced or group is dates else (), 1):
                    shift = np.uint64(5 * (LONGEST - letters))
                    tally.add(mix((batch.cells >> shift) ^ group))
            places.append(batch.cells[(-done) % step :: step])
            done += len(dates)
            progress("survey", done, total)
    ids = not sourced or sources.shared() < 1 - IDS
    shares = [tally.shared() for tally in (by_date if ids else by_source)]
    fine = [letters for letters, share in enumerate(shares, 1) if share <= MOST_SHARED]
    return Survey(total, min(fine, default=LONGEST), np.sort(np.concatenate(places)), step)


def shard_prefix(found: Survey, precision: int, dim: int) -> int:
    """The shortest prefix whose fullest has rows for about 8 shards, fewer of long vectors; at most
    `precision`. The rows of a prefix are sorted in memory."""
    most = SHARD_ROWS * int(np.clip(PREFIX_BYTES // (SHARD_ROWS * dim), 1, MOST_SHARDS))
    for letters in range(1, precision):
        shift = np.uint64(5 * (LONGEST - letters))
        _, counts = np.unique(found.places >> shift, return_counts=True)
        if counts.max() * found.step <= most:
            return letters
    return precision


def sample(layouts: Sequence[Layout], seed: int = 0) -> NDArray[np.float32]:
    """Vectors float32 (n, dim) of rows drawn from all files, all rows where they are few: from at
    most 16 row groups, about 16 MiB. Raises BadInput."""
    dim = layouts[0].dim
    want = int(np.clip(SAMPLE_BYTES // (4 * dim), LEAST_SAMPLE, MOST_SAMPLE))
    groups = [(layout, g, n) for layout in layouts for g, n in enumerate(group_rows(layout))]
    if sum(n for _, _, n in groups) > want:
        some = np.unique(np.linspace(0, len(groups) - 1, SAMPLE_GROUPS).round().astype(int))
        groups = [groups[i] for i in some.tolist()]
    share = want / sum(n for _, _, n in groups)
    rng = np.random.default_rng(seed)
    found = []
    for layout, group, _ in groups:
        for batch in batches(layout, vectors=True, row_groups=[group]):
            assert batch.vectors is not None
            kept = rng.random(len(batch.vectors)) < share
            found.append(batch.vectors[kept] if share < 1 else batch.vectors)
    return np.concatenate(found)


def source_keys(source: pa.Array | None, stem: str, n: int) -> Codes:
    """Hashes uint64 (n,) of sources; stem: that of rows without."""
    if source is None:
        return np.full(n, _hash(stem), np.uint64)
    words = source.dictionary_encode()
    hashes = np.array([_hash(word or stem) for word in words.dictionary.to_pylist()], np.uint64)
    return np.asarray(hashes[words.indices.to_numpy()])


def mix(words: Codes) -> Codes:
    """Words whose bits all depend on all bits of the given ones (splitmix64)."""
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hash(text: str) -> int:
    return int(digests.sha256(text.encode())[:16], 16)
