import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import fakes
import faults
import pytest

import embarchive.commit as module
from embarchive import digests, manifest
from embarchive.additions import add_to_archive
from embarchive.commit import Draft, commit, find_head, read_head, unless_refused
from embarchive.errors import (
    BadInput,
    CommitUnknown,
    Conflict,
    Damaged,
    NotAnArchive,
    StoreUnreachable,
    UnknownVersion,
)
from embarchive.localstore import LocalStore
from embarchive.store import VerifiedObject, open_store

HERE = Path(__file__).parent
# A writer in a process of its own: `count` commits of one shard each, said aloud once done.
WRITER = """
import sys
import fakes
from embarchive.additions import add_to_archive
from embarchive.store import open_store
store = open_store(sys.argv[1])
for turn in range(int(sys.argv[3])):
    one = fakes.addition(f"{sys.argv[2]}-{turn}")
    head = add_to_archive(store, lambda parent: one)
    print(head.generation.number, one.shards[0].sha256, flush=True)
"""


def writer(url, name, count, **env):
    path = os.pathsep.join([str(HERE), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(url), name, str(count)], text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path, **env},
    )  # fmt: skip


def shards(store):
    """The shards of the current generation, everything that it reaches read and verified."""
    head = read_head(store)
    found = []
    for part in head.generation.parts:
        path = manifest.object_path("manifest-parquet", part.sha256)
        table = manifest.parse_part(
            VerifiedObject(store, path, part.sha256, part.length).whole(), part
        )
        for row in table.to_pylist():
            path = manifest.object_path("shard", row["sha256"], row["prefix"])
            VerifiedObject(store, path, row["sha256"], row["length"]).whole()
            found.append(row["sha256"])
    return head.generation.number, found


def add(store, name, **options):
    one = fakes.addition(name)
    return add_to_archive(store, lambda parent: one, **options)


def history(store):
    """Commit ids from the current generation back to the first."""
    head, found = read_head(store).generation, []
    while True:
        found.append(head.commit_id)
        if head.parent is None:
            return found
        head = manifest.parse_generation(
            store.get(manifest.object_path("manifest-json", head.parent))
        )


def test_the_first_commit_makes_generation_one_and_the_next_follows_it(tmp_path):
    store = open_store(tmp_path)
    assert find_head(store) is None
    first, second = add(store, "a"), add(store, "b")
    assert (first.generation.number, first.generation.parent) == (1, None)
    assert (second.generation.number, second.generation.parent) == (2, first.pointer.manifest)
    assert read_head(store) == second and len(shards(store)[1]) == 2


def test_nothing_new_is_no_generation(tmp_path):
    store = open_store(tmp_path)
    head = add(store, "a")
    assert add(store, "a") == head
    with pytest.raises(NotAnArchive, match="found nothing"):
        commit(open_store(tmp_path / "empty"), lambda head: None)


def test_a_folder_without_pointer_is_no_archive(tmp_path):
    with pytest.raises(NotAnArchive, match=r"expected embarchive\.json, found none"):
        read_head(open_store(tmp_path))


def test_a_pointer_to_another_generation_is_damaged(tmp_path):
    store = open_store(tmp_path)
    head = add(store, "a")
    for wrong in (replace(head.pointer, generation=9), replace(head.pointer, commit_id="0" * 32)):
        (tmp_path / "embarchive.json").write_bytes(manifest.dump_pointer(wrong))
        with pytest.raises(Damaged, match=r"embarchive\.json: expected"):
            read_head(store)


def test_another_version_is_refused(tmp_path):
    store = open_store(tmp_path)
    data = manifest.dump_pointer(add(store, "a").pointer).replace(b'"version":1', b'"version":2')
    (tmp_path / "embarchive.json").write_bytes(data)
    with pytest.raises(UnknownVersion, match="expected version 1, found 2"):
        add(store, "b")


def test_whoever_loses_the_race_builds_again_on_the_winner(tmp_path):
    store, seen = open_store(tmp_path), []
    add(store, "a")

    def make(parent):
        seen.append(parent.number)
        if len(seen) < 3:
            add(store, f"faster-{len(seen)}")
        return fakes.addition("b")

    assert add_to_archive(store, make).generation.number == 4
    assert seen == [1, 2, 3] and len(shards(store)[1]) == 4


