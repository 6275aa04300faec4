"""Garbage: nothing goes that anybody needs, everything goes that nobody does."""

import fcntl
import itertools
import json
import os
import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import fakes
import pytest
from archives import make_archive
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from kills import killed_once

import embarchive
from embarchive import collect as module
from embarchive import digests, manifest, shards
from embarchive.additions import Swap, add_to_archive, replace_shards
from embarchive.collect import collect
from embarchive.commit import commit, read_head
from embarchive.errors import BadInput, GenerationExpired, Missing, NotAnArchive
from embarchive.localstore import LocalStore
from embarchive.prefixes import put_shard
from embarchive.store import open_store
from embarchive.verify import verify

HOUR = 3600
PLAN = "7" * 64
MODELS = ("encoder", "model")


def quiet(*_):
    pass


def addition(name):
    """One of `fakes`, with the encoder and the model that it names."""
    one = fakes.addition(name)
    models = [(f"models/{fakes.sha(text)}.safetensors", text.encode()) for text in MODELS]
    return replace(one, objects=(*one.objects, *models))


def add(store, name):
    return add_to_archive(store, lambda parent: addition(name))


def age(root, hours, *paths):
    """Make all files, or some, older by hours."""
    for path in [root / one for one in paths] or [p for p in root.rglob("*") if p.is_file()]:
        then = path.stat().st_mtime - hours * HOUR
        os.utime(path, (then, then))


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def gone(store, **options):
    found = collect(store, delete=True, progress=quiet, **options)
    return {one["object"] for one in found["removed"]}


def reach(store):
    """All that the current generation names, one by one and without the code under test."""
    head = read_head(store)
    found = {"embarchive.json", manifest.object_path("manifest-json", head.pointer.manifest)}
    held = head.generation
    if held.models:
        path = manifest.object_path("manifest-parquet", held.models.sha256)
        found.add(path)
        for row in manifest.parse_models(store.get(path)).to_pylist():
            found.add(f"models/{row['model_id']}.safetensors")
    found |= {f"models/{space.encoder}.safetensors" for space in held.spaces}
    for part in held.parts:
        path = manifest.object_path("manifest-parquet", part.sha256)
        found.add(path)
        for row in manifest.parse_part(store.get(path)).to_pylist():
            found.add(f"embeddings/gh={row['prefix']}/{row['sha256']}.parquet")
            found.add(f"blocks/{row['blocks']}")
    return found


def orphan(store, text, prefix="u33"):
    """An object that nothing names."""
    path = manifest.object_path("shard", digests.sha256(text), prefix)
    store.put_new(path, text)
    return path


def test_a_dry_run_lists_and_leaves_everything(tmp_path):
    store = open_store(tmp_path)
    add(store, "a")
    left = orphan(store, b"left")
    age(tmp_path, 30)
    orphan(store, b"young")
    before = files(tmp_path)
    found = collect(store, progress=quiet)
    assert files(tmp_path) == before
    assert found["generation"] == 1 and not found["deleted"] and found["grace"] == 24
    assert found["removed"] == [
        {"object": left, "bytes": 4, "age": pytest.approx(30 * HOUR, abs=60)}
    ]
    assert found["bytes"] == 4 and found["kept"] == len(before) - 1


def test_what_is_reached_or_young_stays(tmp_path):
    """I8, on the archive of real formats: every object that a generation in use names."""
    make_archive(tmp_path, 400)
    store = open_store(tmp_path)
    age(tmp_path, 1000)
    young = orphan(store, b"young")
    left = orphan(store, b"left")
    age(tmp_path, 25, left)
    before = files(tmp_path)
    assert gone(store) == {left}
    assert files(tmp_path) == before - {left} and (tmp_path / young).exists()
    assert verify(store)["ok"]


def test_a_generation_stays_until_its_successor_is_past_the_grace_time(tmp_path):
    """However long ago it was written: a reader may have opened it just before."""
    store = open_store(tmp_path)
    first = add(store, "a")
    old = reach(store)
    age(tmp_path, 500)
    add(store, "b")
    assert gone(store) == set()
    age(tmp_path, 23)
    assert gone(store) == set()
    age(tmp_path, 2)
    left = gone(store)
    assert f"manifests/{first.pointer.manifest}.json" in left
    assert left == old - reach(store) and files(tmp_path) - {".embarchive.lock"} == reach(store)
    assert verify_names(store)


