"""What is read for a filter: extents, names, row groups."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from archives import EMB, make_table

from embarchive import filters, footers, reads, shards
from embarchive.manifest import ShardRow

FILTERS = [
    {},
    {"bbox": [13.02, 52.01, 13.05, 52.02]},
    {"bbox": [13.2, 52.0, 13.1, 52.1]},
    {"bbox": [13.0, 52.0, 13.08, 52.1], "datetime": "2023-05-11/.."},
    {"datetime": "2023-05-01"},
    {"datetime": "../2023-04-30"},
    {"geohash": ["u33"]},
    {"geohash": ["u31f", "u33d0"]},
    {"geohash": ["u"], "datetime": "2023-05-11"},
    {"geohash": ["u31fz2", "w"]},
]
NAMES = [
    [["u2", "u5"], "u33d", "u33e"],
    [["u"], "u33d", "u33e"],
    [["u33dz"], "u33d", "u33e"],
    [["u33e"], "u33d", "u33e"],
    [["u33ez"], "u33d", "u33e"],
    [[], "u33d", "u33e"],
]


def make():
    table = make_table(240, dates=2)
    extents = _extents(table)
    with patch.object(shards, "ROW_GROUP", 40):
        shard = shards.write_shard(table, EMB)
    metadata, footer = pq.read_metadata(pa.BufferReader(shard.data)), footers.footer_of(shard.data)
    places = footers.group_places(footer)
    groups = footers.Groups(footer, places, metadata, footers.SHARD).limits
    wanted = [filters.make_filter(f.get("bbox"), None, f.get("geohash"), f.get("datetime"))
              for f in FILTERS]  # fmt: skip
    return {
        "names": [[*case, reads.names_meet(*case)] for case in NAMES],
        "extents": [_extent_json(one) for one in extents],
        "groups": [{path: list(one[path]) for path in sorted(one)} for one in groups],
        "cases": [
            {
                "filter": asked,
                "extents": [extents.index(one) for one in reads.choose(extents, f)],
                "groups": reads.row_groups(groups, f),
            }
            for asked, f in zip(FILTERS, wanted, strict=True)
        ],
    }


def _extents(table):
    """Shard rows of pieces of the table, one without dates, one across the antimeridian."""
    cuts = [0, 31, 90, 150, 240]
    found = [shards.write_shard(table.slice(a, b - a), EMB) for a, b in pairwise(cuts)]
    names = ShardRow.__dataclass_fields__
    own = [
        ShardRow(
            prefix="u",
            space_id="s",
            blocks="0" * 64,
            **{name: getattr(one, name) for name in names if hasattr(one, name)},
        )
        for one in found
    ]
    own[1] = replace(own[1], datetime_min=None, datetime_max=None)
    wide = replace(own[2], geohash_min="0", geohash_max="zz", bbox=(-180.0, -90.0, 180.0, 90.0),
                   datetime_min=datetime(1968, 2, 29, tzinfo=UTC))  # fmt: skip
    return [*own, wide]


def _extent_json(one):
    micros = [None if d is None else filters.to_micros(d)
              for d in (one.datetime_min, one.datetime_max)]  # fmt: skip
    return {
        "geohash_min": one.geohash_min,
        "geohash_max": one.geohash_max,
        "bbox": list(one.bbox),
        "datetime_min": micros[0],
        "datetime_max": micros[1],
    }
