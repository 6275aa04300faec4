"""Exemplars to vectors, and references to rows, read from an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embarchive import grid, manifest, model, oneband, tiles
from embarchive.codes import PLACE
from embarchive.errors import BadInput, Damaged, MissingExtra
from embarchive.exemplars import Exemplar, Place, Vector, choose_row, nearest_cell, parse_all
from embarchive.filters import Filter
from embarchive.quantisers import Quantiser
from embarchive.quantize import Int8
from embarchive.reads import ReadPlan, read_plan
from embarchive.rows import ORDER, date_keys, embeddings, joined

if TYPE_CHECKING:
    from embarchive.archive import Archive
    from embarchive.product import Scene

DECODES = (*ORDER, "model_id", "valid_fraction", "embedding", "code")


@dataclass(frozen=True)
class Resolved:
    """Exemplars as int8 (n, D), and the cells that some of them are."""

    vectors: NDArray[np.int8]
    cells: tuple[str, ...]


def vectors(
    archive: Archive,
    exemplars: Sequence[Exemplar],
    space: manifest.Space,
    also: ReadPlan,
    columns: Sequence[str],
    band: str | None = None,
) -> Resolved:
    """Vectors of exemplars in a space, of a place those of the band. `also`: the reads of the
    search that follows, so that shards which both need are fetched the same way.
    Raises BadInput."""
    found = [item for item in exemplars if isinstance(item, Place)]
    rows = iter(rows_of_places(archive, found, space.space_id, columns, (also, band)))
    out = []
    for item in exemplars:
        if isinstance(item, Place):
            out.append(embeddings(next(rows))[0])
        elif isinstance(item, Vector):
            out.append(_quantised(item.values, space, archive.quantiser(space)))
        else:
            mu = encode_image(archive, item.path, space)
            out.append(_quantised(mu, space, archive.quantiser(space)))
    stacked = np.stack(out) if out else np.zeros((0, space.dim), dtype=np.int8)
    return Resolved(stacked, tuple(place.geohash for place in found))


def places(archive: Archive, texts: Sequence[str]) -> pa.Table:
    """One row a text (GEOHASH, GEOHASH@DATE or LON,LAT), in order, with what decode needs."""
    parsed = parse_all(list(texts), archive.settings.precision)
    found = [item for item in parsed if isinstance(item, Place)]
    if len(found) != len(parsed):
        raise BadInput("decode: expected geohashes or points, found a vector or an image")
    if not found:
        return archive.reader.rows(ReadPlan(()), Filter(), DECODES)
    here = archive.space().space_id
    rows = rows_of_places(archive, found, here, DECODES, (None, None))
    return joined(rows)


def again(archive: Archive, rows: pa.Table) -> pa.Table:
    """The rows read again by geohash, datetime and source, with what decode needs; hits of a
    search in their space."""
    space = (rows.schema.metadata or {}).get(b"space_id")
    names = tuple(sorted(set(rows["geohash"].to_pylist())))
    wanted = Filter(geohash=names)
    stored = archive.reader.rows(
        archive.plan(wanted, space.decode() if space else None), wanted, DECODES
    )
    where = {key: index for index, key in enumerate(_keys(stored))}
    chosen = []
    for key in _keys(rows):
        if key not in where:
            raise BadInput(f"decode: no tile {key[0]} of source {key[2]} on that date")
        chosen.append(where[key])
    return stored.take(pa.array(chosen, pa.int64()))


def decodable(archive: Archive, rows: pa.Table) -> pa.Table:
    """The rows; those without a decoder get vector, code and model of the same tile (geohash,
    datetime, source) in the newest space of those with decoders. Raises BadInput where it is not
    there; where there is no such space, the rows stay as they are."""
    bare = pc.equal(rows["model_id"].cast(pa.string()), "").to_numpy()
    spaces = [space for space in archive.spaces if space.backbone]
    if not bare.any() or not spaces:
        return rows
    if missing := [name for name in ORDER if name not in rows.column_names]:
        raise BadInput(
            "decode: expected the columns geohash, datetime, source, by which rows without a "
            f"decoder are found in another space, missing {', '.join(missing)}"
        )
    keys = [key for key, empty in zip(_keys(rows), bare.tolist(), strict=True) if empty]
    wanted = Filter(geohash=tuple(sorted({key[0] for key in keys})))
    stored = archive.reader.rows(archive.plan(wanted, spaces[-1].space_id), wanted, DECODES)
    where = {key: index for index, key in enumerate(_keys(stored))}
    for key in keys:
        if key not in where:
            raise BadInput(
                f"decode: tile {key[0]} of source {key[2]} on that date has no decoder in its "
                f"space, and is not in space {spaces[-1].space_id}, which has decoders"
            )
    own = pa.array(np.flatnonzero(~bare))
    order = np.empty(len(rows), np.int64)
    order[~bare], order[bare] = np.arange(len(own)), len(own) + np.arange(len(keys))
    found = stored.take(pa.array([where[key] for key in keys], pa.int64()))
    for name in ("embedding", "code", "model_id"):
        both = [rows[name].take(own), found[name]] if len(own) else [found[name]]
        if name == "model_id":
            both = [column.cast(pa.string()) for column in both]
        chunks = [chunk for column in both for chunk in column.chunks]
        column = pa.chunked_array(chunks).combine_chunks().take(pa.array(order))
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def whole_codes(archive: Archive, rows: pa.Table) -> pa.Table:
    """The rows, each with the stream that it decodes from: those whose stream stands in the row of
    another date of their place get that row's. Raises Damaged where there is none."""
    coded = {s.space_id for s in archive.spaces if s.together}
    if not coded:
        return rows
    codes = rows["code"].to_pylist()
    empty = [i for i, code in enumerate(codes) if code == b""]
    if not empty:
        return rows
    if "geohash" not in rows.column_names:
        raise BadInput("decode: expected the column geohash, by which these rows decode")
    owner = {row["model_id"]: row["space_id"] for row in archive.models().to_pylist()}
    names, models = rows["geohash"].to_pylist(), rows["model_id"].to_pylist()
    for space_id in sorted({owner[models[i]] for i in empty} & coded):
        mine = [i for i in empty if owner[models[i]] == space_id]
        streams = _streams(archive, space_id, sorted({names[i] for i in mine}))
        for i in mine:
            if names[i] not in streams:
                raise Damaged(f"tile {names[i]}: expected the code of its place, found none")
            codes[i] = streams[names[i]]
    place = rows.schema.get_field_index("code")
    return rows.set_column(place, rows.schema.field(place), pa.array(codes, pa.binary()))


