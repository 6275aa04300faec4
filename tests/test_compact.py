"""Small shards merged: the same rows, whatever else happens meanwhile."""

import os
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from archives import EMB, append_date, make_archive, make_cells
from kills import killed_once

import embarchive
from embarchive import compact as module
from embarchive import shards
from embarchive.additions import Swap, replace_shards
from embarchive.collect import collect
from embarchive.commit import commit, read_head
from embarchive.compact import compact
from embarchive.errors import BadInput, Damaged, NotAnArchive
from embarchive.prefixes import put_shard
from embarchive.requantize import requantize
from embarchive.store import open_store
from embarchive.verify import verify

CELLS = [str(name) for name in make_cells(300)]


def quiet(*_):
    pass


@pytest.fixture
def root(tmp_path):
    """Five commits: each prefix has five shards of the same places."""
    make_archive(tmp_path / "a", 300)
    for turn in range(1, 5):
        append_date(tmp_path / "a", turn)
    return tmp_path / "a"


def rows_of(root, **options):
    archive = embarchive.open_archive(root)
    table = archive.select(columns=archive.reader.names, **options)
    for name in ("model_id", "source"):  # whose dictionaries may be in another order
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.string()))
    return table.combine_chunks()


def answers(root):
    """What a user may ask, but for how long it took."""
    archive = embarchive.open_archive(root)
    hits = archive.search(CELLS[7], k=20, per_place=0).replace_schema_metadata(None)
    near = archive.search(CELLS[9], k=9, exact=True, bbox=archive.bounds)
    counted = archive.sql().sql(
        "SELECT source, model_id, count(*), min(mse) FROM tiles GROUP BY ALL ORDER BY ALL"
    )
    return (
        rows_of(root),
        hits,
        near.replace_schema_metadata(None),
        counted.fetchall(),
        [archive.info()[key] for key in ("tiles", "places", "bounds", "datetime", "spaces")],
    )


def test_every_answer_stays_and_places_come_together(root):
    before, pinned = answers(root), embarchive.open_archive(root)
    prefixes = {row.prefix for row in pinned.shards()}
    found = compact(open_store(root), progress=quiet)
    assert answers(root) == before
    assert found["generation"] == 6 and found["merged"] == len(prefixes) > 1
    assert found["shards"] == {"before": 5 * len(prefixes), "after": len(prefixes)}
    assert found["rows"] == 1500
    after = embarchive.open_archive(root).shards()
    assert len(after) == len(prefixes) and found["bytes"] == sum(row.length for row in after)
    assert verify(open_store(root))["ok"]
    assert len(pinned.select()) == 1500


def test_shards_are_those_that_a_build_writes(root):
    compact(open_store(root), progress=quiet)
    archive = embarchive.open_archive(root)
    space = archive.spaces[0]
    emb = shards.emb_metadata(archive.settings, space.space_id, space.encoder, space.scale)
    table = archive.select(columns=archive.reader.names)
    names = np.array([name[:3] for name in table["geohash"].to_pylist()])
    for row in archive.shards():
        (made,) = shards.write_shards(table.filter(pa.array(names == row.prefix)), emb)
        assert (made.sha256, made.rows) == (row.sha256, row.rows)


def test_pictures_stay(tmp_path):
    """The packaged archive, its shards cut into thirds and merged again."""
    root = tmp_path / "demo"
    shutil.copytree(Path(embarchive.__file__).parent / "demo", root)
    archive = embarchive.open_archive(root)
    held, swaps = archive.shards(), []
    for row in held:
        table = module._rows(archive, archive.store, row)
        thirds = [table.take(np.arange(i, len(table), 3)) for i in range(min(3, len(table)))]
        new = [
            put_shard(archive.store, shards.write_shard(some, EMB), row.prefix, row.space_id)
            for some in thirds
        ]
        swaps.append(Swap(frozenset([row.sha256]), tuple(new)))
    commit(archive.store, lambda head: replace_shards(archive.store, head.generation, swaps))
    cells = archive.select(columns=["geohash"])["geohash"].to_pylist()[::25]
    pictures, hits = archive.decode(cells), archive.search(cells[0], k=9)["geohash"]
    scattered = embarchive.open_archive(root)
    assert len(scattered.shards()) > len(held)
    compact(open_store(root), progress=quiet)
    after = embarchive.open_archive(root)
    assert len(after.shards()) == len(held)
    assert np.array_equal(scattered.decode(cells), pictures)
    assert np.array_equal(after.decode(cells), pictures)
    assert after.search(cells[0], k=9)["geohash"].equals(hits) and verify(open_store(root))["ok"]


def test_a_second_time_is_nothing_and_makes_no_generation(root):
    assert compact(open_store(root), progress=quiet)["merged"] > 1
    head = read_head(open_store(root))
    found = compact(open_store(root), progress=quiet)
    assert (found["merged"], found["rows"], found["bytes"], found["generation"]) == (0, 0, 0, 6)
    assert found["shards"]["before"] == found["shards"]["after"]
    assert read_head(open_store(root)) == head


def test_only_prefixes_with_a_shard_below_are_touched(root):
    rows = embarchive.open_archive(root).shards()
    least = min(row.rows for row in rows)
    assert compact(open_store(root), below=least, progress=quiet)["merged"] == 0
    few = {row.prefix for row in rows if row.rows == least}
    assert compact(open_store(root), below=least + 1, progress=quiet)["merged"] == len(few)


