import random

import fakes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import grid, manifest, partition

LETTERS = grid.ALPHABET
PREFIXES = st.lists(st.text(st.sampled_from(LETTERS), min_size=2, max_size=2), min_size=1)


def rows_of(prefixes):
    shards = [fakes.shard_row(p, f"{p}{i}".encode() * 5000) for i, p in enumerate(prefixes)]
    return manifest.part_table(shards)


def spread(count, digits, seed=0):
    """A part table of `count` shards on neighbouring cells, each with its own hashes."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    y, x = np.divmod(np.arange(count), side)
    codes = np.zeros(count, np.int64)
    for bit in range(digits * 5):  # longitude first, from the last bit upward
        source = x if (digits * 5 - 1 - bit) % 2 == 0 else y
        shift = bit // 2
        codes |= ((source >> shift) & 1) << bit
    names = ["".join(LETTERS[c >> 5 * (digits - 1 - d) & 31] for d in range(digits)) for c in codes]
    width, height = 360 / 2 ** -(-digits * 5 // 2), 180 / 2 ** (digits * 5 // 2)
    west, south = x * width - 180, y * height - 90
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (west, south, west + width, south + height),
                   strict=True))  # fmt: skip
    hashes = [rng.bytes(32).hex() for _ in range(2 * count)]
    moments = pa.array([fakes.DAY] * count, pa.timestamp("us", "UTC"))
    columns = {
        "prefix": names, "geohash_min": [n + "0" for n in names],
        "geohash_max": [n + "z" for n in names], "sha256": hashes[:count],
        "length": rng.integers(1 << 20, 8 << 20, count),
        "footer_length": rng.integers(9e3, 2e4, count),
        "rows": rng.integers(1000, 32_768, count), "bbox": pa.array([dict(zip(box, v, strict=True))
        for v in zip(*(side.tolist() for side in box.values()), strict=True)]),
        "datetime_min": moments, "datetime_max": moments, "space_id": ["s1"] * count,
        "model_ids": [[rng.bytes(32).hex()] for _ in range(count)], "blocks": hashes[count:],
    }  # fmt: skip
    schema = manifest.PART_SCHEMA
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


@given(PREFIXES, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_parts_hold_every_shard_once_and_their_boxes_do_not_overlap(prefixes, limit):
    table = rows_of(prefixes)
    found = partition.parts_for(table, limit)
    assert pa.concat_tables([rows for _, rows in found]).equals(partition.sort_part(table))
    spans = [(min(r["prefix"].to_pylist()), max(r["prefix"].to_pylist())) for _, r in found]
    assert all(len(rows) <= limit or low == high
               for (_, rows), (low, high) in zip(found, spans, strict=True))  # fmt: skip
    boxes = [partition.common_prefix(*map(partition.prefix_bits, span)) for span in spans]
    assert not [(a, b) for a in boxes for b in boxes if a is not b and a.startswith(b)]


@given(PREFIXES, PREFIXES)
@settings(max_examples=40, deadline=None)
def test_appended_shards_find_one_home_and_boxes_stay_apart(first, more):
    held = [rows for _, rows in partition.parts_for(rows_of(first), 3)]
    spans = [(min(r["prefix"].to_pylist()), max(r["prefix"].to_pylist())) for r in held]
    touched, apart = partition.merge_shards(spans, rows_of(more))
    assert sum(map(len, touched.values())) + len(apart) == len(more)
    merged = [pa.concat_tables([r, touched[i]]) if i in touched else r for i, r in enumerate(held)]
    names = [sorted(r["prefix"].to_pylist()) for r in merged]
    boxes = [partition.common_prefix(*map(partition.prefix_bits, (n[0], n[-1]))) for n in names]
    assert not [(a, b) for a in boxes for b in boxes if a is not b and a.startswith(b)]


def test_a_shard_inside_a_part_belongs_to_it_and_a_far_one_starts_its_own():
    spans = [("u30", "u3z"), ("ub0", "ubz"), ("c00", "czz")]
    assert partition.home_of("u35", spans) == 0
    assert partition.home_of("ub5", spans) == 1
    assert partition.home_of("u00", spans) == 0
    assert partition.home_of("s00", [("u30", "u3z"), ("v00", "vzz")]) is None


@pytest.mark.parametrize(("count", "digits"), [(1000, 4), (20_000, 5), (100_000, 5)])
def test_opening_and_a_small_box_read_half_a_megabyte_at_most(count, digits):
    table = spread(count, digits)
    parts = partition.dump_parts(table)
    refs = tuple(ref for ref, _ in parts)
    planes = {"planes": "A" * 11_000, "offsets": [0] * 128}
    generation = fakes.generation(
        parts=refs, tiles=sum(r.rows for r in refs), spaces=(fakes.space(simhash=planes),)
    )
    opening = 300 + len(manifest.dump_generation(generation))
    corners = [
        (b["xmin"], b["ymin"]) for b in random.Random(0).sample(table["bbox"].to_pylist(), 300)
    ]
    worst = max(
        sum(r.length for r in refs if r.bbox[0] <= x <= r.bbox[2] and r.bbox[1] <= y <= r.bbox[3])
        for x, y in corners
    )
    assert opening + worst <= 512 << 10, (opening, worst, len(refs))
