"""Packing and parsing of heads; golden cases, which the page reads too, are in golden/heads."""

import random

import pytest
from archives import append_date, make_archive
from golden.heads import DATA, HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from embarchive import digests, heads, open_archive, shards
from embarchive.compact import compact
from embarchive.errors import Damaged
from embarchive.requantize import requantize
from embarchive.store import open_store
from embarchive.verify import verify

SPAN = st.tuples(st.integers(0, 999), st.integers(1, 300)).map(lambda s: (s[0], min(1000, sum(s))))


@given(st.lists(SPAN, min_size=1, max_size=8))
def test_what_is_packed_is_there_and_nothing_else(ranges):
    head = heads.parse("x", heads.pack(DATA, ranges), len(DATA))
    assert all(head.get(start, end) == DATA[start:end] for start, end in ranges)
    held = {at for start, end in ranges for at in range(start, end)}
    for at in range(len(DATA)):
        assert head.get(at, at + 1) == (DATA[at : at + 1] if at in held else None)
    assert sum(end - start for start, end, _ in head.spans) == len(held)


def test_the_head_stands_behind_the_digests():
    outboard = digests.block_digests(DATA)
    assert heads.split("x", outboard + b"head", len(DATA)) == (outboard, b"head")
    assert heads.split("x", outboard, len(DATA)) == (outboard, b"")
    assert heads.parse("x", b"", len(DATA)).get(0, 1) is None
    assert heads.most(len(DATA)) == len(outboard) + heads.MAX_HEAD
    with pytest.raises(Damaged, match="outboard of 16 bytes, found 15"):
        heads.split("x", outboard[:-1], len(DATA))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_head_that_is_none_is_refused(name):
    with pytest.raises(Damaged, match=r"^blocks/y: expected .*, found .*$"):
        heads.parse("blocks/y", HOSTILE[name], len(DATA))


def heads_of(root):
    """Of each shard that ranges are read of: the shard, its bytes, its head."""
    archive = open_archive(root)
    for row in archive.shards():
        if row.length > heads.WHOLE_BYTES:
            file = archive.reader.file(row)
            yield row, file.fetch_whole(), file._head(0)


def test_all_that_writes_shards_writes_heads(tmp_path):
    make_archive(tmp_path / "a", 20_000)
    append_date(tmp_path / "a", 1, 12_000)
    store, turns = open_store(tmp_path / "a"), []
    turns.append(list(heads_of(tmp_path / "a")))
    compact(store, progress=lambda *_: None)
    turns.append(list(heads_of(tmp_path / "a")))
    requantize(str(tmp_path / "a"), str(tmp_path / "q"), "int4", progress=lambda *_: None)
    turns.append(list(heads_of(tmp_path / "q")))
    for found in turns:
        assert found
        for row, data, head in found:
            start = row.length - row.footer_length
            assert head.get(start, row.length) == data[start:]
            metadata = shards.parse_footer(
                data[start:], 64, 128, packed=0 if found is not turns[2] else 32
            )
            keys = shards.column_ranges(
                metadata, [0], ["geohash", "datetime", "source", "model_id"]
            )
            assert all(head.get(a, b) == data[a:b] for a, b in keys)
    assert {row.sha256 for row, *_ in turns[0]} != {row.sha256 for row, *_ in turns[1]}
    assert verify(store)["ok"] and verify(open_store(tmp_path / "q"))["ok"]


def test_a_turned_bit_gives_a_head_or_damage_never_another_error():
    right, rng, read = heads.pack(DATA, [(4, 30), (990, 1000)]), random.Random(0), 0
    for _ in range(600):
        wrong, bit = bytearray(right), rng.randrange(8 * 40)
        wrong[bit // 8] ^= 1 << bit % 8
        try:
            head = heads.parse("x", bytes(wrong), len(DATA))
            assert all(len(head.get(s, e)) == e - s for s, e, _ in head.spans)
            read += 1
        except Damaged:
            pass
    assert read < 600