def test_a_true_conflict_is_not_rebased(tmp_path):
    store = open_store(tmp_path)

    def make(parent):
        if parent is None:
            add(store, "faster")
            return fakes.addition("b")
        raise Conflict("u33000, 2023-08-15, scene: expected input aa, found input bb")

    with pytest.raises(Conflict, match="expected input aa, found input bb"):
        add_to_archive(store, make)
    assert read_head(store).generation.number == 1


def test_patience_ends(tmp_path):
    store = open_store(tmp_path)
    turns = iter(range(99))

    def make(parent):
        add(store, f"faster-{next(turns)}")
        return fakes.addition("b")

    with pytest.raises(Conflict, match="other committers faster"):
        add_to_archive(store, make, patience=0)


def test_processes_that_commit_at_once_lose_nothing(tmp_path):
    add(open_store(tmp_path), "first")
    writers = [writer(tmp_path, name, 8) for name in "abc"]
    said = [line.split() for one in writers for line in one.communicate(timeout=60)[0].splitlines()]
    assert [one.returncode for one in writers] == [0, 0, 0]
    number, found = shards(open_store(tmp_path))
    assert number == 25 and len(found) == 25
    assert {sha for _, sha in said} < set(found) and len(said) == 24
    assert sorted(int(n) for n, _ in said) == list(range(2, 26))


def test_a_killed_writer_leaves_one_generation_or_the_next(tmp_path):
    """kill -9 at random moments: what was acknowledged is there, the rest is whole or absent."""
    store, rng, acknowledged = open_store(tmp_path), random.Random(0), 0
    add(store, "first")
    for turn in range(8):
        before = shards(store)[0]
        one = writer(tmp_path, str(turn), 10_000)
        one.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        one.send_signal(signal.SIGKILL)
        rest = one.communicate()[0]
        said = 1 + len([line for line in rest.splitlines(keepends=True) if line.endswith("\n")])
        number, found = shards(store)
        assert before + said <= number <= before + said + 1
        assert len(found) == number
        acknowledged += said
    assert add(store, "last").generation.number >= acknowledged


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "mkdir", "open"])
def test_a_failure_at_any_call_leaves_the_old_generation(tmp_path, monkeypatch, step):
    store = open_store(tmp_path)
    old = add(store, "a")
    real = getattr(os, step)
    for at in range(60):
        calls = iter(range(1000))

        def fail(*args, calls=calls, at=at, **kwargs):
            if next(calls) == at:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            try:
                new = add(open_store(tmp_path), f"b{at}")
            except (StoreUnreachable, CommitUnknown) as error:
                assert "No space left" in str(error)
                new = None
        head = read_head(store)
        shards(store)
        assert head == (new or head) and head.generation.number - old.generation.number in (0, 1)
        old = head
        if next(calls) < at:
            return
    raise AssertionError("expected fewer calls")


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
def server():
    with faults.serving() as one:
        yield one


def faulty(server, **options):
    return open_store("s3://bucket/archive", env=server.environment(), deadline=2, **options)


@pytest.mark.parametrize("kind", ["lost", "lost503", "status", "reset"])
@pytest.mark.parametrize("replacing", [False, True])
def test_a_lost_acknowledgement_is_neither_a_conflict_nor_a_second_commit(server, kind, replacing):
    store = faulty(server)
    if replacing:
        add(store, "before")
    server.break_("PUT", "embarchive.json", kind, times=1)
    head = add(store, "a")
    assert head.generation.number == 1 + replacing == len(history(store))
    assert read_head(store) == head


def test_every_lost_put_of_a_commit_is_survived(server):
    for at, part in enumerate(["embeddings/", "blocks/", ".parquet", ".json", "staging/"] * 2):
        store = faulty(server)
        server.break_("PUT", part, "lost" if at < 5 else "status", times=1)
        assert add(store, f"a{at}").generation.number == at + 1
    assert len(shards(faulty(server))[1]) == 10


def test_a_lost_commit_that_others_built_upon_is_found_among_the_ancestors(server):
    ours, other = faulty(server), faulty(server)
    add(ours, "before")
    swap = ours.swap_pointer

    def lose(data, token):
        swap(data, token)
        add(other, "x")
        add(other, "y")
        raise CommitUnknown("the answer was lost")

    ours.swap_pointer = lose
    head = add(ours, "a")
    assert head.generation.number == 2 and read_head(other).generation.number == 4
    assert head.generation.commit_id in history(other) and len(shards(other)[1]) == 4


