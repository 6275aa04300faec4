"""A quality asked for is met on tiles that were not fitted to; an archive built with one decodes
nearer to its scenes, says so, and appends with it."""

from dataclasses import replace

import numpy as np
import pytest
from fields import make_tiles
from test_jobs import RECIPE, quiet, write_scene

import embarchive
from embarchive import fit_layer, grid, jobs
from embarchive.errors import BadInput
from embarchive.recipe import Quality, Recipe, parse_quality

CHIPS = grid.ChipGrid(6, 40.0, 32, 32)


def tiles(n, seed=0, near=0.0):
    names = grid.cells_in_bbox((10, 46, 10.6, 46.4), 6)[:n]
    pixels = make_tiles(n, height=32, width=32, seed=seed)
    blurred = pixels.mean(axis=(2, 3), keepdims=True) + 0 * pixels
    decoded = pixels * near + blurred * (1 - near)
    return fit_layer.Tiles(names, pixels, decoded, np.ones(n), np.zeros(n, np.int64))


def fitted(text, some):
    recipe = Recipe(steps=20)
    return fit_layer.fit(CHIPS, some, parse_quality(text), 60.0, recipe, lambda done, total: None)


def measured(made, some):
    streams = made.write(some.pixels, some.decoded)
    block = (..., *made.block(32, 32))
    gap = (made.apply(some.decoded, streams) - some.pixels)[block]
    return np.array([len(stream) for stream in streams]), (gap**2).mean()


def test_a_number_of_bytes_is_met():
    sizes, _ = measured(fitted("24 bytes", tiles(200)), tiles(80, 1))
    assert sizes.mean() == pytest.approx(24, rel=0.15)


def test_bytes_at_most_are_kept_by_every_tile():
    sizes, _ = measured(fitted("at most 24 bytes", tiles(120)), tiles(80, 1))
    assert sizes.max() <= 24 and sizes.mean() > 15


def test_an_error_is_met():
    for text, wanted in (("mse 3", 3), ("psnr 30", 3.6)):
        _, error = measured(fitted(text, tiles(200)), tiles(80, 1))
        assert 0.5 * wanted < error < 1.15 * wanted


def test_it_is_of_what_is_cheaper():
    assert fitted("mse 3", tiles(80, near=0.9)).basis == "embedding"
    other = tiles(80, near=1.0)
    worse = replace(other, decoded=other.decoded[::-1])
    assert fitted("mse 3", worse).basis == "pixels"


def test_the_block_holds_every_cell():
    names = tiles(100).geohash
    height, width = fit_layer.block_of(CHIPS, names)
    first, end, left, right = CHIPS.crops(names).T
    top, west = (32 - height) // 2, (32 - width) // 2
    assert height % 2 == width % 2 == 0 and height <= 32 and width <= 32
    assert top <= first.min() and end.max() <= top + height
    assert west <= left.min() and right.max() <= west + width


def test_too_few_tiles_are_said():
    with pytest.raises(BadInput, match="at least 32 training tiles"):
        fitted("24 bytes", tiles(20))


@pytest.mark.parametrize("text", ["32", "32 bits", "at most 3 bytes", "mse 0", "psnr 99", "mse -1"])
def test_what_is_no_quality_is_refused(text):
    with pytest.raises(BadInput, match="quality"):
        Recipe(quality=text)


def test_qualities():
    assert parse_quality("") is None
    assert parse_quality("32 bytes") == Quality("bytes", 32)
    assert parse_quality("at most 64 bytes") == Quality("most", 64)
    assert parse_quality("mse 4e-4") == Quality("mse", 4e-4)


@pytest.mark.parametrize("codec", ["adapter", "full"])
def test_an_archive_with_a_code(codec, tmp_path):
    scene = write_scene(tmp_path / "field_20230601.tif", 1)
    recipe = Recipe(
        precision=6, gsd=60.0, region_prefix=4, dim=8, bits=32, steps=20, adapter_steps=5, batch=8,
        quality="60 bytes", codec=codec,
    )  # fmt: skip
    plain = Recipe(**{**recipe.__dict__, "quality": ""})
    error = {}
    for name, one in (("coded", recipe), ("plain", plain)):
        jobs.build([str(scene)], str(tmp_path / name), one, workers=1, progress=quiet)
        archive = embarchive.open_archive(tmp_path / name)
        rows = archive.select(columns=["mse", "geohash", "datetime", "source"])
        error[name] = float(np.mean(rows["mse"].to_numpy()))
    coded = embarchive.open_archive(tmp_path / "coded")
    assert error["coded"] < 0.5 * error["plain"]
    space = coded.info()["spaces"][0]
    assert space["quality"] == "60 bytes"
    said = space["trained"]["code"]
    assert said["basis"] in ("pixels", "embedding") and said["mse"] < error["plain"]
    # What a row says of its decode is what a reader finds.
    table = coded.select(columns=["embedding", "code", "model_id", "mse", "geohash"])
    sizes = np.array([len(code) for code in table["code"].to_pylist()])
    assert sizes.mean() == pytest.approx(60 + 8 * (codec == "full"), rel=0.3)
    with pytest.raises(BadInput, match="column code"):
        embarchive.decode.decode_rows(coded.weights.decoder, table.drop(["code"]))
    again = write_scene(tmp_path / "field_20230701.tif", 2)
    jobs.build([str(again)], str(tmp_path / "coded"), recipe, workers=1, progress=quiet)
    more = embarchive.open_archive(tmp_path / "coded")
    assert more.generation == 2 and len(more) == 2 * len(coded)
    assert np.isfinite(more.decode(more.select())).all()
    other = Recipe(**{**recipe.__dict__, "quality": "20 bytes"})
    with pytest.raises(BadInput, match="quality"):
        jobs.build([str(again)], str(tmp_path / "coded"), other, workers=1, progress=quiet)


def test_too_few_tiles_for_a_code_stop_a_build_before_anything_is_there(tmp_path):
    scene = write_scene(tmp_path / "field_20230601.tif", 1)
    recipe = Recipe(**{**RECIPE.__dict__, "quality": "30 bytes"})
    with pytest.raises(BadInput, match="training tiles"):
        jobs.build([str(scene)], str(tmp_path / "out"), recipe, workers=1, progress=quiet)
    assert not (tmp_path / "out" / "embarchive.json").exists()


def test_a_step_is_chosen_by_tiles_that_no_network_has_seen():
    # What the embedding decodes to is nearer to the tiles that it was trained on.
    train, left_out = tiles(200, near=0.9), tiles(160, 1, near=0.6)
    seen, test = fit_layer.halves(left_out)
    assert not set(seen.geohash) & set(test.geohash)
    asked = parse_quality("mse 3")
    made, blind = (
        fit_layer.fit(CHIPS, train, asked, 60.0, Recipe(steps=20), lambda *at: None, by)
        for by in (seen, None)
    )
    assert 1.5 < measured(made, test)[1] < 3 * 1.15 < measured(blind, test)[1]


def test_few_tiles_left_out_all_state_the_error():
    few = tiles(40)
    assert fit_layer.halves(few) == (None, few)
