"""A second encoder beside an archive's own: reencode, search in both spaces, decode, append."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from rasterio import Affine
from rasterio.warp import transform_bounds
from test_jobs import RECIPE, quiet, write_scene

import embarchive
from embarchive import errors, jobs, verify
from embarchive.cli import main
from embarchive.recipe import Recipe, recipe_from_tables
from embarchive.store import open_store

SECOND = replace(RECIPE, encoder="tile2vec", precision=None, gsd=None, region_prefix=None)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scenes")
    return [str(write_scene(folder / f"field_2023060{i}.tif", i)) for i in (1, 2)]


@pytest.fixture(scope="module")
def built(scenes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of both dates by the VAE and then, the newest space, by Tile2Vec."""
    out = tmp_path_factory.mktemp("built") / "archive"
    jobs.build(scenes, str(out), RECIPE, workers=1, progress=quiet)
    done = jobs.reencode(scenes, str(out), SECOND, workers=1, progress=quiet)
    assert done["generation"] == 2
    assert done["regions"] == len(embarchive.open_archive(out).models())
    return out


def test_the_new_space_stands_beside_the_old_with_the_same_tiles(built: Path) -> None:
    archive = embarchive.open_archive(built)
    assert [space.kind for space in archive.spaces] == ["vae", "tile2vec"]
    vae, other = (space.space_id for space in archive.spaces)
    keys = ["geohash", "datetime", "source", "input_digest"]
    first, second = (archive.select(columns=keys, space=name) for name in (vae, other))
    assert first.equals(second)
    assert len(archive) == 2 * len(first)
    rows = archive.select(columns=["model_id", "mse", "code"])
    assert set(rows["model_id"].to_pylist()) == {""}
    assert rows["mse"].null_count == rows["code"].null_count == len(rows)
    told = archive.info()["spaces"][1]["trained"]
    assert told["encoder"] == "tile2vec"
    assert told["radius"] > 1000
    assert verify.verify(open_store(built))["ok"]


def test_either_space_is_searched_on_its_own_and_hits_of_both_decode(built: Path) -> None:
    archive = embarchive.open_archive(built)
    place = archive.select(columns=["geohash"])["geohash"][3].as_py()
    vae, other = archive.spaces
    old, new = (archive.search(like=[place], k=4, space=s.space_id) for s in (vae, other))
    assert new.schema.metadata[b"space_id"].decode() == other.space_id
    assert archive.search(like=[place], k=4).equals(new)
    assert old["score"].to_pylist() != new["score"].to_pylist()
    own = archive.select(columns=["geohash", "datetime", "source"], space=vae.space_id)
    images = archive.decode(own.replace_schema_metadata({"space_id": vae.space_id}))
    keys = list(zip(*(own[name].to_pylist() for name in own.column_names), strict=True))
    for hits in (old, new):
        names = ("geohash", "datetime", "source")
        rows = zip(*(hits[name].to_pylist() for name in names), strict=True)
        where = [keys.index(row) for row in rows]
        assert np.abs(archive.decode(hits) - images[where]).max() < 0.01
    names = ["geohash", "datetime", "source", "embedding", "code", "model_id"]
    mixed = [archive.select(columns=names, space=s.space_id).slice(3, 2) for s in (other, vae)]
    table = pa.concat_tables(mixed).unify_dictionaries().take([3, 0, 2, 1])
    assert np.abs(archive.decode(table) - images[[4, 3, 3, 4]]).max() < 0.01
    assert archive.decode([place]).shape == (1, 3, *images.shape[2:])