def test_full_shards_stay_full_and_in_order(root, monkeypatch):
    before = rows_of(root)
    monkeypatch.setattr(shards, "MAX_ROWS", 256)
    found = compact(open_store(root), below=128, progress=quiet)
    assert found["merged"] and rows_of(root).equals(before)
    merged = embarchive.open_archive(root).shards()
    assert max(row.rows for row in merged) == 256
    assert compact(open_store(root), below=128, progress=quiet)["merged"] == 0


def test_spaces_stay_apart(root):
    append_date(root, 5, space_id="synthetic-2")
    append_date(root, 6, space_id="synthetic-2")
    before = {name: rows_of(root, space=name) for name in ("synthetic-1", "synthetic-2")}
    compact(open_store(root), progress=quiet)
    for name, rows in before.items():
        assert rows_of(root, space=name).equals(rows)
    assert len({(row.prefix, row.space_id) for row in embarchive.open_archive(root).shards()}) == (
        len(embarchive.open_archive(root).shards())
    )
    assert verify(open_store(root))["ok"]


def test_codes_of_a_quantiser_are_carried_as_they_are(root, tmp_path):
    requantize(str(root), str(tmp_path / "q"), "int4", progress=quiet)
    before = rows_of(tmp_path / "q")
    assert compact(open_store(tmp_path / "q"), progress=quiet)["merged"]
    assert rows_of(tmp_path / "q").equals(before) and verify(open_store(tmp_path / "q"))["ok"]


def test_another_committer_between_reading_and_swapping_loses_nothing(root, monkeypatch):
    """An append of the same prefixes lands first: its shards stay beside the merged ones."""
    real, done = module.commit, []

    def late(store, build):
        done.append(append_date(root, 9))
        return real(store, build)

    monkeypatch.setattr(module, "commit", late)
    found = compact(open_store(root), progress=quiet)
    assert done and found["generation"] == 7
    assert len(rows_of(root)) == 1800 and verify(open_store(root))["ok"]
    assert len({row.prefix for row in embarchive.open_archive(root).shards()}) == found["merged"]


def test_of_two_that_merge_the_same_one_finds_it_done(root, monkeypatch):
    before, real = rows_of(root), module.commit

    def late(store, build):
        monkeypatch.setattr(module, "commit", real)
        append_date(root, 9)
        compact(open_store(root), progress=quiet)
        return real(store, build)

    monkeypatch.setattr(module, "commit", late)
    found = compact(open_store(root), progress=quiet)
    # the other merged these shards with those of the append: ours are gone, and nothing is done
    assert (found["merged"], found["generation"]) == (0, 7)
    assert len(rows_of(root)) == len(before) + 300 and verify(open_store(root))["ok"]


def test_compacting_appending_and_collecting_at_once(root):
    failed = []

    def run(work):
        try:
            work()
        except Exception as error:
            failed.append(error)

    def appends():
        for turn in range(10, 14):
            append_date(root, turn)

    def merges():
        for _ in range(4):
            compact(open_store(root), progress=quiet)
            collect(open_store(root), grace=1, delete=True, progress=quiet)

    threads = [threading.Thread(target=run, args=(work,)) for work in (appends, merges, merges)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    table = rows_of(root)
    assert len(table) == 9 * 300 and verify(open_store(root))["ok"]
    assert len(set(table["source"].to_pylist())) == 9


CHILD = """
import sys
from embarchive.compact import compact
from embarchive.store import open_store
print("begun", flush=True)
compact(open_store(sys.argv[1]), progress=lambda *_: None)
"""


def test_killed_at_any_moment_it_leaves_the_archive_whole(root):
    """And what it left is merged and collected by the next run, without a hand."""
    rng = random.Random(int(os.environ.get("EMBARCHIVE_SEED", "0")))
    count, killed = 1500, 0
    for turn in range(20, 40 if os.environ.get("EMBARCHIVE_TORTURE") else 25):
        append_date(root, turn)
        count += 300
        killed += killed_once(CHILD, root, rng.uniform(0, 0.15))
        assert verify(open_store(root))["ok"] and len(rows_of(root)) == count
    assert killed
    before = rows_of(root)
    compact(open_store(root), progress=quiet)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        os.utime(path, (0, 0))
    collect(open_store(root), delete=True, progress=quiet)
    assert rows_of(root).equals(before) and verify(open_store(root))["ok"]
    held = {f"{row.sha256}.parquet" for row in embarchive.open_archive(root).shards()}
    assert {path.name for path in (root / "embeddings").rglob("*") if path.is_file()} == held


def test_a_damaged_shard_is_not_carried_on(root):
    row = embarchive.open_archive(root).shards()[0]
    path = next(Path(root).rglob(f"{row.sha256}.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    head = read_head(open_store(root))
    with pytest.raises(Damaged):
        compact(open_store(root), progress=quiet)
    assert read_head(open_store(root)) == head


def test_refusals(tmp_path):
    with pytest.raises(NotAnArchive):
        compact(open_store(tmp_path), progress=quiet)
    with pytest.raises(BadInput, match="read only"):
        compact(open_store("http://127.0.0.1:1/x", env={}), progress=quiet)
    with pytest.raises(BadInput, match="--below"):
        compact(open_store(tmp_path), below=0, progress=quiet)
