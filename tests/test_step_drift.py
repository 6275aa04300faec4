"""Appends to archives whose decoders no longer fit, or still do: what is fitted anew, and kept."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from kills import killed_runs
from rasterio import Affine
from test_jobs import quiet

import embarchive
from embarchive import errors, fit_regions, jobs, step_drift, verify
from embarchive.recipe import Recipe
from embarchive.store import open_store

SIDE = 240
RECIPE = Recipe(
    precision=6, gsd=80.0, region_prefix=3, dim=8, bits=64, steps=40, adapter_steps=40, batch=8
)


def write(path: Path, seed: int, change: bool = False, cloud: bool = False) -> Path:
    """Fields of 240 x 240 pixels at 60 m, the same at every seed but for the noise. changed: bands
    one and two trade half of their contrast. cloud: a band of no data over half of each row."""
    field = np.random.default_rng(1).normal(0, 1, (3, SIDE // 4, SIDE // 4))
    field = field.repeat(4, 1).repeat(4, 2)
    if change:
        field = np.stack([0.3 * field[0] - field[1], -field[1], 2 * field[2]])
    noise = np.random.default_rng(seed).normal(0, 30, (3, SIDE, SIDE))
    pixels = (2000 + 400 * field + noise).clip(1).astype(np.uint16)
    if cloud:
        pixels[:, :, ::2] = 0
    place = Affine(60, 0, 500_000, 0, -60, 5_100_000)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint16",
        crs="EPSG:32633", transform=place, nodata=0,
    ) as out:  # fmt: skip
        out.write(pixels)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An archive of one date, and the folder of its scenes."""
    folder = tmp_path_factory.mktemp("drift")
    scene = write(folder / "field_20230601.tif", 1)
    jobs.build([str(scene)], str(folder / "A"), RECIPE, workers=1, progress=quiet)
    return folder


@pytest.fixture
def archive(base, tmp_path):
    return Path(shutil.copytree(base / "A", tmp_path / "A"))


def append(archive, scene, recipe=RECIPE, **more):
    return jobs.build([str(scene)], str(archive), recipe, workers=1, progress=quiet, **more)


def models_by_date(archive):
    rows = embarchive.open_archive(archive).select(columns=["datetime", "model_id"]).to_pylist()
    return {row["datetime"].month: set() for row in rows} | {
        month: {row["model_id"] for row in rows if row["datetime"].month == month}
        for month in {row["datetime"].month for row in rows}
    }


def drift_of(archive):
    return embarchive.open_archive(archive).info()["spaces"][-1]["trained"].get("drift")


def test_a_date_like_those_before_keeps_the_decoders(archive, tmp_path):
    append(archive, write(tmp_path / "field_20230701.tif", 2))
    found = models_by_date(archive)
    assert found[6] == found[7]
    said = drift_of(archive)
    assert said["watched"] >= 1
    assert said["drifted"] == said["refitted"] == said["reencode"] == 0


def test_a_changed_date_gets_a_version_and_old_rows_keep_theirs(archive, tmp_path, caplog):
    before = models_by_date(archive)[6]
    with caplog.at_level(logging.WARNING, "embarchive"):
        append(archive, write(tmp_path / "field_20231001.tif", 2, change=True))
    found = models_by_date(archive)
    assert found[6] == before
    assert found[10] and not found[10] & before
    said = drift_of(archive)
    assert said["drifted"] >= said["refitted"] >= 1
    worst = said["worst"][0]
    assert worst["after"] < worst["before"]
    assert any("with a new decoder now" in line for line in caplog.messages)
    assert verify.verify(open_store(archive))["ok"]
    opened = embarchive.open_archive(archive)
    s = opened.settings
    rows = opened.select(columns=["geohash", "datetime", "source"])
    assert opened.decode(rows).shape == (len(rows), 3, s.height, s.width)


def test_the_newest_version_of_a_region_stands_last_and_is_used_next(archive, tmp_path):
    append(archive, write(tmp_path / "field_20231001.tif", 2, change=True))
    newest = models_by_date(archive)[10]
    append(archive, write(tmp_path / "field_20231101.tif", 3, change=True))
    assert models_by_date(archive)[11] == newest
    assert drift_of(archive)["drifted"] == 0
    last = {row["region"]: row for row in embarchive.open_archive(archive).models().to_pylist()}
    assert newest <= {row["model_id"] for row in last.values()}
    cards = [json.loads((archive / f"models/{r['card_sha256']}.json").read_text())
             for r in last.values() if r["model_id"] in newest]  # fmt: skip
    assert all(card["start"] and card["start"] != card["model"]["model_id"] for card in cards)


