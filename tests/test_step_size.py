"""The code-size heuristic from a small raster to its document, by library and command line."""

import json

import numpy as np
import pytest
from rasterfiles import write
from rasterio import Affine

from embarchive.cli import main
from embarchive.errors import BadInput
from embarchive.recipe import Recipe

pytest.importorskip("torch")
from embarchive import step_size

SIZES = (4, 8, 16)
RECIPE = Recipe(precision=5, gsd=300.0, region_prefix=3, steps=3, batch=8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """400 x 400 pixels of 300 m, flat in the west and rough in the east."""
    rng = np.random.default_rng(1)
    grain = rng.normal(0, 1, (2, 200, 200)).repeat(2, 1).repeat(2, 2)
    pixels = 2000 + grain * np.linspace(5, 500, 400) + rng.normal(0, 10, (2, 400, 400))
    where = Affine(300, 0, 500_000, 0, -300, 5_100_000)
    path = tmp_path_factory.mktemp("scenes") / "field_20230601.tif"
    return str(write(path, pixels.astype(np.uint16), transform=where, names=("red", "nir")))


def size(scene, recipe=RECIPE, error=None, relative=False):
    seen = []
    asked = {"error": error, "relative": relative, "sizes": SIZES}
    found = step_size.size([scene], recipe, progress=lambda *now: seen.append(now), **asked)
    return found, seen


@pytest.fixture(scope="module")
def found(scene):
    return size(scene, error=1e9)


def test_regions_fits_curve_and_choice_are_told(found):
    document, _ = found
    assert document["chosen"] in (None, 4)
    assert len(document["fits"]) == 9 and document["best"] in document["fits"]
    assert [row["size"] for row in document["curve"]] == [4, 8, 12, 16]
    assert len(document["regions"]) >= 4
    for region in document["regions"]:
        assert list(region["complexity"]) == ["gzip", "pca", "kernel_pca"]
        assert list(region["errors"]) == ["4", "8", "16"]
        assert min(region["errors"].values()) > 0 and region["tiles"] >= step_size.LEAST_TILES


def test_rough_regions_are_more_complex_and_decoded_worse(found):
    rows = sorted(found[0]["regions"], key=lambda row: row["tile_mean"])
    assert rows[0]["complexity"]["gzip"] < rows[-1]["complexity"]["gzip"]
    assert rows[0]["errors"]["8"] < rows[-1]["errors"]["8"]


def test_reading_and_every_training_tell_their_progress(found):
    stages = [stage for stage, done, total in found[1] if done == total]
    assert stages == ["read", *(f"train {dim} numbers" for dim in SIZES)]


def test_the_same_scenes_give_the_same_document(scene, found):
    again, _ = size(scene, error=1e9)
    assert {**again, "seconds": 0} == {**found[0], "seconds": 0}


def test_the_networks_have_not_seen_the_tiles_they_are_measured_on(scene, monkeypatch):
    trained, decoded = [], []
    fit, embed = step_size.train.fit, step_size.encode.embed

    def keep(arch, chips, *rest):
        trained.append({chip.tobytes() for chip in chips})
        return fit(arch, chips, *rest)

    def look(arch, weights, chips):
        decoded.extend(chip.tobytes() for chip in chips)
        return embed(arch, weights, chips)

    monkeypatch.setattr(step_size.train, "fit", keep)
    monkeypatch.setattr(step_size.encode, "embed", look)
    size(scene)
    assert len(decoded) > 30 and not set.union(*trained) & set(decoded)


def test_steps_are_fewer_where_they_take_long():
    from fakes import SETTINGS

    assert step_size._steps(SETTINGS, Recipe(), 5) <= step_size.STEPS
    assert step_size._steps(SETTINGS, Recipe(batch=4096), 5) == step_size.LEAST_STEPS
    assert step_size._steps(SETTINGS, Recipe(steps=7), 5) == 7


def test_the_command_prints_a_document_or_says_which_size(scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step_size, "STEPS", 2)
    recipe = tmp_path / "r.toml"
    recipe.write_text("[archive]\nprecision = 5\ngsd = 300\nregion_prefix = 3\n")
    line = ["size", scene, "--recipe", str(recipe), "--relative", "--error"]
    assert main([*line, "1e-9", "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["chosen"] is None and document["unit"].startswith("share of the tile mean")
    assert "train 96 numbers 2/2" in said.err
    monkeypatch.setattr(step_size, "measure", lambda *_: (known(), 2))
    assert main([*line, "0.5"]) == 0
    out = capsys.readouterr().out
    assert "exponential" in out and "\nchosen: 32, the least that meets 0.5\n" in out


def known():
    """Regions whose losses halve from 8 numbers to 32 whatever else."""
    from embarchive.sizing import Region

    errors = (0.9, 0.7, 0.5, 0.35, 0.3)
    levels = ({"gzip": 0.5, "pca": 3.0 + i, "kernel_pca": 4.0} for i in range(5))
    return [Region(f"r{i}", 30, level, 1.0, errors) for i, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--error 0", "error: expected a number above 0, found 0"),
        ("--error nan", "error: expected a number above 0, found nan"),
        ("--bands red,blue", "blue"),
        ("--precision 4", "size: expected at least 4 regions of 24 tiles"),
    ],
)
def test_bad_input_is_one_line_and_status_2(scene, capsys, line, said):
    assert main(["size", scene, *line.split()]) == 2
    err = [row for row in capsys.readouterr().err.splitlines() if row.startswith("embarchive: ")]
    assert len(err) == 1 and said in err[0]


def test_single_bands_are_refused(scene):
    with pytest.raises(BadInput, match="expected a recipe of bands together"):
        step_size.size([scene], Recipe(single_band=True), error=None, relative=False, progress=None)


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(BadInput, match="found none"):
        size(str(tmp_path))