def _streams(archive: Archive, space_id: str, names: Sequence[str]) -> dict[str, bytes]:
    """What the places of a space share, by cell."""
    wanted = Filter(geohash=tuple(names))
    found = archive.reader.rows(archive.plan(wanted, space_id), wanted, ["geohash", "code"])
    pairs = zip(found["geohash"].to_pylist(), found["code"].to_pylist(), strict=True)
    return {name: code for name, code in pairs if code and code[:1] == PLACE}


def encode_image(archive: Archive, path: Path, space: manifest.Space) -> NDArray[np.float32]:
    """The embedding float32 (D,) of an image file: of the tile around its middle where it has
    a place on the ground, else of the whole picture averaged to a tile. Raises BadInput."""
    s = archive.settings
    if oneband.single(s):
        raise BadInput(f"like: expected a place in an archive of single bands, found image {path}")
    architecture, weights = archive.weights.encoder(space)
    try:
        from embarchive import scenes
    except ImportError:
        raise MissingExtra("like: an image needs rasterio, install embarchive[encode]") from None
    scene = scenes.image_scene(path, s.bands, s.units)
    if scene.bounds:
        pixels = _middle(scene, grid.ChipGrid(12, s.gsd, s.height, s.width))
    else:
        pixels = scenes.read_image(scene, s.height, s.width)
    return np.asarray(model.encode_batch(architecture, weights, pixels[None])[0], dtype=np.float32)