def test_the_same_append_again_adds_nothing(archive, tmp_path):
    scene = write(tmp_path / "field_20231001.tif", 2, change=True)
    first = append(archive, scene)
    before = embarchive.open_archive(archive).models().to_pylist()
    again = append(archive, scene)
    assert again["generation"] == first["generation"]
    assert embarchive.open_archive(archive).models().to_pylist() == before


def test_a_version_that_is_not_better_is_not_kept(archive, tmp_path, monkeypatch):
    real = fit_regions.refit_region

    def worse(*given):
        row, _ = real(*given)
        return row, row["mse"] / 2

    monkeypatch.setattr(step_drift.fit_regions, "refit_region", worse)
    append(archive, write(tmp_path / "field_20231001.tif", 2, change=True))
    found = models_by_date(archive)
    assert found[6] == found[10]
    assert drift_of(archive)["refitted"] == 0


def test_a_bound_of_0_watches_nothing(archive, tmp_path):
    scene = write(tmp_path / "field_20231001.tif", 2, change=True)
    append(archive, scene, replace(RECIPE, drift=0.0))
    found = models_by_date(archive)
    assert found[6] == found[10]
    assert drift_of(archive) is None


def test_clouded_tiles_do_not_count(archive, tmp_path):
    scene = write(tmp_path / "field_20231001.tif", 2, change=True, cloud=True)
    append(archive, scene)
    found = models_by_date(archive)
    assert found[6] == found[10]
    assert drift_of(archive) is None


def test_a_drift_that_no_decoder_mends_is_said(archive, tmp_path, caplog):
    odd = write(tmp_path / "field_20231001.tif", 2, change=True)
    with rasterio.open(odd, "r+") as out:
        noise = np.random.default_rng(5).integers(1, 60_000, (3, SIDE, SIDE))
        out.write(noise.astype(np.uint16))
    with caplog.at_level(logging.WARNING, "embarchive"):
        append(archive, odd)
    assert drift_of(archive)["reencode"] >= 1
    assert any("only reencode would" in line for line in caplog.messages)


def test_whole_networks_get_versions_and_a_shared_one_none(base, tmp_path):
    later = write(tmp_path / "field_20231001.tif", 2, change=True)
    for codec in ("full", "shared"):
        out, recipe = tmp_path / codec, replace(RECIPE, codec=codec)
        append(out, base / "field_20230601.tif", recipe)
        append(out, later, recipe)
        found = models_by_date(out)
        assert (found[6] == found[10]) == (codec == "shared")
        assert verify.verify(open_store(out))["ok"]


def test_encode_asks_for_the_watch_and_parts_give_what_one_build_does(archive, base, tmp_path):
    scene = write(tmp_path / "field_20231001.tif", 2, change=True)
    out = str(archive)
    jobs.plan([str(scene)], out, RECIPE, parts=2)
    with pytest.raises(errors.BadInput, match=r"expected a watch of region .*; run train first"):
        jobs.encode(out, plan=None, part=None, progress=quiet)
    for part in range(2):
        jobs.train(out, plan=None, part=(part, 2), backbone=False, progress=quiet)
    for part in range(2):
        jobs.encode(out, plan=None, part=(part, 2), progress=quiet)
    jobs.commit(out, plan=None, progress=quiet)
    other = Path(shutil.copytree(base / "A", tmp_path / "B"))
    append(other, scene)
    assert models_by_date(archive) == models_by_date(other)


def test_an_append_killed_while_it_fits_a_version_completes_when_run_again(archive, tmp_path):
    scene = write(tmp_path / "field_20231001.tif", 2, change=True)
    job = f"build([{str(scene)!r}], {str(archive)!r}, {RECIPE!r}"
    for _ in killed_runs(job, 2.0, 6.0):
        assert embarchive.open_archive(archive).generation in (1, 2)
    append(archive, scene)
    assert embarchive.open_archive(archive).generation == 2
    found = models_by_date(archive)
    assert not found[6] & found[10]
    assert verify.verify(open_store(archive))["ok"]
