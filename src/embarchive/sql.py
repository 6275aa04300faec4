"""DuckDB over an archive: views on verified bytes, and scripts for the plain client.

The one door to DuckDB, which only `connect` and `run` need installed. `connect` gives views
whose every byte comes through the verified reader; DuckDB itself may open nothing (external
access off, configuration locked).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from embarchive import errors, find, manifest, oneband, queries, search
from embarchive.errors import BadInput, EmbarchiveError, MissingExtra
from embarchive.filters import Dates, Filter, make_filter
from embarchive.manifest import ShardRow
from embarchive.quantize import SimHash
from embarchive.reader import Reader
from embarchive.reads import ReadPlan, choose
from embarchive.rows import schema

if TYPE_CHECKING:
    import duckdb

    from embarchive.archive import Archive


def connect(
    archive: Archive,
    *,
    bbox: Sequence[float] | None = None,
    geohash: str | Sequence[str] | None = None,
    datetime: Dates | None = None,
    space: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection with the views tiles, shards and models, and the table macro tiles_like(geohash,
    k := 50), which gives the hits of `Archive.search` in an archive without an overview: it goes by
    bits, and `queries.search_sql` by the lists where there are some.

    tiles has a shard's columns (embedding as TINYINT[]) and space_id and shard, the hash of
    the file; conditions on geohash (=, IN, ranges), shard and space_id read only the shards
    they need. bbox, geohash, datetime leave shards out beforehand, so that the manifest
    parts of the rest are not even fetched; rows are not filtered by them. tiles and shards are
    those of one space, by default the newest; models are all. An archive of single bands has no
    tiles_like. Raises BadInput, MissingExtra
    without duckdb.
    """
    try:
        import duckdb
    except ImportError:
        raise MissingExtra("sql: needs duckdb, install embarchive[sql]") from None
    wanted = make_filter(bbox, None, geohash, datetime)
    shards = [read.shard for read in archive.plan(wanted, space).reads]
    con = duckdb.connect(":memory:")
    con.execute("SET TimeZone = 'UTC'")
    con.register("_tiles", _dataset(archive.reader, shards))
    con.register("_shards", manifest.part_table(shards))
    con.register("_models", archive.models())
    quantiser = archive.quantiser(archive.space(space)) if archive.spaces else None
    for statement in queries.macro_statements(False, quantiser):
        con.execute(statement)
    vector = "unpacked(packed)" if quantiser else "embedding::TINYINT[]"
    names = [
        name if name != "embedding" else f"{vector} AS {name}" for name in archive.reader.names
    ]
    con.execute(f"CREATE VIEW tiles AS SELECT {', '.join(names)}, space_id, shard FROM _tiles")
    con.execute("CREATE VIEW shards AS SELECT * FROM _shards")
    con.execute("CREATE VIEW models AS SELECT * FROM _models")
    if archive.spaces and not oneband.single(archive.settings):
        scale, bits = archive.space(space).scale, bool(archive.settings.bits)
        con.execute(queries.tiles_like_macro(scale, bits))
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def run(con: duckdb.DuckDBPyConnection, text: str, values: Sequence[Any] = ()) -> pa.Table:
    """The result of one statement as a table. Raises BadInput with the first line of what
    DuckDB says or when there is not one statement, and the reader's own error when bytes were
    damaged or missing."""
    import duckdb

    try:
        found = con.extract_statements(text)
        # PIVOT is one statement to its writer; DuckDB puts a CREATE without text before it
        count = sum(one.type != duckdb.StatementType.CREATE or bool(one.query) for one in found)
        if count != 1:
            raise BadInput(f"sql: expected one statement, found {count}")
        # `sql`, not `execute`: of the two, only its arrow output is the same in 1.5 and 2.0
        result = con.sql(text, params=list(values) or None)
        return pa.table({}) if result is None else result.to_arrow_table()
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise _ours(str(error)) from None


def _ours(message: str) -> EmbarchiveError:
    """Errors of the reader pass through pyarrow and DuckDB as text; find them again."""
    found = re.findall(r"embarchive\.errors\.(\w+): (.*)", message)
    if found:
        name, said = found[-1]
        kind = getattr(errors, name, EmbarchiveError)
        return cast(EmbarchiveError, kind(said))
    return BadInput(f"sql: {message.strip().splitlines()[0]}")