def _middle(scene: Scene, chips: grid.ChipGrid) -> NDArray[np.float32]:
    """The chip float32 (bands, H, W) around the middle of a scene, sampled as in a build; what
    the scene does not reach is its mirror image."""
    from embarchive import scenes

    with scenes.open_scene(scene) as reader:
        raster = reader.rasters[0]
        height, width = raster.shape
        lon, lat = raster.placement.lonlat(np.array([width / 2]), np.array([height / 2]))
        name = grid.encode((lon + 180) % 360 - 180, lat, chips.precision)
        found = list(tiles.cut(reader, name, chips, 0, 0))
    if not found:
        raise BadInput(f"{scene.bands[0].path}: expected data in its middle, found none")
    (top, bottom), (left, right) = (_span(found[0].valid[0].mean(axis=axis)) for axis in (1, 0))
    whole = found[0].pixels[0]
    beyond = ((0, 0), (top, whole.shape[1] - bottom), (left, whole.shape[2] - right))
    return np.pad(whole[:, top:bottom, left:right], beyond, mode="symmetric")


def _span(shares: NDArray[np.floating]) -> tuple[int, int]:
    """First and end of the rows or columns that are mostly data."""
    filled = np.flatnonzero(shares >= shares.max() / 2)
    return int(filled[0]), int(filled[-1]) + 1


def rows_of_places(
    archive: Archive,
    wanted: Sequence[Place],
    space_id: str,
    columns: Sequence[str],
    limits: tuple[ReadPlan | None, str | None],
) -> list[pa.Table]:
    """One row a place, in order. limits: reads to share, and the band that rows are of."""
    if not wanted:
        return []
    also, band = limits
    if oneband.single(archive.settings) and band is None:
        raise BadInput(
            f"{wanted[0].said} has a tile a band: expected band, one of {', '.join(archive.bands)}"
        )
    cells = Filter(geohash=tuple(sorted({place.geohash for place in wanted})), band=band)
    plan = archive.plan(cells, space_id)
    shared = {read.shard.sha256: read for read in also.reads} if also else {}
    plan = ReadPlan(tuple(shared.get(read.shard.sha256, read) for read in plan.reads))
    rows = archive.reader.rows(plan, cells, columns)
    found = []
    for place in wanted:
        own = rows.filter(pc.equal(rows["geohash"], place.geohash))
        if not len(own):
            nearest = _nearest(archive, place.geohash, space_id)
            raise BadInput(f"{place.said} has no tile in the archive; nearest is {nearest}")
        found.append(own.slice(choose_row(own, place), 1))
    return found


def _nearest(archive: Archive, geohash: str, space_id: str) -> str:
    """The archive's cell nearest to one that it lacks; shards are read as long as one may hold a
    nearer cell."""
    ours = [one for one in archive.shards() if space_id == one.space_id]
    if not ours:
        return "none"
    here = grid.centers(np.array([geohash]))[0]
    gaps = grid.box_distance_m(here, [shard.bbox for shard in ours])
    best, least = "none", np.inf
    for at in np.argsort(gaps, kind="stable").tolist():
        if gaps[at] > least:
            break
        plan = read_plan([ours[at]], Filter(), space_id)
        names = archive.reader.rows(plan, Filter(), ["geohash"])["geohash"].unique().to_pylist()
        found = nearest_cell(geohash, names)
        gap = float(grid.distance_m(here, grid.centers(np.array([found]))[0]))
        if gap < least:
            best, least = found, gap
    return best


def _quantised(
    values: NDArray[np.generic], space: manifest.Space, quantiser: Quantiser | None = None
) -> NDArray[np.int8]:
    whole = values.dtype == np.int8
    dim = quantiser.dim if quantiser and whole else space.dim
    if values.shape != (dim,):
        raise BadInput(f"like: expected a vector of {dim} numbers, found {len(values)}")
    if whole:
        return values.astype(np.int8)
    encode = quantiser.query if quantiser else Int8(space.scale).encode
    return encode(values.astype(np.float64)[None]).reshape(-1)


def _keys(rows: pa.Table) -> list[tuple[str, int, str]]:
    names = rows["geohash"].to_pylist()
    when = date_keys(rows["datetime"]).tolist()
    sources = rows["source"].cast(pa.string()).to_pylist()
    return list(zip(names, when, sources, strict=True))
