"""Bands of an archive of single bands, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import oneband
from embarchive.archive import Archive
from embarchive.errors import BadInput
from embarchive.rows import ORDER


def stack_bands(
    archive: Archive, bands: Sequence[str], **where: Any
) -> tuple[pa.Table, NDArray[np.float32]]:
    """Images of the places and dates that have all of these bands.

    Gives a table with the columns geohash and datetime, n rows in that order, and float32 (n,
    bands, height, width), each band in its own units. Of several tiles of a band there the one
    with the highest valid_fraction. where: bbox, polygon, geohash, datetime and space as of
    `Archive.select`. Raises BadInput.
    """
    if not oneband.single(archive.settings):
        raise BadInput("stack: expected an archive of single bands, found one of bands together")
    if not bands or len(set(bands)) != len(bands):
        raise BadInput(f"stack: expected distinct bands, found {list(bands)}")
    columns = [*ORDER, "model_id", "valid_fraction", "embedding", "code"]
    found, best = [], []
    for band in bands:
        rows = archive.select(columns=columns, band=band, **where)
        found.append(rows)
        best.append(_best(rows))
    keys = sorted(set(best[0]).intersection(*best[1:]), key=lambda key: (key[0], str(key[1])))
    images = [
        archive.decode(rows.take(pa.array([at[key] for key in keys], pa.int64())))
        for rows, at in zip(found, best, strict=True)
    ]
    schema = pa.schema([found[0].schema.field(name) for name in ("geohash", "datetime")])
    table = pa.Table.from_pylist(
        [dict(zip(schema.names, key, strict=True)) for key in keys], schema
    )
    s = archive.settings
    if not keys:
        return table, np.zeros((0, len(bands), s.height, s.width), dtype=np.float32)
    return table, np.concatenate(images, axis=1)


def _best(rows: pa.Table) -> dict[tuple[str, Any], int]:
    """The row to take of each place and date."""
    shares = rows["valid_fraction"].to_pylist()
    keys = zip(rows["geohash"].to_pylist(), rows["datetime"].to_pylist(), strict=True)
    found: dict[tuple[str, Any], int] = {}
    for row, key in enumerate(keys):
        if key not in found or shares[row] > shares[found[key]]:
            found[key] = row
    return found
