"""The tables in the README come from the results, and results say where they come from."""

import importlib
import importlib.util
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from networks import TINY, random_chips, random_weights

from embarchive import grid, model
from embarchive.errors import BadInput

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
DEMO = Path(model.__file__).parent / "demo"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_result_says_commit_command_machine_and_date(tmp_path):
    path = load("report").save("speed", [{"n": 1, "seconds": 0.5}], tmp_path)
    document = json.loads(path.read_text())
    assert set(document) == {"name", "commit", "command", "machine", "date", "rows"}
    assert document["rows"] == [{"n": 1, "seconds": 0.5}]


def test_rows_with_different_keys_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same keys"):
        load("report").save("speed", [{"n": 1}, {"m": 1}], tmp_path)


def test_regions_are_told_beside_the_shared_network_and_archives_band_by_band():
    tables = load("tables")
    keys = "dataset region tiles test_tiles kind mse_to_shared bytes_a_tile chosen".split()
    rows = [
        dict(zip(keys, values, strict=True))
        for values in (
            ("S", "u2", 9, 3, "shared", 1.0, 0.0, False),
            ("S", "u2", 9, 3, "adapter", 0.9, 5.0, True),
            ("S", "u2", 9, 3, "full", 0.8, 500.0, False),
            ("S", "-", 9, 3, "PCA", 1.1, 64.0, None),
        )
    ]
    (line,) = tables.regions(rows)
    assert (line["adapter, error"], line["full, bytes a tile"], line["chosen"]) == (
        0.9, 500.0, "adapter",
    )  # fmt: skip
    sizes = {"vector_bytes": 64, "shard_bytes": 80.0, "model_bytes": 9, "same_networks": True}
    bands = [
        {"archive": "A", "band": band, "mse_to_tile_mean": error, "paper_mb": 1.0, **sizes}
        for band, error in (("B02", 0.5), ("B08", 0.6))
    ]
    (line,) = tables.single_band(bands)
    assert (line["B02"], line["B08"], line["vector_bytes"]) == (0.5, 0.6, 64)


def test_only_the_tables_with_a_result_are_written_anew(tmp_path):
    load("report").save("speed", [{"n": 12345, "seconds": 0.12345, "ok": True}], tmp_path)
    text = "a\n<!-- table speed -->\nold\n<!-- end speed -->\n<!-- table x -->\nb\n<!-- end x -->\n"
    filled = load("tables").fill(text, tmp_path)
    assert "| 12,345 | 0.123 | yes |" in filled
    assert "old" not in filled
    assert filled.endswith("<!-- table x -->\nb\n<!-- end x -->\n")
    assert load("tables").fill(filled, tmp_path) == filled


def test_the_table_of_storage_gives_shares_of_the_better_jpeg_2000():
    tables = load("tables")
    rows = [
        {
            "dataset": "a", "method": method, "target_bytes": 16, "rate": rate, "mse_median": mse,
            "test_cells": 120,
        }
        for method, rate, mse in (
            (tables.JPEG2000[0], "equal", 1.0),
            (tables.JPEG2000[0], "slope", 5.0),
            (tables.JPEG2000[1], "slope", 4.0),
            ("ours", "slope", 2.0),
            ("ours", "equal", 3.0),
        )
    ]  # fmt: skip
    (line,) = tables.storage(rows)
    assert (line["JPEG 2000 mse"], line["ours"], line[tables.JPEG2000[0]]) == (4.0, 0.5, 1.25)
    assert (line["dataset"], line["bytes"], line["test cells"]) == ("a", 16, 120)


def test_the_readme_is_up_to_date_with_the_results():
    assert load("tables").main(["--check"]) == 0


# ---------------------------------------------------------------- storage


