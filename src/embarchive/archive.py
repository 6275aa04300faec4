"""An archive opened for reading: select, search, decode, SQL.

`open_archive` reads the pointer and the generation, two requests, and stays on that
generation; nothing is ever listed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import decode as decoding
from embarchive import describe, find, grid, levels, manifest, oneband, questions, resolve
from embarchive.commit import Head, read_head
from embarchive.errors import BadInput
from embarchive.filters import Dates, Filter, make_filter
from embarchive.manifest import ShardRow
from embarchive.overview import Overview
from embarchive.quantisers import Quantiser
from embarchive.quantize import SimHash
from embarchive.reader import Reader
from embarchive.reads import ReadPlan, choose, read_plan
from embarchive.recipe import Settings
from embarchive.rows import ORDER
from embarchive.store import Store, open_store
from embarchive.weights import Models

if TYPE_CHECKING:
    import duckdb

HEAVY = ("embedding", "bits", "code")


def open_archive(url: str | Path, *, deadline: float | None = None) -> Archive:
    """Open an archive at a path, http(s):// or s3:// URL.

    deadline: seconds that one request, with its retries, may take. Raises NotAnArchive,
    UnknownVersion, Damaged, StoreUnreachable.
    """
    store = open_store(url) if deadline is None else open_store(url, deadline=deadline)
    return Archive(store)


class Archive:
    """One generation of an archive, read-only; safe to use from several threads.

    head: the pointer and generation to stay on, default the newest, which is then read; reader: of
    that generation, where there is one.
    """

    def __init__(
        self, store: Store, head: Head | None = None, reader: Reader | None = None
    ) -> None:
        self.store = store
        self._head = read_head(store) if head is None else head
        self._held = self._head.generation
        held = self._held
        self.reader = reader or Reader(store, held.settings, spaces=held.spaces)
        self.weights = Models(self.reader, self._held)
        self.overview = Overview(self.reader, self._held.overview)

    @property
    def head(self) -> Head:
        """The pointer and the generation; with them another process opens the same."""
        return self._head

    @property
    def generation(self) -> int:
        """Number of the generation that this archive stays on."""
        return self._held.number

    @property
    def settings(self) -> Settings:
        """What every tile of the archive shares."""
        return self._held.settings

    @property
    def spaces(self) -> tuple[manifest.Space, ...]:
        """Embedding spaces, the newest last; a search stays within one."""
        return self._held.spaces

    @property
    def parts(self) -> tuple[manifest.PartRef, ...]:
        """The manifest parts of this generation."""
        return self._held.parts

    @property
    def root(self) -> str:
        """Where the archive is, without credentials."""
        return str(self.store.root)

    @property
    def bands(self) -> list[str]:
        """Names of bands in the order of an image; of single bands those that there are."""
        if not oneband.single(self.settings):
            return list(self.settings.bands)
        return sorted({name for space in self.spaces for name in space.trained.get("bands", {})})

    @property
    def chips(self) -> grid.ChipGrid:
        """The pixels of a tile on the ground."""
        s = self.settings
        return grid.ChipGrid(s.precision, s.gsd, s.height, s.width)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West south east north of all tiles, degrees; zeros when there is none."""
        if not self.parts:
            return 0.0, 0.0, 0.0, 0.0
        boxes = np.array([part.bbox for part in self.parts]).reshape(-1, 4)
        west, south = boxes[:, :2].min(axis=0).tolist()
        east, north = boxes[:, 2:].max(axis=0).tolist()
        return west, south, east, north

    def __len__(self) -> int:
        return self._held.tiles

    def __repr__(self) -> str:
        return f"<Archive {self.root} generation {self.generation}, {len(self)} tiles>"

    def models(self) -> pa.Table:
        """One row a model with its region, bytes and held-out error; fetched once."""
        return self.weights.table()

    def info(self) -> dict[str, Any]:
        """The archive in plain JSON values: what `embarchive info` prints."""
        return describe.info(self)

    def refresh(self) -> Archive:
        """The newest generation: this archive where it is that, else another one, which fetches
        only what this one has not. Raises as `open_archive`."""
        head = read_head(self.store, known=self._head)
        if head is self._head:
            return self
        return Archive(self.store, head, self.reader.following(head.generation.spaces))

    # ------------------------------------------------------------ rows

    def plan(self, wanted: Filter, space_id: str | None = None) -> ReadPlan:
        """What a filter will read of a space, by default the newest; fetches the manifest parts
        it needs."""
        here = self.space(space_id).space_id if space_id or self.spaces else None
        return read_plan(self.shards(wanted), wanted, here)

    def shards(self, wanted: Filter | None = None) -> list[ShardRow]:
        """The shards of the manifest parts that a filter needs."""
        return self.reader.shards(choose(self.parts, wanted or Filter()))

    def select(
        self,
        *,
        bbox: Sequence[float] | None = None,
        polygon: Any = None,
        geohash: str | Sequence[str] | None = None,
        datetime: Dates | None = None,
        columns: Sequence[str] | None = None,
        space: str | None = None,
        band: str | None = None,
    ) -> pa.Table:
        """Rows that match, sorted by geohash, datetime, source.

        bbox: west south east north (west > east crosses the antimeridian), tested against
        each cell's float64 bounds; polygon: GeoJSON, WKT or shapely; geohash: names or
        prefixes; datetime: "A/B", "A/..", a day, or a tuple; columns: default all but
        embedding, bits and code; space: default the newest; band: of single bands only this one.
        Raises BadInput.
        """
        wanted = self.in_band(make_filter(bbox, polygon, geohash, datetime), band)
        known = self.reader.names
        names = [name for name in known if name not in HEAVY] if columns is None else columns
        self.reader.check_columns(names)
        return self.reader.rows(self.plan(wanted, space), wanted, names).select(list(names))

    # ------------------------------------------------------------ search

    def search(
        self,
        like: Any,
        unlike: Any = (),
        k: int = 50,
        op: str = "mean",
        invert: bool = False,
        *,
        bbox: Sequence[float] | None = None,
        polygon: Any = None,
        datetime: Dates | None = None,
        exact: bool = False,
        per_place: int = 1,
        columns: Sequence[str] = (),
        space: str | None = None,
        band: str | None = None,
    ) -> pa.Table:
        """The k tiles most like the exemplars, best first; see `embarchive.search` for the
        definition.

        like, unlike: one or several of GEOHASH, GEOHASH@DATE, "LON,LAT", (lon, lat), an
        image file, a vector; op: "mean" or "min" of distances, or "and", "or", "xor", "majority" of
        bits; per_place: 1 for the best date of a
        place, 0 for all; columns: further columns of the hits; space: default the newest; band: of
        single bands only this one, for places among the exemplars too.
        The table's metadata say space_id, requests, bytes_read, seconds. Raises BadInput.
        """
        return self.search_many(
            [like], unlike, bbox=bbox, polygon=polygon, datetime=datetime, columns=columns,
            space=space, band=band, k=k, op=op, invert=invert, exact=exact, per_place=per_place,
        )[0]  # fmt: skip

    def search_many(
        self,
        likes: Sequence[Any],
        unlike: Any = (),
        *,
        bbox: Sequence[float] | None = None,
        polygon: Any = None,
        datetime: Dates | None = None,
        columns: Sequence[str] = (),
        space: str | None = None,
        band: str | None = None,
        **options: Any,
    ) -> list[pa.Table]:
        """Several searches at once, each as of `search`, over rows that are read
        once, but where an overview chooses other ones for each.

        likes: of each search what its `like` would be; all else is that of all; options: k, op,
        invert, exact, per_place. The metadata of each table are those of all together.
        """
        questions.check_names("search_many", options, ("k", "op", "invert", "exact", "per_place"))
        began, requests, read = time.monotonic(), self.store.requests, self.store.bytes_read
        wanted = self.in_band(make_filter(bbox, polygon, None, datetime), band)
        here = self.space(space)
        asked = find.queries(self, likes, unlike, wanted, here, columns, **options)
        found = find.hits(self, asked, here, columns)
        spent = {
            "space_id": here.space_id,
            "requests": str(self.store.requests - requests),
            "bytes_read": str(self.store.bytes_read - read),
            "seconds": f"{time.monotonic() - began:.6f}",
        }
        shares = [f"{one.compared / max(1, len(self)):.6f}" for one in asked]
        return [
            table.replace_schema_metadata({**spent, "share_read": share})
            for table, share in zip(found, shares, strict=True)
        ]

    def in_band(self, wanted: Filter, band: str | None) -> Filter:
        """A filter for rows of a single band; as it is for None. Raises BadInput."""
        if band is None:
            return wanted
        if not oneband.single(self.settings) or band not in self.bands:
            known = ", ".join(self.bands) if oneband.single(self.settings) else "none"
            raise BadInput(f"band: expected a single band that the archive has ({known}): {band!r}")
        return replace(wanted, band=band)

    def space(self, space_id: str | None = None) -> manifest.Space:
        """A space by its id or the start of it; the newest when None. Raises BadInput."""
        found = [s for s in self.spaces if space_id is None or s.space_id.startswith(space_id)]
        if not found:
            known = ", ".join(space.space_id for space in self.spaces)
            raise BadInput(f"space: expected one of {known}, found {space_id!r}")
        return found[-1]

    def simhash(self, space: manifest.Space) -> SimHash | None:
        """The SimHash of a space; None in an archive without bits."""
        return SimHash.from_json(space.simhash) if self.settings.bits else None

    def quantiser(self, space: manifest.Space) -> Quantiser | None:
        """What the codes of a space decode with; None where embeddings are plain int8."""
        return self.reader.quantiser(space.space_id)

    # ------------------------------------------------------------ changes, views, paths

    def change(self, *windows: Dates, like: Any = (), unlike: Any = (), **options: Any) -> pa.Table:
        """Places that changed most between windows of time, in order, or with `like` those that
        changed alike; see `embarchive.change` for the definition.

        like, unlike: GEOHASH, "LON,LAT", (lon, lat), each in windows of its own with @D1..D2;
        options: k; floor, with like: the share of places that changed least, left out; valid: least
        valid_fraction; plain: not beside what is usual; bbox, polygon, space, band as of `search`.
        The metadata say places compared and the score of the floor. Raises BadInput.
        """
        return questions.change(self, windows, like, unlike, **options)

    def view(self, kind: str, like: Any = (), unlike: Any = (), **options: Any) -> pa.Table:
        """A number for every place: heat, threshold, outlier, surprise or gradient, see
        `embarchive.views`; geohash, datetime, source, score, bbox, what stands out first.

        like, unlike: exemplars as of `search`, for all but outlier and surprise; options:
        threshold; seed of the outliers' sample; bbox, polygon, datetime, space, band as of search.
        The metadata have a histogram of all scores. Raises BadInput, MissingExtra without scipy.
        """
        return questions.view(self, kind, like, unlike, **options)

    def path(self, a: Any, b: Any, steps: int = 8, **options: Any) -> pa.Table:
        """The nearest tile at each step of the straight line between two exemplars, each place
        once, see `embarchive.interpolation`; `decode` and `decode_points` give its images.

        options: bbox, polygon, datetime, space, band, for the tiles, as of `search`. Raises
        BadInput.
        """
        return questions.path(self, a, b, steps, **options)

    # ------------------------------------------------------------ images

    def pyramid(self, level: int, *, space: str | None = None, **where: Any) -> pa.Table:
        """Mean embeddings of the cells of a coarser level, see `embarchive.levels.read_level`, for
        `decode`; where: bbox, polygon, geohash as of `select`. Raises BadInput."""
        here = self.space(space).space_id
        return levels.read_level(self.reader, self._held, level, make_filter(**where), here)

    def decode(self, rows: pa.Table | Sequence[str] | str) -> NDArray[np.float32]:
        """Images of rows: float32 (n, bands, height, width) in recipe units, in the rows'
        order.

        rows: a table of `select` or `search` (what it lacks is read again by geohash,
        datetime and source, in the space that hits name, else in the newest), or geohashes: of
        each its latest good date. Rows of a space without decoders are decoded from those of the
        same tiles in another space; cells of `pyramid` as what is typical there. Raises BadInput.
        """
        if isinstance(rows, pa.Table) and "mean" in rows.column_names:
            return decoding.decode_rows(self.weights.plain_decoder, rows)
        return decoding.decode_rows(self.weights.decoder, self.rows_of(rows))

    def decode_points(self, path: pa.Table) -> NDArray[np.float32]:
        """Images of the steps of a `path`, float32 (steps, bands, height, width), recipe units,
        by the decoder of each step's tile, without what is coded beside embeddings. Raises
        BadInput."""
        if missing := {"point", "model_id"} - set(path.column_names):
            lacks = ", ".join(sorted(missing))
            raise BadInput(f"decode: expected the table of a path, missing {lacks}")
        points = path.select(["point", "model_id"]).rename_columns(["embedding", "model_id"])
        return decoding.decode_rows(self.weights.plain_decoder, points)

    def encode_image(self, path: str | Path, space: str | None = None) -> NDArray[np.float32]:
        """The embedding float32 (D,) of an image file; needs rasterio. Raises BadInput."""
        return resolve.encode_image(self, Path(path), self.space(space))

    def rows_of(self, rows: pa.Table | Sequence[str] | str) -> pa.Table:
        """Rows with embedding, code and model_id, in the order given."""
        if not isinstance(rows, pa.Table):
            found = resolve.places(self, [rows] if isinstance(rows, str) else list(rows))
        elif {"embedding", "code", "model_id"} <= set(rows.column_names):
            found = rows
        elif missing := [name for name in ORDER if name not in rows.column_names]:
            raise BadInput(f"decode: expected the columns {', '.join(ORDER)}, missing {missing}")
        else:
            found = resolve.again(self, rows)
        return resolve.whole_codes(self, resolve.decodable(self, found))

    # ------------------------------------------------------------ SQL

    def sql(self, **where: Any) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with the views tiles, shards and models over verified bytes;
        where: bbox, geohash, datetime to leave shards out beforehand; space, default the newest.
        Raises BadInput, or MissingExtra without duckdb."""
        from embarchive import sql

        return sql.connect(self, **where)
