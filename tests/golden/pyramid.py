"""A pyramid of the packaged archive's rows in base64, its rows, and tables that are refused."""

import base64
import io
import json
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq

from embarchive import pyramid
from embarchive.archive import open_archive
from embarchive.cellmeans import cells_of_rows
from embarchive.errors import EmbarchiveError
from golden.manifest import DEMO


def rows_of(made, level):
    table = pyramid.parse(made.data, made.ref)
    own = table.filter(pa.compute.equal(table["level"], level))
    found = own.select(["geohash", "count", "mean", "model_id"]).to_pydict()
    return {**found, "mean": [value for mean in found["mean"] for value in mean]}


def changed(made, name, row, value, stamp=None):
    """The table with one value changed, as base64, its reference, and what Python says of it."""
    table = pq.read_table(io.BytesIO(made.data))
    values = table[name].to_pylist()
    values[row] = value
    at, field = table.schema.get_field_index(name), table.schema.field(name)
    table = table.set_column(at, field, pa.array(values, field.type))
    sink = io.BytesIO()
    said = stamp or {"format": "embarchive", "kind": "pyramid", "version": 1}
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.add_key_value_metadata({"embarchive": json.dumps(said)})
        for level in sorted(set(table["level"].to_pylist())):
            writer.write_table(table.filter(pa.compute.equal(table["level"], level)))
    data = sink.getvalue()
    footer = pq.read_metadata(io.BytesIO(data)).serialized_size + 8
    ref = replace(made.ref, length=len(data), footer_length=footer)
    try:
        pyramid.parse(data, ref)
        said = None
    except EmbarchiveError as error:
        said = type(error).__name__
    return {"data": base64.b64encode(data).decode(), "ref": asdict(ref), "said": said}


def make():
    archive = open_archive(DEMO)
    columns = ["geohash", "datetime", "source", "embedding", "model_id"]
    cells = cells_of_rows(archive.select(columns=columns), 5)
    made = pyramid.dump({archive.spaces[0].space_id: cells.pick(slice(0, 8))}, 64)
    few = pyramid.dump({archive.spaces[0].space_id: cells.pick(slice(0, 2))}, 64)
    last = few.ref.rows - 1
    return {
        "space_id": archive.spaces[0].space_id,
        "data": base64.b64encode(made.data).decode(),
        "ref": asdict(made.ref),
        "levels": {level: rows_of(made, level) for level in (3, 5)},
        "refused": [
            changed(few, *odd)
            for odd in (
                ("geohash", last, "00000"),
                ("geohash", last, "dqdz"),
                ("geohash", last, "dqdaa"),
                ("count", last, 0),
                ("count", last, 1 << 41),
                ("model_id", last, "x"),
                ("count", last, 3, {"format": "embarchive", "kind": "part", "version": 1}),
                ("count", last, 3, {"format": "embarchive", "kind": "pyramid", "version": 2}),
            )
        ],
    }
