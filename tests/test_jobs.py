"""Builds from small rasters: plan, train, encode, commit, append, conflict, bad input."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from faults import serving
from kills import killed_runs
from rasterfiles import stac_item
from rasterio import Affine

import embarchive
from embarchive import errors, headers, jobs, remotefile, verify
from embarchive.levels import make_pyramid
from embarchive.recipe import Recipe
from embarchive.store import open_store

SIDE = 200
RECIPE = Recipe(
    precision=5, gsd=240.0, region_prefix=3, dim=16, bits=64, steps=20, adapter_steps=5, batch=8
)


def quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody reads."""


def write_scene(path: Path, seed: int, bands: int = 3) -> Path:
    """A textured raster of 260 x 260 pixels at 60 m in UTM 33 N, dated by its name."""
    rng = np.random.default_rng(seed)
    field = rng.normal(0, 1, (bands, SIDE // 4, SIDE // 4)).repeat(4, 1).repeat(4, 2)
    pixels = (2000 + 400 * field + rng.normal(0, 50, (bands, SIDE, SIDE))).astype(np.uint16)
    place = Affine(60, 0, 500_000, 0, -60, 5_100_000)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=SIDE,
        height=SIDE,
        count=bands,
        dtype="uint16",
        crs="EPSG:32633",
        transform=place,
        nodata=0,
    ) as out:
        out.write(pixels)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scenes") / "field_20230601.tif", 1)


@pytest.fixture(scope="module")
def built(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "archive"
    jobs.build([str(scene)], str(out), RECIPE, workers=1, progress=quiet)
    return out


def rows_of(archive: Path) -> list[dict[str, Any]]:
    columns = ["geohash", "datetime", "source", "input_digest", "embedding"]
    return list(embarchive.open_archive(archive).select(columns=columns).to_pylist())


def test_a_build_gives_an_archive_that_verifies(built: Path) -> None:
    archive = embarchive.open_archive(built)
    assert archive.generation == 1
    assert len(archive) >= 4
    assert verify.verify(open_store(built))["ok"]


def test_a_build_whose_code_collapses_ends_with_one_line_and_no_archive(
    scene: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, beta=1e3, steps=100)
    with pytest.raises(errors.BadInput, match=r"12 of 12 .* at beta 1000; lower beta$") as caught:
        jobs.build([str(scene)], str(tmp_path / "a"), recipe, workers=1, progress=quiet)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a" / "embarchive.json").exists()


def test_an_archive_says_what_its_training_aimed_at_and_what_collapsed(
    scene: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, bands=("red", "nir", "green"), index_weight=0.5)
    cards = []
    for at, some in enumerate((recipe, replace(recipe, index_weight=0.0))):
        out = tmp_path / str(at)
        jobs.build([str(scene)], str(out), some, workers=1, progress=quiet)
        archive = embarchive.open_archive(out)
        assert archive.info()["spaces"][0]["trained"]["collapsed"] == 0
        row = archive.models().to_pylist()[0]
        cards.append(json.loads((out / f"models/{row['card_sha256']}.json").read_text()))
        assert row["index_mae"] is None or 0 < row["index_mae"] < 1
    pairs = {"ndvi": ["nir", "red"], "ndwi": ["green", "nir"]}
    assert [card["indices"] for card in cards] == [pairs, pairs]
    assert [card["training"]["index_weight"] for card in cards] == [0.5, 0.0]
    # Aiming at them makes other networks.
    assert cards[0]["model"]["backbone"] != cards[1]["model"]["backbone"]


def test_tiles_are_found_and_decoded_near_their_originals(built: Path) -> None:
    archive = embarchive.open_archive(built)
    query = archive.select(columns=["geohash"])["geohash"][3].as_py()
    hits = archive.search(like=[query], k=5)
    assert len(hits) == 5
    images = archive.decode(hits)
    s = archive.settings
    assert images.shape == (5, 3, s.height, s.width)
    assert 1000 < float(images.mean()) < 3000


def contents(archive: Path) -> set[str]:
    """Names of what is named by its bytes, but for the generation, which says when it was made."""
    found = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    return {name for name in found if headers.content_digest(name) and ".json" not in name}


def test_scenes_on_the_network_give_the_same_archive(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotefile, "_servers", {})
    with serving() as server:
        server.objects["/bucket/far/x.tif"] = scene.read_bytes()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        places = {"near": scene.name, "http": f"{server.url}/bucket/far/x.tif"}
        places["s3"] = "s3://bucket/far/x.tif"
        for name, href in places.items():
            item = stac_item("field", {"data": {"href": href}})
            listed = scene.parent / f"{name}.json"
            listed.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
            jobs.build([str(listed)], str(tmp_path / name), RECIPE, workers=1, progress=quiet)
        sent = sum(path == "/bucket/far/x.tif" for _, path in server.seen)
    near, http, s3 = (contents(tmp_path / name) for name in places)
    assert near == http == s3 and len(near) > 5
    assert 2 < sent < 60


def test_the_same_build_again_adds_nothing(built: Path, scene: Path) -> None:
    before = rows_of(built)
    again = jobs.build([str(scene)], str(built), RECIPE, workers=1, progress=quiet)
    assert again["generation"] == 1
    assert rows_of(built) == before


def test_added_dates_append_and_rewrite_no_shard(scene: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "archive"
    jobs.build([str(scene)], str(out), RECIPE, workers=1, progress=quiet)
    old = {path: path.read_bytes() for path in out.glob("embeddings/*/*.parquet")}
    later = write_scene(tmp_path / "field_20230711.tif", 2)
    done = jobs.build([str(later)], str(out), RECIPE, workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    assert done["generation"] == archive.generation == 2
    assert len(archive) == 2 * len(embarchive.open_archive(built))
    assert all(path.read_bytes() == data for path, data in old.items())
    assert verify.verify(open_store(out))["ok"]


def test_added_dates_and_spaces_are_in_the_pyramid(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "archive"
    jobs.build([str(scene)], str(out), RECIPE, workers=1, progress=quiet)
    make_pyramid(open_store(out), progress=quiet)
    later = write_scene(tmp_path / "field_20230711.tif", 2)
    jobs.build([str(later)], str(out), RECIPE, workers=1, progress=quiet)
    jobs.reencode([str(scene)], str(out), replace(RECIPE, seed=3), workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    assert archive.generation == 4 and len(archive.spaces) == 2
    for space, dates in zip(archive.spaces, (2, 1), strict=True):
        cells = archive.pyramid(1, space=space.space_id)
        assert cells["count"].to_pylist() == [dates * len(archive) // 3]
        assert archive.decode(cells).shape[:2] == (1, 3)
    assert verify.verify(open_store(out))["ok"]
    assert not make_pyramid(open_store(out), progress=quiet)["made"]


def test_other_pixels_of_a_stored_scene_are_a_conflict(built: Path, tmp_path: Path) -> None:
    other = write_scene(tmp_path / "field_20230601.tif", 3)
    with pytest.raises(errors.Conflict, match="expected the stored input"):
        jobs.build([str(other)], str(built), RECIPE, workers=1, progress=quiet)


def test_parts_of_a_plan_give_the_rows_of_one_build(
    scene: Path, built: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "archive")
    recipe = RECIPE
    made = jobs.plan([str(scene)], out, recipe, parts=2)
    with pytest.raises(errors.BadInput, match="run train --backbone first"):
        jobs.train(out, plan=None, part=(0, 2), backbone=False, progress=quiet)
    jobs.train(out, plan=made["plan"], part=None, backbone=True, progress=quiet)
    for part in range(2):
        jobs.train(out, plan=None, part=(part, 2), backbone=False, progress=quiet)
    with pytest.raises(errors.BadInput, match="shards missing"):
        jobs.commit(out, plan=None, progress=quiet)
    for part in range(2):
        jobs.encode(out, plan=None, part=(part, 2), progress=quiet)
    jobs.commit(out, plan=None, progress=quiet)
    assert rows_of(Path(out)) == rows_of(built)


def test_worker_processes_give_the_rows_of_one(scene: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "archive"
    jobs.build([str(scene)], str(out), RECIPE, workers=2, progress=quiet)
    assert [row["geohash"] for row in rows_of(out)] == [row["geohash"] for row in rows_of(built)]


def test_whole_networks_a_region_decode_from_their_code(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "archive"
    recipe = replace(RECIPE, codec="full")
    jobs.build([str(scene)], str(out), recipe, workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    rows = archive.select(columns=["geohash", "datetime", "source", "code"])
    assert set(archive.models()["kind"].to_pylist()) == {"full"}
    assert all(len(code) == 16 for code in rows["code"].to_pylist())
    s = archive.settings
    images = archive.decode(rows.slice(0, 4))
    assert images.shape == (4, 3, s.height, s.width)
    assert 1000 < float(images.mean()) < 3000


def test_a_dry_run_writes_nothing(scene: Path, tmp_path: Path) -> None:
    said = jobs.dry_run([str(scene)], str(tmp_path / "archive"), RECIPE)
    assert said["tiles"] >= 4
    assert said["bytes"] > 0
    assert not (tmp_path / "archive").exists()


def test_a_dry_run_is_near_what_the_build_gives(scene: Path, built: Path, tmp_path: Path) -> None:
    said = jobs.dry_run([str(scene)], str(tmp_path / "archive"), RECIPE)
    info = embarchive.open_archive(built).info()
    assert 0.5 < said["tiles"] / info["tiles"] < 2
    assert 0.5 < said["bytes"] / info["bytes"]["total"] < 2


def test_scenes_without_data_leave_no_plan(tmp_path: Path) -> None:
    empty = write_scene(tmp_path / "field_20230601.tif", 1)
    with rasterio.open(empty, "r+") as out:
        out.write(np.zeros((3, SIDE, SIDE), np.uint16))
    with pytest.raises(errors.BadInput, match="expected tiles that are data"):
        jobs.build([str(empty)], str(tmp_path / "A"), RECIPE, workers=1, progress=quiet)
    assert not (tmp_path / "A").exists()


def test_too_many_bands_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    stack = write_scene(tmp_path / "stack.tif", 1, bands=65)
    with pytest.raises(errors.BadInput, match="at most 64 bands, found 65"):
        jobs.plan([str(stack)], str(tmp_path / "A"), RECIPE, parts=1)
    assert not (tmp_path / "A").exists()


BAD: dict[str, Callable[[Path], list[str]]] = {
    "no such file": lambda folder: [str(folder / "absent.tif")],
    "another kind of file": lambda folder: [_text(folder / "words.tif")],
    "found none": lambda folder: [str(folder)],
}


@pytest.mark.parametrize("said", BAD)
def test_bad_scenes_are_one_line_and_leave_nothing(said: str, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    with pytest.raises(errors.EmbarchiveError) as caught:
        jobs.build(BAD[said](folder), str(tmp_path / "A"), RECIPE, workers=1, progress=quiet)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "A").exists()


def test_a_build_killed_at_random_moments_completes_when_run_again(
    scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "archive"
    job = f"build([{str(scene)!r}], {str(out)!r}, {RECIPE!r}"
    for _ in killed_runs(job, 1.0, 6.0, 4):
        if (out / "embarchive.json").exists():
            assert embarchive.open_archive(out).generation == 1
    jobs.build([str(scene)], str(out), RECIPE, workers=1, progress=quiet)
    assert embarchive.open_archive(out).generation == 1
    assert verify.verify(open_store(out))["ok"]


def _text(path: Path) -> str:
    path.write_text("not a raster")
    return str(path)
