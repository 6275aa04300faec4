"""Regions of one archive with decoders of three kinds: chosen, told, decoded, added to."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import SETTINGS
from kills import killed_runs
from test_jobs import quiet
from test_step_drift import RECIPE, write

import embarchive
from embarchive import choice, feeds, fit_regions, jobs, model, verify
from embarchive.manifest import object_path
from embarchive.rows import embeddings
from embarchive.store import open_store

AUTO = replace(RECIPE, codec="auto", region_prefix=5, steps=20, adapter_steps=20)
KINDS = ("shared", "adapter", "full")


def build(out: Path, scenes: list[Path]) -> embarchive.Archive:
    jobs.build([str(path) for path in scenes], str(out), AUTO, workers=1, progress=quiet)
    return embarchive.open_archive(out)


def cards(archive):
    """The card of each region."""
    store, found = open_store(archive.root), {}
    for row in archive.models().to_pylist():
        path = object_path("model-card", row["card_sha256"])
        found[row["region"]] = json.loads(store.get(path, limit=1 << 20))
    return found


def _shared(weights, space):
    decoder = weights.decoder(space.backbone)
    return decoder.architecture, decoder.backbone


@pytest.fixture
def scenes(tmp_path):
    return [write(tmp_path / f"field_2023060{day}.tif", day) for day in (1, 2)]


@pytest.fixture
def all_fit(monkeypatch):
    """Bytes cost nothing, so that every network is fitted."""
    monkeypatch.setattr(choice, "RATE", 1e-9)


@pytest.fixture
def in_turn(monkeypatch, all_fit):
    """Regions with held-out tiles get each kind in turn."""
    turn, real = itertools.cycle(KINDS), choice.choose

    def choose(tried, tiles, test_tiles):
        found = real(tried, tiles, test_tiles)
        return replace(found, chosen=next(turn)) if len(tried) == 3 else found

    monkeypatch.setattr(fit_regions.choice, "choose", choose)


def test_the_card_has_all_errors_and_bytes_and_the_reason(scenes, tmp_path, all_fit):
    archive = build(tmp_path / "A", scenes)
    for row in archive.models().to_pylist():
        told = cards(archive)[row["region"]]["choice"]
        assert told["chosen"] == row["kind"] == told["reason"].split(":")[0]
        assert told["test_tiles"] == row["test_tiles"]
        if row["test_tiles"] < choice.LEAST_TEST or row["train_tiles"] < 8:
            assert row["kind"] == "shared"
            continue
        shared, adapter, full = told["candidates"]
        assert min(one["mse"] for one in told["candidates"]) == row["mse"]
        assert (shared["kind"], shared["bytes"]) == ("shared", 0)
        assert 0 < adapter["bytes"] < full["bytes"] - 8 * told["tiles"]
    assert sum(told["choice"]["tiles"] for told in cards(archive).values()) == len(archive)


def test_by_the_real_rate_small_regions_share_and_leave_no_weights_behind(scenes, tmp_path):
    archive = build(tmp_path / "A", scenes)
    rows = archive.models().to_pylist()
    assert archive.info()["decoders"] == {"shared": len(rows)}
    said = {told["choice"]["reason"] for told in cards(archive).values()}
    assert any("full not fitted" in reason for reason in said)
    space = archive.spaces[-1]
    assert {path.stem for path in (tmp_path / "A" / "models").glob("*.safetensors")} == {
        space.encoder, space.backbone,
    }  # fmt: skip
    assert {row["model_id"] for row in rows} == {space.backbone}


def test_three_kinds_live_in_one_archive(scenes, tmp_path, in_turn):
    archive = build(tmp_path / "A", scenes)
    kinds = {row["model_id"]: row["kind"] for row in archive.models().to_pylist()}
    assert set(archive.info()["decoders"]) == set(kinds.values()) == set(KINDS)
    rows = archive.select(columns=["geohash", "datetime", "source", "code", "model_id", "mse"])
    for row in rows.to_pylist():
        assert (row["code"] is None) == (kinds[row["model_id"]] != "full")
        assert row["code"] is None or len(row["code"]) == archive.settings.dim
    images = archive.decode(rows)
    assert np.allclose(images[3], archive.decode(rows.slice(3, 1))[0], rtol=1e-5)
    # The shared network alone gives the rows that share it, and no others.
    z = embeddings(archive.rows_of(rows)).astype(np.float32) * archive.spaces[-1].scale
    space, weights = archive.spaces[-1], archive.weights
    plain = model.decode_batch(*_shared(weights, space), None, z)
    for row, image, other in zip(rows.to_pylist(), images, plain, strict=True):
        same = np.allclose(image, other, rtol=1e-5)
        assert same == (kinds[row["model_id"]] == "shared")
    hits = archive.search(like=[rows["geohash"][0].as_py()], k=len(rows))
    assert np.isfinite(archive.decode(hits)).all()
    fed = [tile["image"] for tile in feeds.TileDataset(archive, images=True)]
    assert np.allclose(np.stack(fed), images, rtol=1e-5)
    assert verify.verify(open_store(archive.root))["ok"]


def test_an_append_uses_each_kind_and_its_drift_makes_versions(scenes, tmp_path, in_turn):
    before = build(tmp_path / "A", scenes)
    days = (1, 2, 3)
    later = [write(tmp_path / f"field_2023100{day}.tif", 5 + day, change=True) for day in days]
    after = build(tmp_path / "A", later)
    old = {row["region"]: row["kind"] for row in before.models().to_pylist()}
    new = {row["region"]: row["kind"] for row in after.models().to_pylist()}
    changed = {(old[name], new[name]) for name in old}
    # What drifts and shares the network gets an adapter; the others stay what they are.
    assert ("shared", "adapter") in changed
    assert changed <= {*zip(KINDS, KINDS, strict=True), ("shared", "adapter")}
    assert len(after) == 2.5 * len(before)
    assert np.isfinite(after.decode(after.select())).all()
    assert verify.verify(open_store(after.root))["ok"]


def test_a_shared_region_of_another_codec_is_not_fitted_anew():
    work = fit_regions.Work(None, None, replace(SETTINGS, codec="shared"), RECIPE)
    held = fit_regions.Held({"region": "u2", "kind": "shared"}, None)
    with pytest.raises(embarchive.errors.BadInput, match="region u2: expected a decoder of its"):
        fit_regions.refit_region(work, held, None)


def test_a_build_killed_at_random_moments_completes_when_run_again(scenes, tmp_path):
    out = tmp_path / "A"
    job = f"build({[str(path) for path in scenes]!r}, {str(out)!r}, {AUTO!r}"
    for _ in killed_runs(job, 2.0, 6.0):
        pass
    archive = build(out, scenes)
    assert archive.generation == 1 and set(archive.info()["decoders"]) <= set(KINDS)
    assert verify.verify(open_store(str(out)))["ok"]
