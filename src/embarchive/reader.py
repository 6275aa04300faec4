"""Verified bytes of one generation as tables: manifest parts, shards, models, weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import manifest, memory
from embarchive.errors import BadInput, Damaged, GenerationExpired, Missing
from embarchive.filters import Filter
from embarchive.held import CACHE_BYTES, WHOLE, Cache, ShardFile
from embarchive.localstore import LocalStore
from embarchive.manifest import ShardRow, Space
from embarchive.matching import Footer, matching
from embarchive.pages import Pages
from embarchive.quantisers import Quantiser, load_quantiser
from embarchive.reads import ReadPlan, ShardRead, row_groups, shard_rows
from embarchive.recipe import Settings
from embarchive.rows import ORDER, bit_rows, joined, schema, sort_rows, vectors
from embarchive.shards import MAX_ROWS, parse_footer, read_rows
from embarchive.store import Store, VerifiedObject

PORTION_BYTES = 32 << 20
THREADS = 8
Item = TypeVar("Item")
Made = TypeVar("Made")


class Reader:
    """Reads one generation; safe to use from several threads. spaces: its spaces, whose codes it
    decodes where embeddings are packed."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        cache_bytes: int = CACHE_BYTES,
        spaces: Sequence[Space] = (),
    ) -> None:
        self.store, self.settings, self._spaces = store, settings, tuple(spaces)
        self.cache = Cache(cache_bytes)
        self._parts: dict[str, list[ShardRow]] = {}
        self._footers: dict[str, Footer] = {}
        self._verified: dict[str, VerifiedObject] = {}
        self._quantisers: dict[str, Quantiser] = {}
        self.names = schema(settings.dim, settings.bits).names

    def following(self, spaces: Sequence[Space]) -> Reader:
        """A reader of another generation of the archive, with these spaces; what is named by its
        content they share."""
        other = copy.copy(self)
        other._spaces, other._quantisers = tuple(spaces), {}
        return other

    @property
    def schema(self) -> pa.Schema:
        """The columns of `rows`, those of codes as what they decode to in the newest space."""
        quantiser = self.quantiser(self._spaces[-1].space_id) if self._spaces else None
        return schema(quantiser.dim if quantiser else self.settings.dim, self.settings.bits)

    def quantiser(self, space_id: str) -> Quantiser | None:
        """What the codes of a space decode with, None where its embeddings are plain. Raises
        Damaged."""
        if not self.settings.packed:
            return None
        if space_id not in self._quantisers:
            space = next((one for one in self._spaces if one.space_id == space_id), None)
            if space is None or space.quantiser is None:
                raise Damaged(f"space {space_id}: expected a quantiser, found none")
            data = self.object("model", space.quantiser, space.quantiser_length)
            self._quantisers[space_id] = load_quantiser(data, space.dim, self.settings.packed)
        return self._quantisers[space_id]

    def shards(self, parts: Sequence[manifest.PartRef]) -> list[ShardRow]:
        """The shards of manifest parts, fetching those not yet seen."""

        def load(part: manifest.PartRef) -> list[ShardRow]:
            if part.sha256 not in self._parts:
                data = self.object("manifest-parquet", part.sha256, part.length)
                self._parts[part.sha256] = shard_rows(manifest.parse_part(data, part))
            return self._parts[part.sha256]

        return [shard for found in in_threads(load, parts) for shard in found]

    def rows(self, plan: ReadPlan, wanted: Filter, columns: Sequence[str]) -> pa.Table:
        """Rows of the plan's shards that match, sorted; the columns asked for and the three
        that rows are sorted by, in the shard's column order."""
        return sort_rows(self._rows(plan, wanted, self.check_columns([*columns, *ORDER])))

    @property
    def portion(self) -> int:
        """How many rows are in memory at a time of a search: some 32 MB of them."""
        return max(MAX_ROWS, PORTION_BYTES // (self.settings.dim + self.settings.bits // 8 + 96))

    def batches(self, plan: ReadPlan, wanted: Filter, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Rows as of `rows` in tables of up to `portion` rows of neighbouring shards, at least one,
        each shard's sorted; a place may be in several. The next is read while one is used."""
        names = self.check_columns([*columns, *ORDER])
        with ThreadPoolExecutor(1) as pool:
            ahead: Future[pa.Table] | None = None
            for turn in plan.turns(self.portion) or [plan]:
                coming = pool.submit(self._rows, turn, wanted, names)
                if ahead is not None:
                    yield ahead.result()
                    memory.give_back()
                ahead = coming
            assert ahead is not None
            yield ahead.result()

    def sample(
        self, plan: ReadPlan, wanted: Filter, columns: Sequence[str], most: int
    ) -> tuple[pa.Table, NDArray[np.int64]]:
        """Every so many rows of the plan's shards, `most` at most, of those that match; a shard at
        a time, each sorted as by `rows`. Also the number of each row's read in the plan (n,)."""
        stride = max(1, -(-sum(read.shard.rows for read in plan.reads) // most))
        kept, numbers, start = [self.rows(ReadPlan(()), wanted, columns)], [], 0
        for number, read in enumerate(plan.reads):
            table = self.rows(ReadPlan((read,)), wanted, columns)
            some = table.take(pa.array(np.arange(start, len(table), stride)))
            start = (start - len(table)) % stride
            kept += [some] if len(some) else []
            numbers += [number] * len(some)
        found = kept[1:] or kept
        return joined(found), np.array(numbers, np.int64)

    def _rows(self, plan: ReadPlan, wanted: Filter, names: Sequence[str]) -> pa.Table:
        # Few rows of few shards on a disk are work of Python's, for which threads would only wait.
        alone = isinstance(self.store, LocalStore) and len(plan.reads) <= 2 * THREADS
        run = in_turn if alone and not wanted.everything else in_threads
        tables = run(lambda read: self._shard_rows(read, wanted, names), plan.reads)
        found = [table for table in tables if len(table)]
        if not found:
            known = self.schema
            return pa.schema([known.field(name) for name in names]).empty_table()
        return joined(found)

    def check_columns(self, columns: Sequence[str]) -> list[str]:
        """The names in the shard's order, each once. Raises BadInput on an unknown one."""
        known = self.names
        for name in columns:
            if name not in known:
                raise BadInput(f"columns: expected some of {', '.join(known)}, found {name!r}")
        return [name for name in known if name in columns]

    def file(self, shard: ShardRow) -> ShardFile:
        """A shard as a verified file."""
        if shard.sha256 not in self._verified:
            path = manifest.object_path("shard", shard.sha256, shard.prefix)
            self._verified[shard.sha256] = VerifiedObject(
                self.store, path, shard.sha256, shard.length, shard.blocks
            )
        return ShardFile(shard, self._verified[shard.sha256], self.cache)

    def pyramid(self, ref: manifest.PyramidRef) -> ShardFile:
        """The pyramid's table as a verified file."""
        if ref.sha256 not in self._verified:
            path = manifest.object_path("pyramid", ref.sha256)
            self._verified[ref.sha256] = VerifiedObject(
                self.store, path, ref.sha256, ref.length, ref.blocks
            )
        return ShardFile(ref, self._verified[ref.sha256], self.cache)

    def object(self, kind: str, sha256: str, length: int) -> bytes:
        """A whole object, verified by hash and length, from the cache when it is at hand."""
        data = self.cache.get((sha256, WHOLE))
        if data is None:
            path = manifest.object_path(kind, sha256)
            data = expiring(lambda: VerifiedObject(self.store, path, sha256, length).whole())
            self.cache.put((sha256, WHOLE), data)
        return data

    def _shard_rows(self, read: ShardRead, wanted: Filter, names: Sequence[str]) -> pa.Table:
        return expiring(lambda: self._shard_rows_now(read, wanted, names))

    def _shard_rows_now(self, read: ShardRead, wanted: Filter, names: Sequence[str]) -> pa.Table:
        shard, file = read.shard, self.file(read.shard)
        if read.whole:
            file.fetch_whole()
        footer = self._footer(shard, file)
        every = range(footer.metadata.num_row_groups)
        groups = list(every) if wanted.everything else row_groups(footer.groups.limits, wanted)
        quantiser = self.quantiser(shard.space_id) if "embedding" in names else None
        stored = [name if name != "embedding" or not quantiser else "packed" for name in names]
        if wanted.everything:
            if not read.whole:
                file.fetch(footer.ranges(groups, stored))
            table = read_rows(file, footer.metadata, groups, stored)
        else:
            kinds = schema(self.settings.dim, self.settings.bits, self.settings.packed)
            fields = pa.schema([kinds.field(name) for name in stored])
            table = matching(file, footer, groups, wanted, fields)
        return _decoded(table, quantiser) if quantiser else table

    def _footer(self, shard: ShardRow, file: ShardFile) -> Footer:
        if shard.sha256 not in self._footers:
            tail, s = file.range(shard.length - shard.footer_length, shard.length), self.settings
            name = f"shard {shard.sha256[:12]}"
            metadata = parse_footer(tail, s.dim, s.bits, name, s.packed)
            self._footers[shard.sha256] = Footer(metadata, Pages(tail, shard.length))
        return self._footers[shard.sha256]


def _decoded(table: pa.Table, quantiser: Quantiser) -> pa.Table:
    """The table with the column embedding in place of packed."""
    place = table.schema.get_field_index("packed")
    values = vectors(quantiser.decode(bit_rows(table, "packed")))
    return table.set_column(place, pa.field("embedding", values.type, nullable=False), values)


def in_turn(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`work` over items."""
    return [work(item) for item in items]


def in_threads(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`work` over items on up to 8 threads, results in order; the first error is raised."""
    if len(items) < 2:
        return in_turn(work, items)
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        return list(pool.map(work, items))


def expiring(fetch: Callable[[], Made]) -> Made:
    """A missing object of a pinned generation means that the generation was collected."""
    try:
        return fetch()
    except GenerationExpired:
        raise
    except Missing as error:
        raise GenerationExpired(f"generation expired, open the archive again: {error}") from None
