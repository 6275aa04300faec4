"""A second embedding space beside the first: rows of both, and readers that use the newest."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kills import killed_runs
from test_jobs import RECIPE, quiet, write_scene

import embarchive
from embarchive import errors, jobs, sql, verify
from embarchive.feeds import TileDataset
from embarchive.store import open_store

WEB = Path(__file__).parent.parent / "web"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive of two dates in one space, the second of which is in a newer one too."""
    folder = tmp_path_factory.mktemp("spaces")
    scenes = [
        str(write_scene(folder / f"field_2023{day}.tif", seed))
        for seed, day in ((1, "0601"), (2, "0711"))
    ]
    out = str(folder / "A")
    jobs.build(scenes, out, RECIPE, workers=1, progress=quiet)
    old = embarchive.open_archive(out)
    done = jobs.reencode(scenes[1:], out, RECIPE, workers=1, progress=quiet)
    return Path(out), old, done, scenes


def test_both_spaces_stand_and_every_byte_verifies(made):
    root, old, done, _ = made
    archive = embarchive.open_archive(root)
    first, second = archive.spaces
    assert done["space_id"] == second.space_id != first.space_id
    assert first.trained == old.space().trained
    assert len(archive) == len(old) + len(old) // 2
    assert archive.info()["places"] == old.info()["places"]
    assert archive.head.generation.scenes == old.head.generation.scenes
    assert verify.verify(open_store(root))["ok"]


def test_a_selection_has_each_tile_once_in_the_newest_space(made):
    root, old, _, _ = made
    archive = embarchive.open_archive(root)
    newest = archive.select(columns=["geohash", "datetime", "source", "embedding"])
    assert len(newest) == len(old) // 2
    assert len(set(newest["geohash"].to_pylist())) == len(newest)
    columns = ["geohash", "datetime", "source", "embedding", "model_id"]
    held = archive.select(columns=columns, space=archive.spaces[0].space_id)
    assert held.equals(old.select(columns=columns))
    with pytest.raises(errors.BadInput, match="space: expected one of"):
        archive.select(space="nope")


def test_a_search_stays_in_its_space_and_its_hits_decode_there(made):
    root, old, _, _ = made
    archive = embarchive.open_archive(root)
    query = archive.select(columns=["geohash"])["geohash"][2].as_py()
    first, second = archive.spaces
    now = archive.search(like=[query], k=4)
    then = archive.search(like=[query], k=4, space=first.space_id)
    assert now.schema.metadata[b"space_id"].decode() == second.space_id
    assert then.to_pylist() == old.search(like=[query], k=4).to_pylist()
    assert np.array_equal(archive.decode(then), old.decode(then))
    assert not np.array_equal(archive.decode([query]), old.decode([f"{query}@2023-07-11"]))
    ids = {row["model_id"]: row["space_id"] for row in archive.models().to_pylist()}
    assert {ids[name] for name in now["model_id"].to_pylist()} == {second.space_id}


def test_sql_sees_one_space_and_finds_what_a_search_does(made):
    root, old, _, _ = made
    archive = embarchive.open_archive(root)
    first, second = (space.space_id for space in archive.spaces)
    text = "SELECT space_id, count(*) AS n FROM tiles GROUP BY ALL"
    assert sql.run(archive.sql(), text).to_pylist() == [{"space_id": second, "n": len(old) // 2}]
    held = sql.run(archive.sql(space=first), text).to_pylist()
    assert held == [{"space_id": first, "n": len(old)}]
    query = archive.select(columns=["geohash"])["geohash"][2].as_py()
    for space in (None, first):
        hits = archive.search(like=[query], k=4, space=space)
        asked = sql.search_sql(archive, [query], k=4, space=space)
        found = sql.run(archive.sql(space=space), asked)
        assert found["geohash"].to_pylist() == hits["geohash"].to_pylist()


def test_a_feed_gives_the_newest_space(made):
    root, old, _, _ = made
    assert len(list(TileDataset(root))) == len(old) // 2


def test_an_append_goes_into_the_newest_space(made, tmp_path):
    root, old, _, scenes = made
    out = shutil.copytree(root, tmp_path / "A")
    done = jobs.build(scenes, str(out), RECIPE, workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    assert done["added"] == len(old) // 2
    assert len(archive.select()) == len(old)
    assert archive.info()["places"] == old.info()["places"]


def test_the_same_again_is_the_same_space_adds_nothing_and_says_so(made, caplog):
    root, _, done, scenes = made
    again = jobs.reencode(scenes[1:], str(root), RECIPE, workers=1, progress=quiet)
    assert any("which the archive has already" in line for line in caplog.messages)
    assert (again["space_id"], again["generation"]) == (done["space_id"], done["generation"])
    assert again["added"] == 0


def test_regions_of_two_spaces_have_models_of_their_own(made):
    table = embarchive.open_archive(made[0]).models().to_pylist()
    assert len({row["model_id"] for row in table}) == len(table)


def test_a_space_that_was_killed_while_it_was_made_completes_when_run_again(made, tmp_path):
    root, old, _, scenes = made
    out, other = shutil.copytree(root, tmp_path / "A"), replace(RECIPE, seed=3)
    job = f"reencode({scenes!r}, {str(out)!r}, {other!r}"
    for _ in killed_runs(job, 2.0, 6.0):
        assert embarchive.open_archive(out).generation in (2, 3)
    jobs.reencode(scenes, str(out), other, workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    assert (archive.generation, len(archive.spaces)) == (3, 3)
    assert len(archive.select()) == len(old)
    assert verify.verify(open_store(out))["ok"]


def test_there_must_be_an_archive(tmp_path, made):
    with pytest.raises(errors.NotAnArchive):
        jobs.reencode(made[3], str(tmp_path / "no"), RECIPE, workers=1, progress=quiet)


def test_the_page_selects_and_finds_in_the_newest_space(made):
    root, old, _, _ = made
    archive = embarchive.open_archive(root)
    query = archive.select(columns=["geohash"])["geohash"][2].as_py()
    code = f"""
        import {{ openArchive }} from "{WEB}/viewer/archive.js";
        import {{ loadKernels }} from "{WEB}/viewer/kernels.js";
        import {{ folderFetch, kernels, ROOT }} from "{WEB}/tests/folders.js";
        await loadKernels(kernels);
        const {{ fetch }} = folderFetch(new URL("file://{root}/"));
        const archive = await openArchive(ROOT, {{ fetch }});
        const rows = await archive.select();
        const {{ hits, spaceId }} = await archive.search({{ like: ["{query}"], k: 4 }});
        console.log(JSON.stringify([rows.n, hits.geohash, [...hits.score], spaceId]));
    """
    asked = ["node", "--input-type=module", "-e", code]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hits = archive.search(like=[query], k=4)
    expected = [hits["geohash"].to_pylist(), hits["score"].to_pylist()]
    assert json.loads(done.stdout) == [len(old) // 2, *expected, archive.space().space_id]