def verify_names(store):
    """Whether all that the current generation names is there and is what it should be."""
    head = read_head(store)
    shards = [path for path in reach(store) if path.startswith("embeddings/")]
    for path in shards:
        assert digests.sha256(store.get(path)) == path.rpartition("/")[2].partition(".")[0]
    return len(shards) == sum(part.shards for part in head.generation.parts)


def test_a_pinned_reader_of_a_collected_generation_is_told(tmp_path):
    """I7 beneath gc: the reader of a superseded generation gets its rows or a clear error."""
    make_archive(tmp_path, 400)
    store = open_store(tmp_path)
    pinned = embarchive.open_archive(tmp_path)
    add_other_shard_layout(tmp_path)
    age(tmp_path, 30)
    assert gone(store)
    with pytest.raises(GenerationExpired, match="generation expired"):
        pinned.select()
    assert len(embarchive.open_archive(tmp_path).select()) == 400


def add_other_shard_layout(root):
    """The same rows in a shard of other bytes, as a later generation."""
    archive = embarchive.open_archive(root)
    rows = archive.shards()
    table = archive.select(columns=archive.reader.names)
    names = [name[:3] for name in table["geohash"].to_pylist()]
    swaps = []
    for row in rows:
        some = table.filter([name == row.prefix for name in names])
        made = put_shard(
            archive.store, shards.write_shard(some, {"other": 1}), row.prefix, row.space_id
        )
        swaps.append(Swap(frozenset([row.sha256]), (made,)))
    commit(archive.store, lambda head: replace_shards(archive.store, head.generation, swaps))


def test_the_page_the_pointer_and_unknown_names_are_never_touched(tmp_path):
    store = open_store(tmp_path)
    add(store, "a")
    strange = [
        "index.html", "viewer/app.js", "viewer/.tmp-0123456789abcdef", "notes.txt",
        "models/readme.md", "models/" + "a" * 63 + ".json", "embeddings/gh=ail/" + "a" * 64
        + ".parquet", "collection.json", "items/items.parquet", "items/ail-0123456789abcdef.json",
        "staging/mine/plan.json", "blocks/" + "A" * 64,
        "manifests/" + "a" * 64 + ".txt", ".embarchive.lock", "manifests/x/" + "a" * 64 + ".json",
    ]  # fmt: skip
    for path in strange:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"mine")
    before = files(tmp_path)
    age(tmp_path, 1000)
    assert gone(store) == set() and files(tmp_path) == before


def test_leavings_of_killed_writers_go_when_they_are_old(tmp_path):
    """I9: nothing that a killed writer leaves needs a hand."""
    store = open_store(tmp_path)
    add(store, "a")
    left = [
        ".tmp-0123456789abcdef", "embeddings/gh=u33/.tmp-0123456789abcdef",
        "blocks/.tmp-0123456789abcdef", "staging/probe-0123456789abcdef",
        f"staging/{PLAN}/encode/.tmp-0123456789abcdef", "items/.tmp-0123456789abcdef",
        "models/" + "b" * 64 + ".onnx",
        "overview/" + "b" * 64 + ".parquet", "manifests/" + "b" * 64 + ".json",
    ]  # fmt: skip
    for path in left:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"half")
    assert gone(store) == set()
    age(tmp_path, 25)
    assert gone(store) == set(left)
    assert not (tmp_path / "staging").exists()


def stage(store, hours, root, **records):
    store.put_new(f"staging/{PLAN}/plan.json", b"{}")
    for name, value in records.items():
        store.put_new(f"staging/{PLAN}/encode/{name}.json", json.dumps(value).encode())
    age(root, hours, *[path for path in files(root) if path.startswith("staging/")])


def test_an_unfinished_job_keeps_what_its_records_name_and_a_dead_one_does_not(tmp_path):
    store = open_store(tmp_path)
    add(store, "a")
    left = orphan(store, b"its work")
    age(tmp_path, 48)
    stage(store, 40, tmp_path, u33={"shards": [{"sha256": digests.sha256(b"its work")}]})
    stage(store, 1, tmp_path, u34={})
    # a record of an hour ago keeps the plan and all its records
    age(tmp_path, 47, f"staging/{PLAN}/plan.json")
    assert gone(store) == set()
    age(tmp_path, 30)
    removed = gone(store)
    assert left in removed and f"staging/{PLAN}/plan.json" in removed
    assert files(tmp_path) - {".embarchive.lock"} == reach(store)


