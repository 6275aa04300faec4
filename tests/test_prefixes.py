"""What is held under a prefix, and records of shards written there."""

import pytest
from archives import make_archive, make_settings, make_table

import embarchive
from embarchive import prefixes
from embarchive.errors import Conflict
from embarchive.store import open_store

SPACE = {"space_id": "synthetic-1", "encoder": None, "scale": 0.5}


def test_held_rows_are_those_of_the_prefix_by_their_keys(tmp_path):
    table = make_archive(tmp_path, 60, dates=2)
    archive = embarchive.open_archive(tmp_path)
    prefix = table["geohash"][0].as_py()[:5]
    held = prefixes.held_rows(archive, prefix, "synthetic-1")
    rows = [row for row in table.to_pylist() if row["geohash"].startswith(prefix)]
    assert held.keys == {
        (row["geohash"], row["datetime"], row["source"]): row["input_digest"] for row in rows
    }
    assert held.places == {row["geohash"] for row in rows} and not held.elsewhere
    other = prefixes.held_rows(archive, prefix, "another")
    assert not other.keys and other.places == held.places and len(other.elsewhere) == 2
    assert prefixes.held_rows(archive, "zzz", "synthetic-1").keys == {}


def test_a_record_says_what_was_written_and_becomes_a_row_of_the_manifest(tmp_path):
    store = open_store(tmp_path)
    table = make_table(20, dates=2, models=("",))
    prefix = table["geohash"][0].as_py()[:1]
    record = prefixes.write_shard_record(
        store, make_settings(1), SPACE, prefix, [table], prefixes.NOTHING
    )
    assert (record["rows"], record["places"], len(record["sources"])) == (20, 10, 2)
    row = prefixes.shard_row(record["shards"][0])
    assert (row.rows, row.prefix, row.model_ids) == (20, prefix, ())
    assert row.datetime_min == table["datetime"].to_pylist()[0]
    empty = prefixes.write_shard_record(store, make_settings(1), SPACE, "u", [], prefixes.NOTHING)
    assert (empty["rows"], empty["shards"]) == (0, [])


def test_another_input_for_a_stored_row_is_a_conflict():
    prefixes.agree(("u2ed", None, "a"), b"same", b"same")
    with pytest.raises(Conflict, match="tile u2ed of a at None: expected the stored input 6f6c64"):
        prefixes.agree(("u2ed", None, "a"), b"old", b"new")
