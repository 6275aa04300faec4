"""The rows of an archive as tables: their schema, their order, and columns as arrays.

A row is one cell on one date from one source. Rows are sorted by (geohash, datetime,
source), null dates last, everywhere: in a shard, in a selection and among ties of a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import grid
from embarchive.errors import Damaged

ORDER = ("geohash", "datetime", "source")
_TEXT = pa.dictionary(pa.int32(), pa.string())
SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([pa.field(side, pa.float32(), nullable=False) for side in SIDES])
_DIGITS = np.full(256, 99, dtype=np.int64)
_DIGITS[np.frombuffer(grid.ALPHABET.encode(), dtype=np.uint8)] = np.arange(1, 33)


def schema(dim: int, bits: int, packed: int = 0) -> pa.Schema:
    """The one schema of a shard: `dim` int8 numbers or, above 0, `packed` bytes of a quantiser's
    code in their place; `bits` SimHash bits (0: no column)."""
    element = pa.field("element", pa.int8(), nullable=False)
    vector = pa.field("embedding", pa.list_(element, dim), nullable=False)
    if packed:
        vector = pa.field("packed", pa.binary(packed), nullable=False)
    fields = [
        pa.field("geohash", pa.string(), nullable=False),
        pa.field("datetime", pa.timestamp("us", tz="UTC")),
        pa.field("bbox", _BOX, nullable=False),
        pa.field("geometry", pa.binary(), nullable=False),
        vector,
    ]
    if bits:
        fields.append(pa.field("bits", pa.binary(bits // 8), nullable=False))
    return pa.schema(
        [
            *fields,
            pa.field("code", pa.binary()),
            pa.field("model_id", _TEXT, nullable=False),
            pa.field("source", _TEXT, nullable=False),
            pa.field("input_digest", pa.binary(8), nullable=False),
            pa.field("valid_fraction", pa.float32(), nullable=False),
            pa.field("mse", pa.float32()),
            pa.field("index_mae", pa.float32()),
        ]
    )


def make_rows(
    geohash: Sequence[str] | NDArray[np.str_],
    when: Sequence[datetime | None] | pa.Array,
    embedding: NDArray[np.int8],
    bits: NDArray[np.uint8] | None,
    columns: Mapping[str, Any],
) -> pa.Table:
    """Rows of a shard from arrays, in the shard's order.

    embedding int8 (n, dim); bits uint8 (n, bits / 8) or None; `columns` holds model_id,
    source, input_digest (bytes of 8), valid_fraction, and optionally mse, index_mae, code.
    bbox and geometry are derived from the geohash.
    """
    names = np.asarray(geohash, dtype=np.str_)
    n, dim = embedding.shape
    want = schema(dim, 0 if bits is None else bits.shape[1] * 8)
    fixed: dict[str, Any] = {
        "geohash": pa.array(names.tolist(), pa.string()),
        "datetime": pa.array(when, pa.timestamp("us", tz="UTC")),
        "bbox": outer_boxes(names),
        "geometry": pa.array(list(grid.cell_polygons_wkb(names)), pa.binary()),
        "embedding": vectors(embedding),
    }
    if bits is not None:
        fixed["bits"] = binary(bits)
    arrays = []
    for field in want:
        value = fixed.get(field.name, columns.get(field.name))
        if value is None:
            value = pa.nulls(n, field.type)
        arrays.append(value if isinstance(value, pa.Array) else _column(value, field))
    return sort_rows(pa.Table.from_arrays(arrays, schema=want))


def sort_rows(table: pa.Table) -> pa.Table:
    """The table sorted by (geohash, datetime, source), null dates last; the input itself
    when it is already in order."""
    order = row_order(table)
    if order is None:
        return table.combine_chunks()
    return table.take(order)


def row_order(table: pa.Table) -> NDArray[np.intp] | None:
    """The permutation that sorts rows by (geohash, datetime, source), or None if sorted."""
    places = place_keys(table["geohash"])
    keys = [places]
    if "datetime" in table.column_names:
        keys.append(date_keys(table["datetime"]))
    if "source" in table.column_names:
        keys.append(text_ranks(table["source"]))
    if in_order(keys):
        return None
    return np.lexsort(keys[::-1])


def in_order(keys: Sequence[NDArray[np.int64]]) -> bool:
    """Whether parallel integer keys, most significant first, never decrease."""
    n = len(keys[0])
    tied = np.ones(max(n - 1, 0), dtype=bool)
    for key in keys:
        before, after = key[:-1], key[1:]
        if bool(np.any(tied & (after < before))):
            return False
        tied &= before == after
    return True


def place_keys(column: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """Geohash strings as integers in the same order; raises Damaged on other text."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if len(column) == 0:
        return np.zeros(0, dtype=np.int64)
    text = column.cast(pa.large_string())
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset :][: len(text) + 1]
    body = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    lengths = np.diff(offsets)
    if column.null_count or lengths.min() < 1 or lengths.max() > 12:
        raise Damaged("geohash column: expected texts of 1 to 12 characters, found others")
    keys = np.zeros(len(text), dtype=np.int64)
    worst = np.int64(0)
    same = int(lengths.min()) == int(lengths.max())
    for position in range(int(lengths.max())):
        if same:
            digit = _DIGITS[body[offsets[0] + position : offsets[-1] : lengths[0]]]
        else:
            where = np.minimum(offsets[:-1] + position, max(len(body) - 1, 0))
            digit = np.where(position < lengths, _DIGITS[body[where]], 0)
        worst = max(worst, digit.max(initial=0))
        keys = keys * 33 + digit
    # A missing character sorts before every character, so a prefix precedes its cells.
    keys *= 33 ** (12 - int(lengths.max()))
    if worst > 32:
        raise Damaged("geohash column: expected characters 0-9 b-h jkmn p-z, found others")
    return keys