def search_sql(archive: Archive, like: Any, unlike: Any = (), **options: Any) -> str:
    """One SELECT over the view tiles, of a connection to the same space, with the hits of
    `Archive.search`, in its order.

    options: k, op, invert, exact, per_place, bbox, datetime, space as there; no polygon.
    """
    asked = _Asked.of(archive, like, unlike, **options)
    # The plan's shards by name, so that the scan opens no others.
    names = [f"'{read.shard.sha256}'" for read in asked.plan.reads] or ["''"]
    where = [f"shard IN ({', '.join(names)})", *queries.conditions(asked.wanted)]
    return asked.select("tiles", where)


def plain_sql(archive: Archive, like: Any, unlike: Any = (), **options: Any) -> str:
    """A script for the plain `duckdb` client with the same hits in the same order. It prunes
    by the manifest, reads files or plain HTTP, and checks no hashes.

    options: as of `search_sql`. Raises BadInput.
    """
    asked = _Asked.of(archive, like, unlike, **options)
    if not asked.plan.reads:
        raise BadInput("sql: no shard of the archive can match, nothing to read")
    quantiser = archive.quantiser(asked.space)
    relation = queries.plain_relation(quantiser)
    body = asked.select(relation, queries.conditions(asked.wanted))
    parts = [part.sha256 for part in choose(archive.parts, asked.wanted)]
    space_id = asked.space.space_id
    return queries.plain_script(
        archive.root, parts, archive.generation, space_id, asked.wanted, body, quantiser
    )


@dataclass(frozen=True)
class _Asked:
    """A search resolved: what both kinds of text are made from."""

    wanted: Filter
    space: manifest.Space
    query: search.Query
    plan: ReadPlan
    simhash: SimHash | None

    @classmethod
    def of(
        cls,
        archive: Archive,
        like: Any,
        unlike: Any,
        *,
        bbox: Sequence[float] | None = None,
        datetime: Dates | None = None,
        space: str | None = None,
        **options: Any,
    ) -> _Asked:
        wanted, here = make_filter(bbox, None, None, datetime), archive.space(space)
        (one,) = find.queries(archive, [like], unlike, wanted, here, **options)
        return cls(one.wanted, here, one.query, one.plan, archive.simhash(here))

    def select(self, relation: str, where: Sequence[str]) -> str:
        return queries.search_query(relation, self.query, self.simhash, self.space.scale, where)


def _dataset(reader: Reader, shards: Sequence[ShardRow]) -> ds.FileSystemDataset:
    """The shards as a dataset that opens a file only when a query needs it."""
    files = pafs.PyFileSystem(_Shards(reader, shards))
    layout = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(
            pre_buffer=True, page_checksum_verification=True
        )
    )
    fragments = [
        layout.make_fragment(one.sha256, filesystem=files, partition_expression=_guarantee(one))
        for one in shards
    ]
    own = schema(reader.settings.dim, reader.settings.bits, reader.settings.packed)
    full = own.append(pa.field("space_id", pa.string())).append(pa.field("shard", pa.string()))
    return ds.FileSystemDataset(fragments, full, layout, filesystem=files)


def _guarantee(shard: ShardRow) -> ds.Expression:
    """What the manifest says of every row of a shard."""
    return (
        (ds.field("space_id") == shard.space_id)
        & (ds.field("shard") == shard.sha256)
        & (ds.field("geohash") >= shard.geohash_min)
        & (ds.field("geohash") <= shard.geohash_max)
    )


class _Shards(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """The shards as a flat read-only file system, named by hash."""

    def __init__(self, reader: Reader, shards: Iterable[ShardRow]) -> None:
        self._reader = reader
        self._shards = {shard.sha256: shard for shard in shards}

    def get_type_name(self) -> str:
        return "embarchive"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return [self._info(path) for path in self._shards]

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self._reader.file(self._shards[path]), mode="r")

    open_input_stream = open_input_file

    def _info(self, path: str) -> pafs.FileInfo:
        if path not in self._shards:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        return pafs.FileInfo(path, pafs.FileType.File, size=self._shards[path].length)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise PermissionError("an archive opened for reading cannot be written")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
