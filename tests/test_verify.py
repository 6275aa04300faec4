import random
import shutil
from dataclasses import replace

import faults
import pytest
from archives import make_archive

from embarchive import digests, manifest
from embarchive.additions import Addition, Swap, add_to_archive, replace_shards
from embarchive.archive import Archive
from embarchive.commit import commit, read_head
from embarchive.errors import NotAnArchive, StoreUnreachable, UnknownVersion
from embarchive.store import open_store
from embarchive.verify import verify


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An archive of several shards, with cards and an ONNX file in its models table."""
    root = tmp_path_factory.mktemp("verified")
    make_archive(root, 600)
    store = open_store(root)
    settings = read_head(store).generation.settings
    objects, hashes = [], []
    for kind, data in (("model", b"adapter"), ("model-card", b"{}"), ("model-onnx", b"onnx")):
        hashes.append(digests.sha256(data))
        objects.append((manifest.object_path(kind, hashes[-1]), data))
    row = {"model_id": hashes[0], "length": 7, "kind": "adapter", "space_id": "synthetic-1",
           "card_sha256": hashes[1], "card_length": 2, "onnx_sha256": hashes[2],
           "onnx_length": 4, "backbone": hashes[0], "backbone_length": 7}  # fmt: skip
    one = Addition(settings, models=(row,), objects=tuple(objects))
    add_to_archive(store, lambda parent: one)
    return root


def reached(root):
    """Every file but the generation before and its models table, which nothing reaches."""
    head = read_head(open_store(root))
    before = manifest.parse_generation(
        (root / manifest.object_path("manifest-json", head.generation.parent)).read_bytes()
    )
    old = {head.generation.parent, before.models.sha256}
    return sorted(
        path for path in root.rglob("*")
        if path.is_file() and path.stem not in old and path.name != ".embarchive.lock"
    )  # fmt: skip


def test_a_sound_archive_is_verified_to_the_last_object(built):
    calls = []
    found = verify(open_store(built), lambda done, total: calls.append((done, total)))
    blocks = len(list((built / "blocks").iterdir()))
    assert found == {"ok": True, "checked": len(reached(built)) - blocks, "bad": []}
    assert calls[-1] == (found["checked"], found["checked"])


def test_every_flipped_bit_is_found_whatever_the_object(built):
    rng, files = random.Random(0), reached(built)
    kinds = {path.relative_to(built).parts[0] + path.suffix for path in files}
    assert len(kinds) >= 8
    for turn in range(max(50, 3 * len(files))):
        path = files[turn % len(files)]
        right = path.read_bytes()
        wrong, bit = bytearray(right), rng.randrange(8 * len(right))
        wrong[bit // 8] ^= 1 << bit % 8
        path.write_bytes(wrong)
        try:
            found = verify(open_store(built))
            assert not found["ok"] and found["bad"], (path, bit)
            assert all(entry["expected"] and entry["found"] for entry in found["bad"])
        except UnknownVersion:
            assert path.name == "embarchive.json"
        finally:
            path.write_bytes(right)
    assert verify(open_store(built))["ok"]


@pytest.mark.parametrize("kind", ["gone", "short", "long", "empty"])
def test_every_lost_or_cut_object_is_named(built, kind):
    for path in reached(built):
        if path.name == "embarchive.json":
            continue
        right = path.read_bytes()
        path.unlink()
        if kind != "gone":
            path.write_bytes({"short": right[:-1], "long": right + b"x", "empty": b""}[kind])
        try:
            found = verify(open_store(built))
            assert str(path.relative_to(built)) in [entry["object"] for entry in found["bad"]]
        finally:
            path.write_bytes(right)


def test_rows_that_the_manifest_does_not_count_are_found(built, tmp_path):
    store = open_store(built)
    head = read_head(store)
    part = head.generation.parts[0]
    table = manifest.parse_part(store.get(manifest.object_path("manifest-parquet", part.sha256)))
    row = {**table.to_pylist()[0], "rows": 7}
    row["bbox"] = tuple(row["bbox"][side] for side in ("xmin", "ymin", "xmax", "ymax"))
    shard = manifest.ShardRow(**{**row, "model_ids": tuple(row["model_ids"])})
    other = open_store(tmp_path)
    for kind, sha, prefix in (
        ("shard", shard.sha256, shard.prefix),
        ("blocks", shard.blocks, None),
    ):
        path = manifest.object_path(kind, sha, prefix)
        other.put_new(path, store.get(path))
    one = Addition(head.generation.settings, shards=(shard,))
    add_to_archive(other, lambda parent: one)
    found = verify(other)
    assert [entry["found"] for entry in found["bad"]] == [f"{table['rows'][0].as_py()} rows"]
    assert found["bad"][0]["expected"] == "7 rows"


@pytest.mark.parametrize(("at", "named"), [(-1, "head"), (0, "outboard"), (-10_000, "head")])
def test_digests_or_a_head_of_other_bytes_are_found(tmp_path, at, named):
    make_archive(tmp_path, 20_000)
    store = open_store(tmp_path)
    assert verify(store)["ok"]
    row = max(Archive(store).shards(), key=lambda row: row.length)
    outboard = bytearray(store.get(manifest.object_path("blocks", row.blocks)))
    outboard[at] ^= 4
    with_blocks(store, row, bytes(outboard))
    [bad] = verify(store)["bad"]
    assert named in bad["object"] and bad["expected"] != bad["found"]


@pytest.mark.parametrize("tail", [bytes(4), b"\1\0\0\0" + bytes(16), b"\xff" * 40])
def test_a_head_that_is_none_is_found(built, tmp_path, tail):
    shutil.copytree(built, tmp_path / "a")
    store = open_store(tmp_path / "a")
    row = Archive(store).shards()[0]
    outboard = store.get(manifest.object_path("blocks", row.blocks)) + tail
    with_blocks(store, row, outboard)
    assert [one["object"] for one in verify(store)["bad"]] == [
        manifest.object_path("blocks", digests.sha256(outboard))
    ]


def with_blocks(store, row, outboard):
    """Commit a shard with digests and head in another object."""
    new = replace(row, blocks=digests.sha256(outboard))
    store.put_new(manifest.object_path("blocks", new.blocks), outboard)
    swap = Swap(frozenset([row.sha256]), (new,))
    commit(store, lambda head: replace_shards(store, head.generation, [swap]))


def test_an_empty_folder_is_no_archive(tmp_path):
    with pytest.raises(NotAnArchive):
        verify(open_store(tmp_path))


def test_a_pointer_of_another_generation_is_bad(built):
    store, path = open_store(built), built / "embarchive.json"
    right = path.read_bytes()
    path.write_bytes(manifest.dump_pointer(replace(read_head(store).pointer, generation=9)))
    found = verify(store)
    path.write_bytes(right)
    assert found["bad"] == [{"object": "embarchive.json", "expected": "generation 2", "found": "9"}]


def test_an_archive_is_verified_over_http_and_a_dead_server_is_no_damage(built):
    with faults.serving() as server:
        for path in built.rglob("*"):
            if path.is_file():
                server.put(path.relative_to(built).as_posix(), path.read_bytes())
        store = open_store(f"{server.url}/bucket/archive", env={}, deadline=0.3)
        assert verify(store)["ok"]
        server.break_("GET", "embeddings/", "flip", times=1)
        assert len(verify(store)["bad"]) == 1
        server.break_("GET", "embeddings/", "status", times=999)
        with pytest.raises(StoreUnreachable):
            verify(store)
