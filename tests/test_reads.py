"""Plans: nothing that matches is pruned, and requests stay few."""

from dataclasses import replace

import numpy as np
import pytest
from archives import EMB, FIRST, make_cells, make_table
from hypothesis import given
from hypothesis import strategies as st

from embarchive import footers, grid, reads, shards
from embarchive.filters import Filter, make_filter, row_mask
from embarchive.manifest import ShardRow, part_table

NAMES = st.text("0bz", min_size=1, max_size=4)


def ref(shard, prefix="u", space="s"):
    names = (
        "sha256",
        "length",
        "footer_length",
        "rows",
        "geohash_min",
        "geohash_max",
        "bbox",
        "datetime_min",
        "datetime_max",
        "model_ids",
    )
    found = {name: getattr(shard, name) for name in names}
    return ShardRow(prefix=prefix, space_id=space, blocks="0" * 64, **found)


def some_refs(lengths):
    one = ref(shards.write_shard(make_table(40), EMB))
    return [replace(one, length=n, sha256=f"{i:064d}") for i, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def big():
    table = make_table(20_000, dates=2)
    return table, shards.write_shard(table, EMB)


def limits_of(shard):
    metadata = shards.parse_footer(shard.data[-shard.footer_length :], 64, 128)
    footer = footers.footer_of(shard.data)
    places = footers.group_places(footer)
    return footers.Groups(footer, places, metadata, footers.SHARD).limits


@given(st.sets(NAMES, max_size=4), st.lists(NAMES, min_size=1, max_size=5))
def test_names_in_a_range_are_never_missed(asked, stored):
    meets = any(name.startswith(start) for name in stored for start in asked)
    if meets:
        assert reads.names_meet(sorted(asked), min(stored), max(stored))


def test_a_name_outside_the_range_prunes():
    assert not reads.names_meet(["u2", "u5"], "u33d", "u33e")
    assert reads.names_meet(["u"], "u33d", "u33e") and reads.names_meet(["u33dz"], "u33d", "u33e")


@pytest.mark.parametrize(
    "asked",
    [
        {"bbox": (13.2, 52.1, 13.3, 52.2)},
        {"when": "2023-05-11/.."},
        {"geohash": "u33"},
        {"polygon": "POLYGON ((13.1 52.1, 13.5 52.1, 13.5 52.4, 13.1 52.1))"},
        {},
    ],
)
def test_row_groups_left_out_hold_no_matching_row(big, asked):
    table, shard = big
    wanted = make_filter(**asked)
    limits = limits_of(shard)
    kept = reads.row_groups(limits, wanted)
    mask = row_mask(table, wanted)
    for group in set(range(len(limits))) - set(kept):
        assert not mask[group * 8192 : (group + 1) * 8192].any()
    assert mask.any()


def test_a_small_box_reads_one_row_group_of_three(big):
    table, shard = big
    metadata = shards.parse_footer(shard.data[-shard.footer_length :], 64, 128)
    cell = grid.bounds(np.array([table["geohash"][5].as_py()]))[0]
    west, south, east, north = cell + np.array([1e-4, 1e-4, -1e-4, -1e-4])
    limits = limits_of(shard)
    assert reads.row_groups(limits, make_filter((west, south, east, north))) == [0]
    assert reads.row_groups(limits, make_filter(when="2022-01-01")) == []
    few, every = (reads.range_bytes(metadata, [0, 1, 2], c) for c in (["bits"], table.column_names))
    assert 320_000 <= few < every / 4


def test_shards_are_pruned_by_box_name_date_and_space():
    west = ref(shards.write_shard(make_table(100), EMB))
    there = make_table(100, cells=make_cells(100, 100.0, 10.0))
    east = ref(shards.write_shard(there, EMB), "w", "t")

    def chosen(space=None, **asked):
        found = reads.read_plan([east, west], make_filter(**asked), space)
        return [read.shard.space_id for read in found.reads]

    assert chosen() == ["s", "t"]
    assert chosen(bbox=(100, 10, 101, 11)) == chosen(geohash="w") == chosen("t") == ["t"]
    assert chosen(when="../2023-04-30") == []
    assert chosen(when=(FIRST, FIRST)) == ["s", "t"]


def test_a_shard_without_dates_is_left_out_of_a_dated_query():
    dateless = replace(some_refs([10])[0], datetime_min=None, datetime_max=None)
    assert reads.choose([dateless], make_filter(when="2023-05-01")) == []
    assert reads.choose([dateless], Filter()) == [dateless]


@pytest.mark.parametrize(
    ("lengths", "requests"),
    [
        ([100_000], 1),
        ([3_000_000], 2),
        ([3_000_000] * 3, 6),
        ([3_000_000] * 5, 6),
        ([100_000] * 6, 6),
        ([30_000_000] * 4, 8),
    ],
)
def test_a_query_over_several_shards_fetches_whole_what_it_can_afford(lengths, requests):
    assert reads.read_plan(some_refs(lengths), Filter()).requests == requests


def test_the_estimate_is_the_sum_of_the_shards():
    found = reads.read_plan(some_refs([10, 20]), Filter())
    assert (found.bytes, found.rows) == (30, 80)


def test_shards_come_from_a_manifest_part():
    refs = some_refs([20, 10])
    assert reads.shard_rows(part_table(refs)) == refs


@pytest.mark.parametrize("rows", [1, 40, 90, 1000])
def test_turns_hold_every_read_once_in_order_and_few_rows(rows):
    plan = reads.read_plan(some_refs([10, 20, 30, 40, 50]), Filter())
    turns = plan.turns(rows)
    assert sum((turn.reads for turn in turns), ()) == plan.reads
    assert all(turn.rows <= rows or len(turn.reads) == 1 for turn in turns)
    assert len(turns) == 1 or turns[0].rows + turns[1].reads[0].shard.rows > rows


def test_a_plan_within_cells_keeps_the_shards_that_can_hold_them():
    plan = reads.read_plan(some_refs([10, 20, 30]), Filter())
    low, high = plan.reads[1].shard.geohash_min, plan.reads[1].shard.geohash_max
    kept = plan.within([low]).reads
    assert plan.reads[1] in kept and all(
        read in kept or not read.shard.geohash_min <= low <= read.shard.geohash_max
        for read in plan.reads
    )
    assert not plan.within([high + "zzzz"]).reads
