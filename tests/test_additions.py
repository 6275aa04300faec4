from dataclasses import replace

import fakes
import pytest

from embarchive import manifest
from embarchive.additions import Addition, Swap, add_to_archive, merge, replace_shards
from embarchive.commit import read_head
from embarchive.errors import BadInput, Conflict
from embarchive.store import open_store


def add(store, one):
    return add_to_archive(store, lambda parent: one).generation


def many(count, letters="0123456789bcdefg"):
    """An addition of many shards, one a prefix, that a test looks at in the manifest alone."""
    names = [f"{a}{b}{c}" for a in letters for b in letters for c in letters][:count]
    rows = tuple(fakes.shard_row(name, name.encode() * 50) for name in names)
    return Addition(fakes.SETTINGS, shards=rows, spaces=(fakes.space(),), places=count)


def test_an_addition_is_counted(tmp_path):
    store = open_store(tmp_path)
    add(store, fakes.addition("a"))
    held = add(store, replace(fakes.addition("b", rows=5), attribution="ESA"))
    assert (held.tiles, held.places, held.scenes) == (15, 15, 2)
    assert held.bytes == {"shards": 40_000, "models": 5 + 7, "overview": 0}
    assert held.models.rows == 1 and held.attribution == "ESA"
    assert [part.shards for part in held.parts] == [2]


def test_an_append_rewrites_only_the_parts_it_touches(tmp_path):
    store = open_store(tmp_path)
    first = add(store, many(2000))
    assert len(first.parts) > 3
    second = add(store, fakes.addition("new", prefix=first.parts[-1].geohash_max[:3]))
    before, after = set(first.parts), set(second.parts)
    assert len(before - after) == 1 and len(after - before) == 1
    assert second.tiles == first.tiles + 10
    assert [p.geohash_min for p in second.parts] == sorted(p.geohash_min for p in second.parts)


def test_a_part_that_grows_too_large_is_split(tmp_path):
    store = open_store(tmp_path)
    assert [p.shards for p in add(store, many(512)).parts] == [512]
    parts = add(store, many(600)).parts
    assert sum(p.shards for p in parts) == 600 and max(p.shards for p in parts) <= 512


def test_a_far_place_starts_a_part_of_its_own(tmp_path):
    store = open_store(tmp_path)
    first = add(store, many(700))
    second = add(store, fakes.addition("far", prefix="zzz"))
    assert set(first.parts) < set(second.parts) and second.parts[-1].shards == 1


def test_shards_and_models_that_are_there_are_not_added_twice(tmp_path):
    store = open_store(tmp_path)
    held = add(store, fakes.addition("a"))
    both = replace(
        fakes.addition("b"), shards=fakes.addition("a").shards + fakes.addition("b").shards * 2
    )
    after = add(store, both)
    assert (after.parts[0].shards, after.tiles) == (2, 20)
    assert after.models == held.models


def test_a_model_of_a_new_region_is_a_new_row_and_the_first_of_two_wins(tmp_path):
    store = open_store(tmp_path)
    add(store, fakes.addition("a"))
    row = {**fakes.addition("a").models[0], "region": "u33", "mse": 0.5}
    held = add(store, replace(fakes.addition("a"), models=(row, {**row, "mse": 0.7})))
    path = manifest.object_path("manifest-parquet", held.models.sha256)
    assert manifest.parse_models(store.get(path))["mse"].to_pylist() == [0.5, None]
    assert held.number == 2


def test_a_second_space_stands_beside_the_first(tmp_path):
    store = open_store(tmp_path)
    add(store, fakes.addition("a"))
    held = add(store, replace(fakes.addition("b"), spaces=(fakes.space("s2", scale=0.5),)))
    assert [space.space_id for space in held.spaces] == ["s1", "s2"]


def test_what_grows_of_a_space_is_replaced_and_what_it_is_may_not_change(tmp_path):
    store = open_store(tmp_path)
    add(store, fakes.addition("a"))
    more = fakes.space(saturation={"summer": 0.25})
    assert add(store, Addition(fakes.SETTINGS, spaces=(more,))).spaces == (more,)
    with pytest.raises(Conflict, match=r"space s1: scale: expected 0\.03125, found 0\.5"):
        add(store, Addition(fakes.SETTINGS, spaces=(fakes.space(scale=0.5),)))


def test_other_settings_are_refused_and_nothing_is_written(tmp_path):
    store = open_store(tmp_path)
    add(store, fakes.addition("a"))
    files = store.list("")
    other = replace(fakes.addition("b"), settings=replace(fakes.SETTINGS, dim=32))
    with pytest.raises(BadInput, match="settings: dim: expected the archive's 64, found 32"):
        add(store, other)
    assert store.list("") == files


def test_an_empty_addition_to_an_archive_is_nothing(tmp_path):
    store = open_store(tmp_path)
    held = add(store, fakes.addition("a"))
    assert merge(store, held, Addition(fakes.SETTINGS)) is None


def test_shards_are_replaced_where_all_of_the_old_are_there(tmp_path):
    store = open_store(tmp_path)
    one, other, far = (add_one(store, name) for name in ("a", "b", "c"))
    parent = read_head(store).generation
    made = fakes.shard_row(data=b"merged" * 4000, rows=one.rows + other.rows)
    swap = Swap(frozenset([one.sha256, other.sha256]), (made,))
    late = Swap(frozenset([far.sha256, "0" * 64]), (fakes.shard_row(data=b"late" * 99),))
    draft = replace_shards(store, parent, [swap, late])
    ((path, data),) = draft.objects
    names = manifest.parse_part(data, draft.generation.parts[0])["sha256"].to_pylist()
    assert sorted(names) == sorted([made.sha256, far.sha256]) and "manifests/" in path
    assert draft.generation.tiles == parent.tiles and draft.generation.places == parent.places
    assert draft.generation.bytes["shards"] == made.length + far.length
    assert replace_shards(store, parent, [late]) is None
    fewer = Swap(swap.old, (fakes.shard_row(data=b"merged" * 4000, rows=1),))
    with pytest.raises(BadInput, match="expected 30 rows in all, found 11"):
        replace_shards(store, parent, [fewer])


def add_one(store, name):
    one = fakes.addition(name)
    add(store, one)
    return one.shards[0]