def test_an_unknown_commit_that_another_overtook_is_built_again(server):
    ours, other = faulty(server), faulty(server)
    add(ours, "before")
    swap, turns = ours.swap_pointer, iter(range(9))

    def lose(data, token):
        if next(turns):
            return swap(data, token)
        add(other, "x")
        raise CommitUnknown("nothing landed")

    ours.swap_pointer = lose
    assert add(ours, "a").generation.number == 3
    assert len(shards(other)[1]) == 3 and len(history(other)) == 3


def test_an_outcome_that_cannot_be_read_back_is_unknown(server):
    store = faulty(server)
    add(store, "before")
    store.check_writable()
    server.break_("PUT", "embarchive.json", "lost", times=1)
    one = fakes.addition("a")

    def make(parent):
        store._deadline = 0.1
        server.break_("GET", "embarchive.json", "reset", times=99)
        return one

    with pytest.raises(CommitUnknown, match="expected it to be read back"):
        add_to_archive(store, make)
    server.faults.clear()
    assert add(faulty(server), "a").generation.number == 2  # it had landed: nothing new


def test_a_local_commit_that_may_not_be_durable_is_unknown(tmp_path):
    class Shaky(LocalStore):
        def _settle(self, folder):
            raise CommitUnknown("embarchive.json: expected it to be durable, found EIO")

    with pytest.raises(CommitUnknown, match="durable"):
        add(Shaky(tmp_path), "a")


def in_threads(make_store, count, each):
    made, failed = [], []

    def work(name):
        try:
            store = make_store()
            made.extend(add(store, f"{name}-{i}").generation.number for i in range(each))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    return made


def test_writers_over_a_faulty_line_lose_nothing(server):
    for kind in ("lost", "status", "reset", "lost503"):
        server.break_("PUT", "embarchive.json", kind, times=2)
    made = in_threads(lambda: faulty(server), 4, 4)
    assert sorted(made) == list(range(1, 17)) and len(shards(faulty(server))[1]) == 16


def test_writers_on_a_real_s3_server_lose_nothing(s3):
    count, each = (8, 25) if os.environ.get("EMBARCHIVE_TORTURE") else (3, 3)
    made = in_threads(lambda: open_store("s3://bucket/some/writers", env=s3), count, each)
    store = open_store("s3://bucket/some/writers", env=s3)
    total = count * each
    assert sorted(made) == list(range(1, total + 1)) and len(shards(store)[1]) == total
    held = {entry.path for entry in store.list("")}
    assert "embarchive.json" in held and not [p for p in held if p.startswith("staging")]


def test_a_draft_gets_its_number_parent_and_name_from_the_commit(tmp_path):
    store = open_store(tmp_path)
    draft = Draft(fakes.generation(number=99), (("models/" + "a" * 64 + ".json", b"{}"),))
    first, second = commit(store, lambda head: draft), commit(store, lambda head: draft)
    assert (first.generation.number, second.generation.number) == (1, 2)
    assert second.generation.parent == first.pointer.manifest
    assert first.generation.commit_id != second.generation.commit_id
    body = store.get(manifest.object_path("manifest-json", second.pointer.manifest))
    assert digests.sha256(body) == second.pointer.manifest and b"embarchive" in body


def test_what_is_refused_leaves_nothing_and_what_is_committed_stays(tmp_path):
    root = tmp_path / "new" / "A"
    with pytest.raises(BadInput), unless_refused(open_store(root)) as store:
        store.put_new("blocks/ab/cd", b"x")
        assert (root / "blocks" / "ab" / "cd").exists()
        raise BadInput("no")
    assert not (tmp_path / "new").exists()
    with pytest.raises(CommitUnknown), unless_refused(open_store(root)) as store:
        store.put_new("blocks/ab/cd", b"x")
        raise CommitUnknown("perhaps")
    assert (root / "blocks" / "ab" / "cd").exists()


def test_what_is_refused_after_a_commit_takes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_head", lambda store: object())
    with pytest.raises(BadInput), unless_refused(open_store(tmp_path / "A")) as store:
        store.put_new("blocks/ab/cd", b"x")
        raise BadInput("no")
    assert (tmp_path / "A" / "blocks" / "ab" / "cd").exists()
