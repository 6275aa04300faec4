"""Tiles on their own and dates of a place together, in one space: what is written is read, from
the row of any date."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fields import make_tiles
from test_jobs import quiet, write_scene

import embarchive
from embarchive import codes, fit_fidelity, fit_layer, jobs, resolve
from embarchive.codes import Codes, Shared, complete, slots
from embarchive.errors import BadInput, Damaged
from embarchive.layer import Layer, dump_layer, load_layer
from embarchive.recipe import Recipe

DAYS = ("2023-06-01T00:00:00+00:00", "2023-06-09T00:00:00+00:00", "2023-07-01T00:00:00+00:00")


def make_stacks(n, seed=0):
    """Places on three dates: one field, dimmed and with its own noise (n, 3, 3, 32, 32)."""
    field = make_tiles(n, height=32, width=32, seed=seed)
    rng = np.random.default_rng(seed + 50)
    days = [field * shade + rng.normal(0, 0.3, field.shape) for shade in (1, 0.8, 1.2)]
    return np.stack(days, axis=1).astype(np.float32)


def make_codes(basis="pixels"):
    stacks = make_stacks(80)
    decoded = np.repeat(np.repeat(stacks.mean(axis=(3, 4), keepdims=True), 32, 3), 32, 4)
    rest = (stacks - decoded if basis == "embedding" else stacks)[..., 4:28, 6:26]
    place = Layer(fit_fidelity.fit(rest.reshape(80, 9, 24, 20), 4.0), basis, dates=DAYS)
    tile = Layer(fit_fidelity.fit(rest.reshape(240, 3, 24, 20), 4.0), basis)
    return Codes(tile, place)


@pytest.mark.parametrize("basis", ["pixels", "embedding"])
def test_rows_of_a_place_decode_from_its_stream(basis):
    made, stacks = make_codes(basis), make_stacks(6, seed=1)
    decoded = np.repeat(np.repeat(stacks.mean(axis=(3, 4), keepdims=True), 32, 3), 32, 4)
    streams = codes.share(made.place, stacks, decoded)
    for slot, day in enumerate(DAYS):
        chips, below = stacks[:, slot], decoded[:, slot]
        # The last place has no stream of its own.
        shared = [Shared(stream, slot) for stream in streams[:5]] + [None]
        texts = made.write(chips, below, shared)
        assert [text[:1] for text in texts] == [codes.PLACE] * 5 + [codes.TILE]
        found = made.apply(below, texts, [day] * 6)
        gap = (found - chips)[..., 4:28, 6:26]
        assert (gap**2).mean() < 0.1 * ((below - chips)[..., 4:28, 6:26] ** 2).mean()
        assert np.array_equal(found[..., :4, :], below[..., :4, :])
        kept = codes.stored(texts, shared)
        assert [bool(text) for text in kept] == [slot == 0] * 5 + [True]


def test_marks_and_dates_that_are_not_known_are_damage():
    made, below = make_codes(), np.zeros((1, 3, 32, 32), np.float32)
    for text, day in ((b"", DAYS[0]), (b"\2x", DAYS[0]), (codes.PLACE + b"x", "2020-01-01")):
        with pytest.raises(Damaged, match="code column"):
            made.apply(below, [text], [day])


def test_dates_together_take_less_than_alone():
    made, stacks = make_codes(), make_stacks(40, seed=1)
    together = codes.share(made.place, stacks, stacks)
    alone = made.tile.write(stacks.reshape(-1, 3, 32, 32), stacks.reshape(-1, 3, 32, 32))
    assert sum(map(len, together)) < 0.7 * sum(map(len, alone))


def test_a_layer_of_dates_comes_back():
    place = make_codes().place
    found = load_layer(dump_layer(place, "float16"), 3, 32, 32)
    assert found.dates == DAYS
    with pytest.raises(Damaged, match="bands"):
        load_layer(dump_layer(place, "float16"), 9, 32, 32)


def test_whole_places_and_their_clearest_rows():
    names = ["a", "a", "a", "b", "b", "a", "c", "c", "c"]
    date = [0, 1, 2, 0, 1, 1, 2, 1, 0]
    clear = [0.9, 0.85, 0.8, 1, 1, 0.95, 1, 1, 0.5]
    assert complete(names, date, clear, 3).tolist() == [[0, 5, 2]]
    assert complete(names, date, clear, 2)[:2].tolist() == [[0, 5], [3, 4]]
    assert complete([], [], [], 3).shape == (0, 3)


def test_places_that_would_lose_their_stream():
    names, texts = ["a", "a", "b", "b", "c"], [b"\1x", b"", b"\1y", b"", b"\0z"]
    assert codes.orphans(names, texts, [False, True, True, True, False]) == ["a"]
    assert codes.orphans(names, texts, [False, False, True, False, True]) == []
    assert codes.orphans(names[:1], [None], [False]) == []


def test_dates_of_scenes():
    first = datetime(2023, 6, 1, tzinfo=UTC)
    when = [first, None, first + timedelta(days=8), first + timedelta(days=1)]
    assert slots(when, DAYS) == {0: 0, 1: -1, 2: 1, 3: -1}


@pytest.fixture(scope="module")
def three_dates(tmp_path_factory):
    """An archive of one field on three dates, and its recipe."""
    import rasterio

    folder = tmp_path_factory.mktemp("dates")
    first = write_scene(folder / "field_20230601.tif", 1)
    with rasterio.open(first) as source:
        pixels, profile = source.read(), source.profile
    rng = np.random.default_rng(0)
    for day, shade in (("20230609", 0.8), ("20230701", 1.2)):
        noisy = pixels * shade + rng.normal(0, 20, pixels.shape)
        with rasterio.open(folder / f"field_{day}.tif", "w", **profile) as out:
            out.write(noisy.astype(np.uint16))
    recipe = Recipe(
        precision=6, gsd=60.0, region_prefix=4, dim=8, bits=32, steps=20, adapter_steps=5,
        batch=8, quality="60 bytes",
    )  # fmt: skip
    jobs.build([str(folder)], str(folder / "A"), recipe, workers=1, progress=quiet)
    return folder, recipe


def test_an_archive_of_dates_together(three_dates):
    folder, recipe = three_dates
    archive = embarchive.open_archive(folder / "A")
    said = archive.info()["spaces"][0]["trained"]["code"]
    assert len(said["together"]["dates"]) == 3 and said["together"]["mse"] < said["mse"]
    rows = archive.select(columns=["geohash", "datetime", "source", "embedding", "code",
                                   "model_id", "mse"])  # fmt: skip
    held = rows["code"].to_pylist()
    kinds = {kind: sum(code[:1] == kind for code in held) for kind in (b"", b"\0", b"\1")}
    assert kinds[b""] == 2 * kinds[b"\1"] > 0
    # Any row alone decodes as among all, and as well as it says.
    every = archive.decode(rows)
    for at in (0, 1, 2, len(rows) - 1):
        assert np.allclose(archive.decode(rows.slice(at, 1)), every[at : at + 1], atol=1e-2)
    again = archive.decode(rows.select(["geohash", "datetime", "source"]))
    assert np.array_equal(again, every)
    assert archive.decode([rows["geohash"][0].as_py()]).shape[0] == 1
    with pytest.raises(BadInput, match="column datetime"):
        archive.decode(rows.drop(["datetime"]))
    plain = Recipe(**{**recipe.__dict__, "quality": ""})
    jobs.build([str(folder)], str(folder / "plain"), plain, workers=1, progress=quiet)
    other = embarchive.open_archive(folder / "plain").select(columns=["mse"])
    assert np.mean(rows["mse"].to_numpy()) < 0.5 * np.mean(other["mse"].to_numpy())


def test_an_append_of_other_dates_codes_tiles_alone(three_dates, tmp_path):
    folder, recipe = three_dates
    before = embarchive.open_archive(folder / "A")
    scene = write_scene(tmp_path / "field_20230801.tif", 3)
    jobs.build([str(scene)], str(folder / "A"), recipe, workers=1, progress=quiet)
    archive = embarchive.open_archive(folder / "A")
    new = archive.select(datetime="2023-08-01", columns=["geohash", "datetime", "source", "code"])
    assert len(new) == len(archive) - len(before) > 0
    assert {code[:1] for code in new["code"].to_pylist()} == {b"\0"}
    assert np.isfinite(archive.decode(new)).all()


def test_a_row_whose_place_is_gone_is_damage(three_dates, monkeypatch):
    folder, _ = three_dates
    archive = embarchive.open_archive(folder / "A")
    monkeypatch.setattr(resolve, "_streams", lambda *given: {})
    with pytest.raises(Damaged, match="code of its place"):
        archive.decode(archive.select())


def test_dates_that_are_mostly_cloud_are_left_out():
    from embarchive.gather import Sample

    valid = np.ones((6, 16, 16), bool)
    valid[2:4] = False
    scene = np.array([0, 0, 1, 1, 2, 2])
    some = Sample(
        np.array(list("ababab")), np.zeros((6, 1, 16, 16), np.float32), valid, True, scene
    )
    when = [datetime(2023, 6, day, tzinfo=UTC) for day in (3, 1, 2)]
    found = fit_layer.clear_dates(some, when)
    assert found == ("2023-06-02T00:00:00+00:00", "2023-06-03T00:00:00+00:00")


def test_networks_of_their_own_are_coded_tile_by_tile(three_dates, tmp_path):
    folder, recipe = three_dates
    own = Recipe(**{**recipe.__dict__, "codec": "full", "steps": 10, "adapter_steps": 2})
    scenes = [str(path) for path in sorted(folder.glob("*.tif"))]
    jobs.build(scenes, str(tmp_path / "A"), own, workers=1, progress=quiet)
    archive = embarchive.open_archive(tmp_path / "A")
    assert "together" not in archive.info()["spaces"][0]["trained"]["code"]
    rows = archive.select(
        columns=["geohash", "datetime", "source", "code", "model_id", "embedding"]
    )
    assert min(len(code) for code in rows["code"].to_pylist()) > 8
    assert np.isfinite(archive.decode(rows)).all()