@pytest.fixture
def bench(monkeypatch):
    """A module of the benchmarks that imports others of them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def made_tiles(bench, place, images, date=None):
    """Tiles of a made set at columns and rows (n, 2)."""
    from embarchive import geohash
    from embarchive.gather import Sample

    sets, place = bench("sets"), np.array(place, dtype=np.int64)
    names = geohash.from_indices(place[:, 0] + 100, place[:, 1] + 100, 5)
    valid = np.ones((len(images), *images.shape[2:]), dtype=bool)
    date = np.zeros(len(images), np.int64) if date is None else np.array(date, np.int64)
    return sets.Tiles(Sample(names, images, valid, True), images, valid, place, date, date)


def made_task(bench):
    """A field of waves in three bands that go together, split in the middle."""
    sets = bench("sets")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: 8 * 24, : 8 * 24] / 24
    field = np.stack([np.sin(x * a + y * b) for a, b in ((1, 0.3), (0.2, 2), (3, 1))])
    mix = rng.normal(size=(3, 3)) * np.array([1, 0.3, 0.05])
    field = np.einsum("bk,khw->bhw", mix, field) + 0.01 * rng.normal(size=field.shape)
    tiles = field.reshape(3, 8, 24, 8, 24).transpose(1, 3, 0, 2, 4).astype(np.float32)
    place = [(column, -row) for row in range(8) for column in range(8)]
    every = made_tiles(bench, place, tiles.reshape(64, 3, 24, 24))
    half = np.arange(64) < 32
    crop = slice(0, 24)
    return sets.Task("made", None, None, (), every.only(half), every.only(~half), (crop, crop),
                     ("a", "b", "c"), (0, 1), 1.0, 32, 32)  # fmt: skip


def test_bytes_are_spent_as_well_as_any_choice_on_the_hull_could(bench):
    coding = bench("coding")
    rng = np.random.default_rng(1)
    for _ in range(4):
        curves = []
        for _ in range(3):
            rate = np.concatenate([[0], np.cumsum(rng.integers(1, 9, 4))]).astype(float)
            curves.append(coding.Curve(rate, np.sort(rng.random(5))[::-1] * 100))
        for budget in (0, 7, 20, 60):
            chosen = coding.spend(curves, budget)
            spent = sum(c.rate[at] for c, at in zip(curves, chosen, strict=True))
            error = sum(c.error[at] for c, at in zip(curves, chosen, strict=True))
            assert spent <= budget
            # One slope is off the best choice by less than one step of one curve.
            tried = [
                sum(c.error[at] for c, at in zip(curves, some, strict=True))
                for some in itertools.product(range(5), repeat=3)
                if sum(c.rate[at] for c, at in zip(curves, some, strict=True)) <= budget
            ]
            step = max(max(-np.diff(c.error)) for c in curves)
            assert min(tried) <= error <= min(tried) + step


def test_components_keep_squared_errors_and_come_back(bench):
    coding, task = bench("coding"), made_task(bench)
    klt = coding.fit_klt(task.train.images)
    planes = klt.forward(task.test.images)
    assert np.allclose(klt.inverse(planes), task.test.images, atol=5e-3)
    energy = np.square(planes).sum(axis=(0, 2, 3))
    assert (np.diff(energy) < 0).all()
    centred = task.test.images - klt.mean.astype(np.float32)[:, None, None]
    assert energy.sum() == pytest.approx(np.square(centred).sum(), rel=2e-3)
    assert klt.bytes(2) == 2 * 3 * (1 + 2)


def test_neighbours_stay_together_in_the_picture_of_all_tiles(bench):
    coding = bench("coding")
    place = [(5, 7), (6, 7), (5, 6), (9, 9), (5, 7)]
    images = np.arange(5 * 6, dtype=np.float32).reshape(5, 1, 2, 3)
    mosaic = coding.lay_out(made_tiles(bench, place, images, date=[0, 0, 0, 0, 1]))
    assert (mosaic.cut(mosaic.lay(images[:, 0])) == images[:, 0]).all()
    east, south = mosaic.corner[1] - mosaic.corner[0], mosaic.corner[2] - mosaic.corner[0]
    assert (east.tolist(), south.tolist()) == ([0, 3], [2, 0])
    assert len({tuple(corner) for corner in mosaic.corner.tolist()}) == 5
    assert mosaic.known.sum() == images.size


def test_parameter_sets_are_shared_and_messages_free(bench):
    pytest.importorskip("imagecodecs"), pytest.importorskip("av")
    kinds = {"sps": 33, "sei": 39, "slice": 19}
    start = b"\0\0\0\1"
    units = {name: bytes([kind << 1, 1]) for name, kind in kinds.items()}
    stream = start + units["sps"] + b"12" + start + units["sei"] + b"x" * 50
    assert bench("classical").unit_bytes(stream + b"\0\0\1" + units["slice"] + b"345") == (8, 7)


@pytest.mark.parametrize("method", ["jpeg2000_tiles", "jpeg2000_scene", "hevc_scene"])
def test_classical_codecs_keep_to_their_bytes_and_use_them(bench, method):
    pytest.importorskip("imagecodecs"), pytest.importorskip("av")
    task = made_task(bench)
    coded = getattr(bench("classical"), method)(task, (8, 64))
    zero = float(
        np.square(task.test.images - task.train.images.mean(axis=(0, 2, 3))[:, None, None]).mean()
    )
    for rate in {one.rate for one in coded}:
        few, many = [one for one in coded if one.rate == rate]
        assert few.code_bytes <= 8 < many.code_bytes <= 64
        errors = [float(np.square(one.images - task.test.images).mean()) for one in (few, many)]
        assert errors[1] < 0.7 * errors[0] < 0.7 * zero
        assert 0 < few.model_bytes < 5000


def test_hevc_at_its_coarsest_is_no_worse_than_a_flat_picture(bench):
    pytest.importorskip("imagecodecs"), pytest.importorskip("av")
    y, x = np.mgrid[:128, :128] / 64
    plane = (np.sin(3 * x) * np.cos(2 * y) - 4 * (x + y > 3.5)).astype(np.float32)
    versions = list(bench("classical").hevc(plane, 400))
    errors = [float(np.square(one.image - plane).mean()) for one in versions]
    assert errors[0] < plane.var()
    assert versions[0].own < 40 < errors[0] / errors[-1] * versions[0].own
    assert max(b / a for a, b in itertools.pairwise(errors)) < 1.5


def test_vectors_beat_the_tile_mean_with_their_bases_counted(bench):
    vectors, task = bench("vectors"), made_task(bench)
    (plain,) = vectors.tile_mean(task, (8,))
    (best,) = vectors.pca(task, (8,))
    assert (plain.code_bytes, best.code_bytes, best.model_bytes) == (
        3,
        8,
        8 * (1728 + 8) + 2 * 1728,
    )
    plain, best = (float(np.square(one.images - task.test.images).mean()) for one in (plain, best))
    assert best < 0.7 * plain


def test_break_even_counts_what_the_models_take(bench):
    pytest.importorskip("imagecodecs"), pytest.importorskip("av")
    storage = bench("bench_storage")
    theirs = [
        {"mse_median": 4.0, "code_bytes": 10.0, "model_bytes": 100},
        {"mse_median": 1.0, "code_bytes": 40.0, "model_bytes": 100},
    ]
    ours = {"mse_median": 2.0, "code_bytes": 15.0, "model_bytes": 1100}
    assert storage.break_even(ours, theirs) == pytest.approx(1000 / 5)
    assert storage.break_even(ours | {"code_bytes": 25.0}, theirs) is None
    assert storage.break_even(ours | {"mse_median": 0.5}, theirs) is None


def test_break_even_stands_with_the_fidelity_code_alone(bench):
    pytest.importorskip("imagecodecs"), pytest.importorskip("av")
    storage = bench("bench_storage")
    tiles, scene = storage.JPEG2000.values()
    sizes = {
        tiles: ((4.0, 10.0, 100), (1.0, 40.0, 100)), scene: ((4.0, 5.0, 0), (1.0, 20.0, 0)),
        "embarchive code": ((2.0, 15.0, 1100),), "PCA, int8": ((2.0, 1.0, 1100),),
    }  # fmt: skip
    keys = ("mse_median", "code_bytes", "model_bytes")
    rows = [
        {"dataset": "a", "method": method, "rate": "slope", **dict(zip(keys, one, strict=True))}
        for method, some in sizes.items()
        for one in some
    ]
    rows.append(rows[0] | {"dataset": "b", "code_bytes": 1.0})
    found = storage.with_break_even(rows)
    (ours,) = (row for row in found if row["method"] == "embarchive code")
    assert ours["break_even_tiles"] == pytest.approx(200)
    assert ours["break_even_scene"] is None
    others = [row for row in found if row["method"] != "embarchive code"]
    assert {row[key] for row in others for key in storage.JPEG2000} == {None}


# ---------------------------------------------------------------- the paper's table


def test_the_papers_ratios_are_its_own_and_fall_with_its_decoders(bench):
    pytest.importorskip("scipy")
    rows = {row["storage"]: row for row in bench("bench_paper_table").paper_rows()}
    single, multi = rows["single-band VAE"], rows["multi-band VAE"]
    assert round(single["ratio, shards alone"]) == 477
    assert round(multi["ratio, shards alone"]) == 6205
    assert multi["ratio, as built"] == pytest.approx(multi["ratio, shards alone"] / 49)
    assert rows["LZW GeoTIFF"]["ratio, as built"] < 1


def test_every_file_of_an_archive_is_counted_once(bench, tmp_path):
    pytest.importorskip("scipy")
    table = bench("bench_paper_table")
    root = tmp_path / "archive"
    shutil.copytree(DEMO, root)
    found = table.disk(root)
    assert found.total == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert found.a_tile(found.tiles) == pytest.approx(found.total / found.tiles)
    assert found.shards == sum(
        path.stat().st_size
        for name in ("embeddings", "blocks")
        for path in (root / name).rglob("*")
        if path.is_file()
    )
    many = found.a_tile(10**9), found.a_tile(10**9, places=True)
    assert many[0] == pytest.approx(found.shards / found.tiles, rel=1e-3)
    assert many[1] == pytest.approx((found.shards + found.regions) / found.tiles, rel=1e-3)
    assert many[0] < many[1]
    assert sum(table.row_bytes(root).values()) * found.tiles == pytest.approx(
        found.shards, rel=1e-3
    )
    (root / "staging").mkdir()
    (root / "staging" / "left.json").write_text("{}")
    with pytest.raises(BadInput, match="staging"):
        table.disk(root)


def test_a_set_meets_the_goal_only_at_the_error_of_pca(bench):
    pytest.importorskip("scipy")
    table = bench("bench_paper_table")
    held = table.Disk(shards=1000, regions=0, rest=0, tiles=100)
    near, far = (
        table.counted(table.blank("a", "ours"), 20_000.0, held, error, 2.0)
        | {"row_bytes": {"x": 1}}
        for error in (2.0, 2.1)
    )
    assert near["ratio, 1e6 tiles"] == 2000
    assert table.judge([near]) == 0
    assert table.judge([far]) == 1
    assert table.judge([far, near]) == 0


def test_no_training_tile_of_a_set_touches_a_test_tile(bench, real_data, monkeypatch):
    sets = bench("sets")
    monkeypatch.setattr(sets, "DATA", real_data)
    task = sets.load("landsat7_nc")
    gap = np.abs(task.train.place[:, None] - task.test.place[None]).max(axis=2)
    assert gap.min() > 1
    assert task.train.images.shape[1:] == task.test.images.shape[1:]
    task = sets.load("sinop")
    assert set(task.test.date.tolist()) == {10}
    assert 10 not in task.train.date
    assert len(np.unique(task.train.date)) == 11


def test_the_gradient_mass_of_mu_is_that_of_finite_differences(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    field = load("bench_receptive_field")
    weights, chip = random_weights(TINY, "encoder"), random_chips(TINY, 1)
    # Steps of zero: nothing is rounded.
    weights["step"][:] = 0
    mass = field.masses(TINY, weights, chip)
    for y, x in ((0, 0), (7, 20), (15, 31)):
        found = np.zeros(TINY.dim)
        for band in range(TINY.bands):
            nudge = np.zeros_like(chip)
            nudge[0, band, y, x] = 1e-2 * weights["std"][band]
            ends = (model.encode_batch(TINY, weights, chip + way * nudge)[0] for way in (1, -1))
            found += abs(np.subtract(*ends)) / 2e-2
        np.testing.assert_allclose(mass[:, y, x], found, rtol=0.05, atol=2e-3 * found.max())


def test_radii_hold_their_share_of_a_mass(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    radius = load("bench_receptive_field").radius
    point = np.zeros((5, 7))
    point[2, 3] = 1
    assert radius(point, 0.9) == 0
    point[2, 6] = 1
    assert (radius(point, 0.5), radius(point, 0.51)) == (0, 3)
    wide = np.ones((200, 200))
    assert radius(wide, 0.5) == pytest.approx((0.5 * 200**2 / np.pi) ** 0.5, rel=0.01)


def test_after_a_match_only_other_differences_are_left(bench):
    change = bench("bench_change")
    before = np.random.default_rng(0).uniform(1, 9, (30, 2, 4, 4))
    brighter = before * np.array([2.0, 3.0])[:, None, None] + 5
    assert np.allclose(change.linear(brighter, before), before)
    assert np.array_equal(change.histogram(brighter**3, before), before)
    brighter[7] = brighter[8]
    sizes = change.sizes_by_pixels(before, brighter, (1, 0))
    assert sizes["pixels, linear match"].argmax() == 7
    alike = change.alike_by_pixels(before, brighter, 7)
    assert all(np.isclose(score[7], 1) for score in alike.values())
    assert change.precision(np.arange(40.0), np.arange(40) >= 30) == 0.5


def test_plants_lie_in_their_cells_and_nowhere_else(bench, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    plants = bench("plants")
    cells = grid.cells_in_bbox((13.0, 52.0, 13.05, 52.03), 6).tolist()
    sides = grid.bounds(cells)
    west, north = sides[:, 0].min(), sides[:, 3].max()
    profile = {
        "driver": "GTiff", "count": 1, "dtype": "int32", "width": 220, "height": 220,
        "crs": "EPSG:4326", "transform": rasterio.Affine(0.0005, 0, west, 0, -0.00025, north),
    }  # fmt: skip
    with rasterio.open(tmp_path / "scene.tif", "w", **profile) as scene:
        scene.write(np.arange(220 * 220, dtype=np.int32).reshape(1, 220, 220))
    plant = plants.Plant(cells[0], cells[3], 0, 0.5, (0.5, 0.5, 0.0, 0.0))
    made = plants.write_planted(str(tmp_path / "scene.tif"), tmp_path / "out", [plant])
    with rasterio.open(made) as copy:
        found = copy.read(1)
    changed = found != np.arange(220 * 220).reshape(220, 220)
    (row, column, high, wide), (row2, column2, _, _) = plants.windows(
        Path(made), cells[:4:3]
    ).tolist()
    rows, columns = np.nonzero(changed)
    assert row <= rows.min() and rows.max() < row + high
    assert column <= columns.min() and columns.max() < column + wide
    assert changed.sum() == round(high / 2) * round(wide / 2)
    assert found[rows.min(), columns.min()] == row2 * 220 + column2


# ---------------------------------------------------------------- scale


@pytest.fixture
def scale(bench, tmp_path, monkeypatch):
    """Modules of the scale tests on the plain fit, with a folder of their own."""
    monkeypatch.setenv("EMBARCHIVE_SCALE", str(tmp_path / "scale"))
    monkeypatch.setattr(bench("synthetic"), "real_rows", lambda: None)
    return bench


def test_synthetic_rows_are_the_same_again_and_neighbours_are_alike(scale):
    synthetic = scale("synthetic")
    model = synthetic.load()
    assert model.name == "plain, no real data"
    rows = synthetic.of_prefix(model, "u2e", 2)
    assert rows.shape == (32**3, 2, 64) and rows.dtype == np.int8
    assert np.array_equal(rows, synthetic.of_prefix(model, "u2e", 2))
    assert not np.array_equal(rows, synthetic.of_prefix(model, "u2e", 2, seed=1))
    wide = rows.astype(float)
    apart = ((wide[:4000] - wide[9000:13000]) ** 2).sum(axis=2).mean()
    near = ((wide[0:4000:2, 0] - wide[1:4000:2, 0]) ** 2).sum(axis=1).mean()
    dates = ((wide[:4000, 0] - wide[:4000, 1]) ** 2).sum(axis=1).mean()
    assert near < 0.7 * apart and dates < 0.8 * apart


def test_what_lies_near_in_a_prefix_is_as_likely_as_what_is_drawn_alone(scale):
    synthetic = scale("synthetic")
    model = synthetic.load()
    # A prefix has few blocks: many prefixes are what the weights are seen in.
    mean, spread = np.zeros(64), np.zeros(64)
    names = [a + b + "0" for a in "uv" for b in grid.ALPHABET[:16]]
    for name in names:
        rows = synthetic.of_prefix(model, name, 1)[::64, 0].astype(float)
        mean += rows.mean(axis=0) / len(names)
        spread += (rows**2).mean(axis=0) / len(names)
    alone = synthetic.draw(model, 40_000, 0).astype(float)
    assert np.allclose(np.sqrt(spread), np.sqrt((alone**2).mean(axis=0)), rtol=0.15)
    assert np.abs(mean - alone.mean(axis=0)).max() < 0.35 * alone.std(axis=0).max()


def test_a_fit_keeps_means_spreads_and_radii_and_has_no_flat_component(scale):
    synthetic = scale("synthetic")
    rng = np.random.default_rng(0)
    size = rng.choice([0.5, 2.0], (3000, 1))
    rows = rng.normal(size=(3000, 64)) * np.linspace(20, 3, 64) * size + 5
    real = synthetic.Real("made", 0.1, rows.astype(np.float32), np.ones(3000, dtype=bool))
    made = synthetic.draw(synthetic.fit(real, 40), 6000, 0).astype(float)
    assert np.allclose(made.std(axis=0), rows.std(axis=0), rtol=0.12)
    assert np.abs(made.mean(axis=0) - 5).max() < 2
    lengths = [np.sqrt(((some - 5) ** 2).sum(axis=1)) for some in (rows, made)]
    assert np.allclose(*(np.percentile(one, [10, 50, 90]) for one in lengths), rtol=0.2)
    model = synthetic.fit(real, 40)
    flat = np.linalg.svd(model.roots, compute_uv=False)[:, -1]
    assert flat.min() > 0.05


def test_a_synthetic_archive_holds_the_smaller_one_and_says_what_it_is(scale, tmp_path):
    from embarchive.archive import open_archive

    made, synthetic = scale("made_archive"), scale("synthetic")
    assert made.make(tmp_path / "a", 700) == 700
    assert made.make(tmp_path / "b", 901, dates=2, lean=True) == 900
    small, other = open_archive(tmp_path / "a"), open_archive(tmp_path / "b")
    assert (len(small), len(other)) == (700, 900)
    assert small.settings.title.startswith("synthetic")
    rows = small.select(columns=["geohash", "source", "embedding"])
    assert rows["geohash"].to_pylist() == list(made.cells("u00"))[:700]
    assert set(rows["source"].to_pylist()) == {"synthetic-0"}
    held = np.array(rows["embedding"].to_pylist())
    assert np.array_equal(held, synthetic.of_prefix(synthetic.load(), "u00", 1)[:700, 0])
    asked = synthetic.queries(synthetic.load(), 1)[0]
    hits = small.search(asked, k=3, exact=True)
    right = np.sort(((held - asked) ** 2).sum(axis=1))[:3]
    assert np.allclose(hits["score"].to_numpy(), right * small.spaces[-1].scale ** 2)


def test_answers_are_those_of_brute_force_and_a_recall_of_ties_is_whole(scale):
    truth, synthetic = scale("scale_truth"), scale("synthetic")
    found = truth.truth_of(70_000)
    every = np.concatenate([some for _, some in truth.portions(70_000)]).astype(float)
    assert len(every) == 70_000 == found.rows.sum()
    assert np.array_equal(found.queries, synthetic.queries(synthetic.load(), truth.ASKED))
    for query, gaps, near in zip(
        found.queries[:3].astype(float), found.gaps, found.vectors, strict=False
    ):
        right = np.sort(((every - query) ** 2).sum(axis=1))[:10]
        assert np.array_equal(gaps, right)
        assert np.array_equal(((near - query) ** 2).sum(axis=1), right)
    assert truth.recall([found.gaps[0], found.gaps[0] + 1], found.gaps[[0, 0], -1]) < 1
    assert truth.recall(list(found.gaps), found.gaps[:, -1]) == 1
    share, right = truth.by_prefix(found)
    assert right >= 0.95 and 0 < share <= 1


def test_a_share_is_that_of_the_lists_up_to_the_one_that_reaches_enough(scale):
    truth = scale("scale_truth")
    queries = np.array([[0, 0], [10, 0]], np.int8)
    means = np.array([[0, 0], [10, 0], [4, 0]], np.float32)
    nothing = np.zeros((2, 10))
    made = truth.Truth(
        queries, nothing, nothing, nothing, nothing, nothing, means, nothing, nothing
    )
    owner = np.array([[0] * 10, [1] * 9 + [2]])
    share, right = truth._share(made, means, np.array([60, 30, 10]), owner)
    assert (share, right) == (pytest.approx(0.45), 0.95)


def test_manifests_alone_open_in_few_requests_and_promises_are_judged(scale, tmp_path, capsys):
    from embarchive.archive import open_archive

    made, bench = scale("made_archive"), scale("bench_scale")
    made.make_manifest(bench.path_of("manifest", 600), 600)
    assert len(open_archive(bench.path_of("manifest", 600))) == 600 * 1024
    row = bench.open_manifest(600)
    assert row["requests"] <= 4 and row["bytes_read"] < 200_000
    whole = bench.row("embarchive", 50_000_000, "whole", bytes_read=7e6, requests=50,
                      recall10=0.96, peak_mb=900.0)  # fmt: skip
    assert bench.judge([row, whole]) == 0
    assert bench.judge([row, whole | {"recall10": 0.9}]) == 1
    assert "whole: expected" in capsys.readouterr().err
    again = bench.merged([row, whole], [whole | {"requests": 3}])
    assert [one["requests"] for one in again] == [row["requests"], 3]


def test_one_table_in_a_box_gives_the_same_rows_by_duckdb(scale):
    rivals, truth = scale("rivals"), scale("scale_truth")
    synthetic = scale("synthetic")
    duck = rivals.Duck(synthetic.folder() / "duck.parquet")
    duck.build(70_000)
    asked = synthetic.queries(synthetic.load(), truth.ASKED)[0]
    box = truth.some_boxes()[0]
    assert np.rint(duck.ask(asked, box))[-1] == truth.in_boxes()[0]
    every = np.concatenate([some for _, some in truth.portions(70_000)]).astype(float)
    right = np.sort(((every - asked) ** 2).sum(axis=1))[:10]
    assert np.array_equal(np.rint(duck.ask(asked, None)), right)