def test_a_job_taken_up_again_while_its_plan_is_collected_is_kept(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    add(store, "a")
    left = orphan(store, b"done by the job")
    stage(store, 0, tmp_path, u33={"sha256": digests.sha256(b"done by the job")})
    age(tmp_path, 48)
    listing = LocalStore.list

    def then_resume(self, prefix):
        found = listing(self, prefix)
        if prefix == "":
            store.put_new(f"staging/{PLAN}/plan.json", b"{}")
        return found

    monkeypatch.setattr(LocalStore, "list", then_resume)
    assert gone(store) == set() and (tmp_path / left).exists()


def test_a_job_that_commits_while_gc_lists_keeps_its_old_shards(tmp_path, monkeypatch):
    """Its records are gone when gc reads them, its generation came after gc's first look, and it
    wrote its shards long ago."""
    store = open_store(tmp_path)
    add(store, "a")
    one = addition("b")
    for path, data in one.objects:
        store.put_new(path, data)
    age(tmp_path, 48)
    stage(store, 1, tmp_path, u33={"sha256": one.shards[0].sha256, "blocks": one.shards[0].blocks})
    listing, done = LocalStore.list, []

    def then_commit(self, prefix):
        found = listing(self, prefix)
        if prefix == "":
            done.append(add_to_archive(store, lambda parent: replace(one, objects=())))
            for path in ("plan.json", "encode/u33.json"):
                store.delete(f"staging/{PLAN}/{path}")
        return found

    monkeypatch.setattr(LocalStore, "list", then_commit)
    gone(store)
    assert done and read_head(store) == done[0] and verify_names(store)


def test_a_writer_that_writes_an_old_orphan_again_does_not_lose_it(tmp_path, monkeypatch):
    """Between listing and deletion: writing what is there already makes it new."""
    store = open_store(tmp_path)
    add(store, "a")
    one = addition("b")
    for path, data in one.objects:
        store.put_new(path, data)
    age(tmp_path, 48)
    real, done = module._is_garbage, []

    def then_commit(entry, kept, live):
        if not done:
            done.append(add(store, "b"))
        return real(entry, kept, live)

    monkeypatch.setattr(module, "_is_garbage", then_commit)
    gone(store)
    assert done and read_head(store).generation.number == 2
    assert verify_names(store)


def test_writers_and_collectors_at_once_lose_nothing(tmp_path):
    """Old orphans are written again and committed while gc removes them, on many threads."""
    store = open_store(tmp_path)
    add(store, "first")
    names = [f"n{i}" for i in range(12)]
    for name in names:
        for path, data in addition(name).objects:
            store.put_new(path, data)
    age(tmp_path, 48)
    stop, failed = threading.Event(), []

    def sweep():
        try:
            while not stop.is_set():
                gone(open_store(tmp_path), grace=1)
        except Exception as error:
            failed.append(error)

    def write(mine):
        try:
            for name in mine:
                add(open_store(tmp_path), name)
        except Exception as error:
            failed.append(error)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(names[i::3],)) for i in range(3)]
    for thread in (*sweepers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in sweepers:
        thread.join()
    assert not failed
    assert read_head(store).generation.number == 13 and verify_names(store)


def test_a_file_in_a_writers_hands_is_not_unlinked(tmp_path):
    """The writer's lock and the collector's exclude each other, whoever is first."""
    store = LocalStore(tmp_path)
    path = orphan(store, b"held")
    age(tmp_path, 48)
    with open(tmp_path / path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not store.delete_older(path, datetime.now(UTC))
    assert store.delete_older(path, datetime.now(UTC)) and not (tmp_path / path).exists()
    assert store.delete_older(path, datetime.now(UTC))


CHILD = """
import sys
from embarchive.collect import collect
from embarchive.store import open_store
print("begun", flush=True)
collect(open_store(sys.argv[1]), grace=1, delete=True, progress=lambda *_: None)
"""


def test_a_collector_killed_at_any_moment_leaves_the_archive_whole(tmp_path):
    store, rng = open_store(tmp_path), random.Random(int(os.environ.get("EMBARCHIVE_SEED", "0")))
    make_archive(tmp_path, 300)
    killed = 0
    for turn in range(20 if os.environ.get("EMBARCHIVE_TORTURE") else 4):
        for i in range(300):
            orphan(store, f"left {turn} {i}".encode())
        stage(store, 0, tmp_path, u33={"turn": turn})
        age(tmp_path, 48)
        killed += killed_once(CHILD, tmp_path, rng.uniform(0, 0.08))
        assert verify(store)["ok"]
    age(tmp_path, 48)
    gone(store)
    assert killed
    head = read_head(store)
    assert not [path for path in files(tmp_path) if path.startswith("staging")]
    shards_left = [path for path in files(tmp_path) if path.startswith("embeddings")]
    assert len(shards_left) == sum(part.shards for part in head.generation.parts)


def test_a_store_whose_clock_is_behind_or_ahead_loses_nothing_young(tmp_path, monkeypatch):
    """By the store's clock: what this machine thinks of the time removes nothing by itself."""
    store = open_store(tmp_path)
    add(store, "a")
    orphan(store, b"new")

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=30)

    monkeypatch.setattr(module, "datetime", Ahead)
    assert gone(store) == set()


def test_what_cannot_be_told_for_sure_removes_nothing(tmp_path):
    store = open_store(tmp_path)
    add(store, "a")
    orphan(store, b"left")
    part = read_head(store).generation.parts[0]
    (tmp_path / manifest.object_path("manifest-parquet", part.sha256)).unlink()
    age(tmp_path, 48)
    before = files(tmp_path)
    with pytest.raises(Missing):
        gone(store)
    assert files(tmp_path) == before


def test_refusals(tmp_path):
    with pytest.raises(NotAnArchive):
        collect(open_store(tmp_path), progress=quiet)
    with pytest.raises(BadInput, match="read only"):
        collect(open_store("http://127.0.0.1:1/x", env={}), progress=quiet)
    with pytest.raises(BadInput, match="grace time"):
        collect(open_store(tmp_path), grace=-1, progress=quiet)


def test_on_s3(s3):
    store = open_store("s3://bucket/some/garbage", env=s3)
    first = add(store, "a")
    old, left = reach(store), orphan(store, b"left")
    again = addition("again").objects[0]
    store.put_new(*again)
    add(store, "b")
    time.sleep(2.1)  # by its clock, which counts seconds
    assert gone(store) == set()
    listed = collect(store, grace=1e-4, progress=quiet)["removed"]
    assert {again[0], left} <= {one["object"] for one in listed}
    moment = datetime.now(UTC) - timedelta(seconds=1)
    store.put_new(*again)
    assert not store.delete_older(again[0], moment)
    removed = gone(store, grace=1.5 / 3600)
    assert removed == {left} | (old - reach(store))
    assert f"manifests/{first.pointer.manifest}.json" in removed
    found = {entry.path for entry in store.list("")}
    assert found == reach(store) | {again[0]} and verify_names(store)
    assert store.delete_older("models/" + "0" * 64 + ".onnx", moment)


class Machine(RuleBasedStateMachine):
    """Writers, readers and gc in any order, hours going by: TRUST's I7, I8 and I9 at every step."""

    def __init__(self):
        super().__init__()
        self.root = self.folder / str(next(self.numbers))
        self.store = open_store(self.root)
        self.count, self.pinned = 0, []
        add(self.store, "first")
        self.names = {"first"}

    @rule()
    def append(self):
        self.count += 1
        self.names.add(f"n{self.count}")
        add(self.store, f"n{self.count}")

    @rule()
    def killed_writer(self):
        self.count += 1
        for path, data in addition(f"n{self.count}").objects:
            self.store.put_new(path, data)

    @rule()
    def writer_again(self):
        """What the last killed writer wanted, or nothing new."""
        self.names.add(f"n{self.count}")
        add(self.store, f"n{self.count}" if self.count else "first")
        self.names -= {"n0"}

    @rule()
    def open(self):
        self.pinned.append((read_head(self.store), reach(self.store), 0))

    @rule()
    def hours(self):
        age(self.root, 10)
        self.pinned = [(head, names, spent + 10) for head, names, spent in self.pinned]

    @rule()
    def sweep(self):
        listed = {one["object"] for one in collect(self.store, progress=quiet)["removed"]}
        old = {entry.path: entry.modified for entry in self.store.list("")}
        removed = gone(self.store)
        assert removed <= listed
        assert not [path for path in removed if (datetime.now(UTC) - old[path]).days < 1]

    @invariant()
    def whole(self):
        assert verify_names(self.store)
        held = read_head(self.store).generation
        assert sum(part.shards for part in held.parts) == len(self.names)

    @invariant()
    def readers_of_the_last_day_have_all_they_need(self):
        for _, names, spent in self.pinned:
            assert spent >= 24 or not [p for p in names if not (self.root / p).exists()]

    def teardown(self):
        age(self.root, 100)
        gone(self.store)
        assert files(self.root) - {".embarchive.lock"} == reach(self.store)


def test_any_order_of_writers_readers_and_gc(tmp_path):
    Machine.folder, Machine.numbers = tmp_path, itertools.count()
    many = 200 if os.environ.get("EMBARCHIVE_TORTURE") else 8
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=many, stateful_step_count=20, deadline=None)
    )