def cell_names(column: pa.ChunkedArray | pa.Array) -> NDArray[np.str_]:
    """The geohashes of a column, texts (n,) as numpy has them."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.type == pa.string() and len(column) and not column.null_count:
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        body = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        lengths = np.diff(offsets)
        # Mostly all are as long as each other, and the column's bytes are their letters in a row.
        if lengths[0] and (lengths == lengths[0]).all() and body.max() < 128:
            return body.astype(np.uint32).view(f"U{lengths[0]}")
    return np.asarray(column.to_pylist(), dtype=np.str_)


def place_names(keys: NDArray[np.int64]) -> list[str]:
    """The geohashes of keys: inverse of `place_keys`."""
    digits = keys[:, None] // 33 ** np.arange(11, -1, -1, dtype=np.int64) % 33
    letters = np.frombuffer(b"\0" + grid.ALPHABET.encode(), dtype=np.uint8)[digits]
    return cast("list[str]", np.ascontiguousarray(letters).view("S12").ravel().astype(str).tolist())


def date_keys(column: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """Microseconds since 1970, null as the largest integer (null dates sort last)."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers = whole.cast(pa.int64()).fill_null(np.iinfo(np.int64).max)
    return cast("NDArray[np.int64]", numbers.to_numpy(zero_copy_only=False))


def embeddings(table: pa.Table) -> NDArray[np.int8]:
    """The embedding column as int8 (n, dim)."""
    column = table["embedding"].combine_chunks()
    dim = column.type.list_size
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return cast("NDArray[np.int8]", flat.reshape(len(column), dim))


def vectors(values: NDArray[np.int8]) -> pa.Array:
    """int8 (n, dim) as an embedding column."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.int8).ravel())
    kind = schema(values.shape[1], 0).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def binary(values: NDArray[np.uint8]) -> pa.Array:
    """uint8 (n, width) as a column of bytes."""
    held = pa.py_buffer(np.ascontiguousarray(values, dtype=np.uint8).tobytes())
    kind = pa.binary(values.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, held])


def bit_rows(table: pa.Table, name: str = "bits") -> NDArray[np.uint8]:
    """The bits column, or another of bytes, as uint8 (n, bits / 8)."""
    column = table[name].combine_chunks()
    width = column.type.byte_width
    start = column.offset * width
    body = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    return body[start : start + len(column) * width].reshape(len(column), width)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one schema, at least one, as one table of single chunks."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def exact_boxes(column: pa.ChunkedArray | pa.Array) -> pa.StructArray:
    """The float64 bounds of cells as the column bbox of hits."""
    sides = grid.bounds(cell_names(column)) if len(column) else np.zeros((0, 4))
    fields = [pa.field(side, pa.float64(), nullable=False) for side in SIDES]
    return pa.StructArray.from_arrays([pa.array(side) for side in sides.T.copy()], fields=fields)


def text_ranks(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Ranks of texts in byte order."""
    text = column.cast(pa.string()).combine_chunks().dictionary_encode()
    words = [word.encode() for word in text.dictionary.to_pylist()]
    ranks = np.zeros(len(words), dtype=np.int64)
    ranks[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    return cast("NDArray[np.int64]", ranks[text.indices.to_numpy(zero_copy_only=False)])


def outer_boxes(names: NDArray[np.str_]) -> pa.Array:
    """The cells' bounds in float32, rounded outward."""
    exact = grid.bounds(names)
    low = exact[:, :2].astype(np.float32)
    low = np.where(low > exact[:, :2], np.nextafter(low, np.float32(-np.inf)), low)
    high = exact[:, 2:].astype(np.float32)
    high = np.where(high < exact[:, 2:], np.nextafter(high, np.float32(np.inf)), high)
    sides = (low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    return pa.StructArray.from_arrays([pa.array(side) for side in sides], fields=list(_BOX))


def _column(value: Any, field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(field.type):
        return pa.array([str(item) for item in value], pa.string()).dictionary_encode()
    if pa.types.is_floating(field.type):
        return pa.array(np.asarray(value, dtype=np.float32), from_pandas=field.nullable)
    return pa.array(value, field.type)
