"""Archives in buckets by the command line: the same as on disk, read by whoever may, and one line
with nothing half-visible where the store refuses, is full or does not answer."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import s3server
from test_engine import toml
from test_jobs import RECIPE, write_scene

from embarchive import localstore
from embarchive.cli import main
from embarchive.errors import StoreUnreachable
from embarchive.store import Store, open_store

Run = Callable[..., tuple[int, dict[str, Any], str]]
Where = tuple[dict[str, str], str]
SMALL = replace(RECIPE, shard_prefix=4)
PLACE = "15.05,46.0"
# Of each its own exit status 2 and its own line.
KEYS = {
    "wrong secret": ("writer", {"AWS_SECRET_ACCESS_KEY": "no"}, "does not fit AWS_ACCESS_KEY_ID"),
    "unknown key": ("nobody", {}, "does not know this AWS_ACCESS_KEY_ID"),
    "no key": (None, {}, "not signed: there is no AWS_ACCESS_KEY_ID"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three dates of a place, and the recipe."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "recipe.toml").write_text(toml(SMALL), encoding="utf-8")
    scenes = [write_scene(folder / f"field_2023060{day}.tif", day) for day in (1, 2, 3)]
    return [*map(str, scenes), str(folder / "recipe.toml")]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: its status, its JSON document, and what it said on standard error."""

    def run(*words: object, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any], str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            capsys.readouterr()
            status = main([*map(str, words), "--quiet", "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if status == 0 else {}, err

    return run


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> float:
    """Stores that give up after so many seconds."""
    assert open_store.__kwdefaults__["deadline"] == 60
    monkeypatch.setitem(open_store.__kwdefaults__, "deadline", 2.0)
    return 2.0


def names(store: Store) -> set[str]:
    """Objects but for generations, whose commit ids are random, and the lock of a folder."""
    found = {entry.path for entry in store.list("")} - {localstore.LOCK}
    return {name for name in found if not name.startswith("manifests/") or ".parquet" in name}


def snapshot(store: Store) -> dict[str, bytes]:
    return {entry.path: store.get(entry.path) for entry in store.list("")}


def test_build_append_search_compact_gc_and_verify_as_on_disk(
    run: Run, inputs: list[str], s3: dict[str, str], tmp_path: Path
) -> None:
    first, second, _, recipe = inputs
    told: list[Any] = []
    for out, env in ((str(tmp_path / "A"), {}), ("s3://bucket/whole/archive", s3)):
        for number, scene in enumerate((first, second), 1):
            status, done, err = run("build", scene, "--out", out, "--recipe", recipe, env=env)
            assert (status, err, done.get("generation")) == (0, "", number)
        hits = run("search", out, "--like", PLACE, "-k", 5, env=env)[1]["hits"]
        store = open_store(out, env=env)
        appended = names(store)
        assert run("compact", out, env=env)[1]["generation"] == 3
        assert run("search", out, "--like", PLACE, "-k", 5, env=env)[1]["hits"] == hits
        before = set(snapshot(store))
        time.sleep(1.1)  # S3 counts seconds
        removed = run("gc", out, "--delete", "--grace", 0, env=env)[1]["removed"]
        assert (
            {one["object"] for one in removed}
            == before - set(snapshot(store))
            >= (appended - names(store))
        )
        assert run("verify", out, env=env)[1]["ok"]
        told.append((hits, appended, names(store), run("info", out, env=env)[1]["tiles"]))
    assert told[0] == told[1]
    hits, appended, merged, tiles = told[0]
    assert len(hits) == 5 and appended - merged and merged - appended and tiles == 20


def test_two_who_commit_at_once_to_a_bucket_lose_nothing(
    run: Run, inputs: list[str], weed: s3server.Weed
) -> None:
    *scenes, recipe = inputs
    out, env = "s3://bucket/two/committers", weed.environment()
    assert run("build", scenes[0], "--out", out, "--recipe", recipe, env=env)[0] == 0
    plans = []
    for scene in scenes[1:]:
        plans.append(run("plan", scene, "--out", out, "--recipe", recipe, env=env)[1]["plan"])
        for step in (["train"], ["encode", "--part", "0/1"]):
            assert run(step[0], out, "--plan", plans[-1], *step[1:], env=env)[0] == 0
    line = [sys.executable, "-m", "embarchive.cli", "commit", out, "--json", "--plan"]
    both = [
        subprocess.Popen([*line, plan], env=os.environ | env, stdout=subprocess.PIPE)
        for plan in plans
    ]
    done = [json.loads(child.communicate(timeout=100)[0]) for child in both]
    assert sorted(one["generation"] for one in done) == [2, 3]
    assert run("info", out, env=env)[1]["tiles"] == 30
    assert run("verify", out, env=env)[1]["ok"]
    assert not open_store(out, env=env).list("staging")


# ------------------------------------------------------------ what is refused


@pytest.fixture(scope="module")
def built(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The objects of an archive of one date."""
    out = tmp_path_factory.mktemp("built") / "A"
    line = ["build", inputs[0], "--out", str(out), "--recipe", inputs[-1], "--quiet"]
    assert main(line) == 0
    return snapshot(open_store(out))


def copy(objects: dict[str, bytes], store: Store) -> Store:
    """The archive on another store, pointer last."""
    for path, data in objects.items():
        if path != "embarchive.json":
            store.put_new(path, data)
    store.swap_pointer(objects["embarchive.json"], None)
    return store


def is_one_line(done: tuple[int, dict[str, Any], str], *said: str) -> bool:
    status, _, err = done
    assert status == 2 and err.startswith("embarchive: ") and err.count("\n") == 1, done
    assert all(words in err for words in said), err
    assert "-secret" not in err and "<Error>" not in err
    return True


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_wrong_keys_are_one_line_at_once(
    run: Run, inputs: list[str], weed: s3server.Weed, kind: str
) -> None:
    key, more, said = KEYS[kind]
    out, env = "s3://bucket/wrong/keys", weed.environment(key, **more)
    began = time.monotonic()
    assert is_one_line(run("info", out, env=env), out, "reading refused", said)
    line = ["build", inputs[0], "--out", out, "--recipe", inputs[-1]]
    assert is_one_line(run(*line, env=env), out, "refused", said)
    assert time.monotonic() - began < 20
    assert open_store(out, env=weed.environment()).list("") == []


def test_a_missing_bucket_is_one_line_and_is_not_made(
    run: Run, inputs: list[str], weed: s3server.Weed
) -> None:
    out, env = "s3://nowhere/a", weed.environment()
    line = ["build", inputs[0], "--out", out, "--recipe", inputs[-1]]
    for words in (["info", out], ["verify", out], ["gc", out], line):
        assert is_one_line(run(*words, env=env), out, "found no such bucket")
    assert {one["Name"] for one in weed.client().list_buckets()["Buckets"]} == {"bucket", "public"}


def test_a_key_that_may_only_read_reads_and_writes_nothing(
    run: Run, inputs: list[str], weed: s3server.Weed, built: dict[str, bytes]
) -> None:
    out, env = "s3://bucket/read/only", weed.environment("reader")
    store = copy(built, open_store(out, env=weed.environment()))
    before = snapshot(store)
    assert len(run("search", out, "--like", PLACE, env=env)[1]["hits"]) == 9
    assert run("verify", out, env=env)[1]["ok"]
    line = ["build", inputs[1], "--out", out, "--recipe", inputs[-1]]
    for words in (line, ["publish", out], ["gc", out, "--delete"]):
        assert is_one_line(run(*words, env=env), out, "writing refused")
    assert snapshot(store) == before


def test_a_public_bucket_is_read_without_keys_by_s3_and_by_http(
    run: Run, weed: s3server.Weed, built: dict[str, bytes]
) -> None:
    out = "s3://public/open/archive"
    copy(built, open_store(out, env=weed.environment()))
    plain = {"AWS_ENDPOINT_URL": weed.url, "AWS_ALLOW_HTTP": "true"}
    told = [
        run(*words, env=env)[1]
        for where, env in ((out, plain), (f"{weed.url}/public/open/archive", {}))
        for words in (["search", where, "--like", PLACE], ["verify", where])
    ]
    assert told[0]["hits"] == told[2]["hits"] and len(told[0]["hits"]) == 9
    assert told[1] == told[3] and told[1]["ok"]
    assert is_one_line(run("gc", out, "--delete", env=plain), "writing refused", "not signed")


def test_a_store_that_stops_answering_ends_with_the_deadline(
    run: Run, weed: s3server.Weed, built: dict[str, bytes], hurried: float
) -> None:
    out, env = "s3://bucket/silent/a", weed.environment()
    copy(built, open_store(out, env=env))
    with weed.paused():
        began = time.monotonic()
        assert is_one_line(run("verify", out, env=env), "within 2 s, found a time-out")
        assert time.monotonic() - began < hurried + 1
    assert run("verify", out, env=env)[1]["ok"]


# ------------------------------------------------------------ what is full


@pytest.fixture
def full(weed: s3server.Weed, tmp_path: Path) -> Iterator[s3server.Weed]:
    """A SeaweedFS with room for 7 MB."""
    with s3server.serving_weed(tmp_path / "full", full_at=7) as one:
        yield one


@pytest.mark.usefixtures("hurried")
def test_a_full_bucket_is_one_line_and_the_old_generation_stays(
    run: Run, inputs: list[str], full: s3server.Weed, built: dict[str, bytes]
) -> None:
    out, env = "s3://bucket/full", full.environment()
    store = copy(built, open_store(out, env=env))
    line = ["build", inputs[1], "--out", out, "--recipe", inputs[-1]]
    for words in (["plan", *line[1:]], ["train", out], ["encode", out, "--part", "0/1"]):
        assert run(*words, env=env)[0] == 0
    other = open_store("s3://bucket/other", env=env)
    with pytest.raises(StoreUnreachable, match="HTTP 500, perhaps a full store"):
        for number in range(99):
            other.put_new(f"models/{number}", os.urandom(400_000))
    before = snapshot(store)
    for words in (line, ["commit", out]):
        assert is_one_line(run(*words, env=env), out, "perhaps a full store")
        assert snapshot(store) == before
    assert run("verify", out, env=env)[1]["ok"]


class Disk:
    """A disk with room for so many bytes, in place of os.write."""

    def __init__(self, room: int) -> None:
        self.room, self.left, self._write = room, room, os.write

    def __call__(self, handle: int, data: memoryview) -> int:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self._write(handle, data[: self.left])
        self.left -= done
        return done


def test_a_full_disk_is_one_line_and_the_old_generation_stays(
    run: Run,
    inputs: list[str],
    built: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def append(out: Path, disk: Disk) -> tuple[int, dict[str, Any], str]:
        copy(built, open_store(out))
        with monkeypatch.context() as patch:
            patch.setattr(localstore.os, "write", disk)
            return run("build", inputs[1], "--out", out, "--recipe", inputs[-1])

    levels = 64 if os.environ.get("EMBARCHIVE_TORTURE") else 6
    plenty = Disk(1 << 30)
    assert append(tmp_path / "all", plenty)[0] == 0
    for level in range(levels):
        out, disk = tmp_path / str(level), Disk(level * (plenty.room - plenty.left) // levels)
        assert is_one_line(append(out, disk), str(out), "No space left on device")
        assert disk.left == 0 and not list(out.rglob(".tmp-*"))
        assert (out / "embarchive.json").read_bytes() == built["embarchive.json"]
        assert run("verify", out)[1]["ok"]
    # The same again, with room.
    assert run("build", inputs[1], "--out", out, "--recipe", inputs[-1])[0] == 0
    assert names(open_store(out)) == names(open_store(tmp_path / "all"))