def test_rows_that_only_the_new_space_has_are_refused_in_one_line(
    built: Path, scenes: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "archive"
    jobs.build(scenes[:1], str(out), RECIPE, workers=1, progress=quiet)
    jobs.reencode(scenes, str(out), SECOND, workers=1, progress=quiet)
    archive = embarchive.open_archive(out)
    rows = archive.select(columns=["geohash", "datetime", "source"])
    both = np.array(["20230601" in name for name in rows["source"].to_pylist()])
    assert len(archive.decode(rows.filter(both))) == both.sum()
    with pytest.raises(errors.BadInput, match=r"^decode: tile u2\w+ of .* has no decoder in its"):
        archive.decode(rows.filter(~both))
    some = archive.select(columns=["embedding", "code", "model_id"])
    with pytest.raises(errors.BadInput, match="expected the columns geohash, datetime, source"):
        archive.decode(some)


def test_scenes_are_added_to_the_newest_space_of_the_encoder_that_is_asked_for(
    built: Path, scenes: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "archive"
    jobs.build(scenes[:1], str(out), RECIPE, workers=1, progress=quiet)
    jobs.reencode(scenes[:1], str(out), SECOND, workers=1, progress=quiet)
    before = embarchive.open_archive(out)
    count = [len(before.select(columns=["geohash"], space=s.space_id)) for s in before.spaces]
    jobs.build(scenes[1:], str(out), SECOND, workers=1, progress=quiet)
    after = embarchive.open_archive(out)
    assert [s.encoder for s in after.spaces] == [s.encoder for s in before.spaces]
    grown = [len(after.select(columns=["geohash"], space=s.space_id)) for s in after.spaces]
    assert grown == [count[0], 2 * count[1]]
    jobs.build(scenes[1:], str(out), RECIPE, workers=1, progress=quiet)
    last = embarchive.open_archive(out)
    assert len(last.select(columns=["geohash"], space=last.spaces[0].space_id)) == 2 * count[0]
    assert verify.verify(open_store(out))["ok"]


def test_the_same_again_gives_the_same_space(built: Path, scenes: list[str]) -> None:
    again = jobs.reencode(scenes, str(built), SECOND, workers=1, progress=quiet)
    assert (again["added"], again["generation"]) == (0, 2)


def test_the_command_line_says_it_and_an_image_is_an_exemplar(
    built: Path, scenes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[model]\nsteps = 20\nbatch = 8\ndim = 16\nbits = 64\nencoder = "tile2vec"\n')
    job = ["reencode", str(built), *scenes]
    assert main([*job, "--recipe", str(recipe), "--json", "--seed", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 0
    assert main([*job, "--encoder", "clip"]) == 2
    assert "'clip' is not one of 'vae', 'tile2vec'" in capsys.readouterr().err
    archive = embarchive.open_archive(built)
    assert len(archive.search(like=[scenes[0]], k=3)) == 3


def bad_jobs(scenes: list[str], built: Path, folder: Path) -> dict[str, tuple]:
    """What is said, and of what."""
    few = str(write_scene(folder / "few_20230601.tif", 1))
    return {
        "expected a space of encoder tile2vec to add to, found none": (
            lambda: jobs.build([few], str(folder / "new"), SECOND, workers=1, progress=quiet)
        ),
        "at least 8 places with another within 1 m on the same date, found 0": (
            lambda: jobs.reencode(
                scenes, str(built), replace(SECOND, radius=1.0), workers=1, progress=quiet
            )
        ),
    }


@pytest.mark.parametrize("number", range(2))
def test_bad_input_is_one_line_and_leaves_the_archive(
    number: int, built: Path, scenes: list[str], tmp_path: Path
) -> None:
    said, job = list(bad_jobs(scenes, built, tmp_path).items())[number]
    with pytest.raises(errors.BadInput, match=said) as caught:
        job()
    assert "\n" not in str(caught.value)
    assert embarchive.open_archive(built).generation == 2
    assert not list(built.glob("staging/*/plan.json"))


def test_one_scene_of_one_tile_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = write_scene(tmp_path / "field_20230601.tif", 1)
    out, part = str(tmp_path / "archive"), tmp_path / "part_20230701.tif"
    jobs.build([str(whole)], out, RECIPE, workers=1, progress=quiet)
    cell = embarchive.open_archive(out).select(columns=["bbox"])["bbox"][8].as_py()
    with rasterio.open(whole) as source:
        box = transform_bounds("EPSG:4326", source.crs, *cell.values())
        window = source.window(*box).round_offsets().round_lengths()
        where = source.transform @ Affine.translation(window.col_off, window.row_off)
        size = {"width": window.width, "height": window.height, "transform": where}
        with rasterio.open(part, "w", **{**source.profile, **size}) as made:
            made.write(source.read(window=window))
    found = "at least 8 places with another within .* on the same date, found 0$"
    with pytest.raises(errors.BadInput, match=found) as caught:
        jobs.reencode([str(part)], out, SECOND, workers=1, progress=quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "clip"}, "encoder must be one of vae, tile2vec, found 'clip'$"),
        ({"encoder": "tile2vec", "quality": "psnr 38"}, "has no decoder, must be none, found"),
        ({"radius": 0}, "radius must be between 0.001 and 1e\\+07, found 0$"),
        ({"temporal": 1.5}, "temporal must be between 0 and 1, found 1.5$"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict, said: str) -> None:
    with pytest.raises(errors.BadInput, match=said):
        recipe_from_tables({"model": values})


def test_single_bands_have_the_vae_alone() -> None:
    with pytest.raises(errors.BadInput, match="encoder of single bands must be vae, found 'tile2v"):
        Recipe(single_band=True, encoder="tile2vec")
