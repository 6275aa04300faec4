"""What a plan decides: the chips of a new archive, and what an append may ask for."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from archives import make_archive
from fakes import SETTINGS
from rasterfiles import write
from rasterio import Affine

from embarchive import gather, step_plan
from embarchive.errors import BadInput
from embarchive.recipe import Recipe
from embarchive.step_plan import _check_append, decide
from embarchive.store import open_store


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Path of 100 x 100 pixels of 120 m near 46 degrees north."""
    values = np.full((1, 100, 100), 7, np.uint16)
    where = Affine(120, 0, 500_000, 0, -120, 5_100_000)
    path = tmp_path_factory.mktemp("scenes") / "field_20230601.tif"
    return str(write(path, values, transform=where))


def plan(scene, tmp_path, **asked):
    return decide(open_store(tmp_path / "A"), [scene], Recipe(**asked)).settings


def test_a_plan_by_default_has_the_pixels_of_the_scenes(scene, tmp_path):
    settings = plan(scene, tmp_path)
    assert (settings.precision, settings.gsd) == (5, 120)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": 9}, "precision: expected at most 5 for scenes of 120 m, found 9, whose"),
        ({"precision": 6}, r"found 6, whose cells have 36 of their pixels"),
        ({"gsd": 29.0}, "gsd: expected at least 30 m for scenes of 120 m, found 29 m"),
        ({"gsd": 1.0, "precision": 9}, "gsd: expected at least 30 m"),
        ({"region_prefix": 6}, "region_prefix: expected at most the 5 characters .* found 6"),
        ({"precision": 3, "shard_prefix": 4}, "shard_prefix: expected at most the 3 .* found 4"),
        ({"indices": {"ndvi": ("B8", "B4")}}, "index ndvi: expected two of the bands .*found B8$"),
        ({"bands": ("B2", "B4")}, "scene field_20230601: expected band B2, B4, found band1"),
    ],
)
def test_what_the_scenes_do_not_have_is_refused_before_a_pixel_is_read(
    scene, tmp_path, monkeypatch, asked, said
):
    monkeypatch.setattr(gather, "open_scene", None)
    with pytest.raises(BadInput, match=said) as caught:
        plan(scene, tmp_path, **asked)
    assert "\n" not in str(caught.value) and not (tmp_path / "A").exists()


@pytest.mark.parametrize("asked", [{"precision": 5}, {"precision": 1}, {"gsd": 30.0}])
def test_cells_and_pixels_near_the_scenes_are_taken(scene, tmp_path, asked):
    settings = plan(scene, tmp_path, **asked)
    assert {key: getattr(settings, key) for key in asked} == asked


def test_a_gsd_that_cannot_be_had_is_told_and_one_that_nobody_asked_for_is_not(
    scene, tmp_path, caplog
):
    caplog.set_level(logging.WARNING, "embarchive")
    assert plan(scene, tmp_path, precision=4).gsd > 120 and not caplog.text
    plan(scene, tmp_path, precision=4, gsd=1000.0)
    assert not caplog.text
    settings = plan(scene, tmp_path, precision=4, gsd=130.0)
    assert settings.gsd > 130
    (line,) = caplog.messages
    assert line.startswith(f"gsd: 130 m was asked for, the chips have {settings.gsd:g} m")


# ------------------------------------------------------------ appends


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": 7}, "the archive's precision 6, found 7"),
        ({"gsd": 20.0}, "the archive's gsd 10.0, found 20.0"),
        ({"gsd": 5.0}, "the archive's gsd 10.0, found 5.0"),
        ({"region_prefix": 3}, "the archive's region_prefix 4, found 3"),
        ({"shard_prefix": 4}, "the archive's shard_prefix 3, found 4"),
        ({"bands": ("B02",)}, "the archive's bands B02, B8A, found B02"),
        ({"indices": {"x": ("B02", "B8A")}}, "indices ndvi of B8A, B02, found x of B02, B8A"),
        ({"dim": 32}, "the archive's dim 64, found 32"),
        ({"bits": 64}, "the archive's bits 128, found 64"),
        ({"codec": "full"}, "the archive's codec adapter, found full"),
        ({"min_cover": 0.9}, "the archive's min_cover 0.5, found 0.9"),
        ({"min_valid": 0.9}, "the archive's min_valid 0.1, found 0.9"),
    ],
)
def test_an_append_that_asks_for_other_settings_is_refused(asked, said):
    with pytest.raises(BadInput, match=f"^A: expected .*{said}$"):
        _check_append("A", SETTINGS, Recipe(**asked))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"precision": 6, "gsd": 10.0, "dim": 64, "codec": "adapter", "bands": ("B02", "B8A")},
        {"bands": ("b2", "b8a")},
        {"title": "another", "attribution": "someone", "licence": "CC0-1.0"},
        {"steps": 5, "batch": 8, "seed": 9, "weights": "int8", "dates": ("2023-01-01",)},
    ],
)
def test_an_append_may_say_what_the_archive_has_or_can_take(asked):
    _check_append("A", SETTINGS, Recipe(**asked))


def test_a_default_is_no_wish_for_another_archive_than_the_one_there_is():
    _check_append("A", replace(SETTINGS, dim=16, bits=64, codec="full"), Recipe())


def test_the_gsd_that_an_archive_could_not_have_is_told_again(caplog):
    held = replace(SETTINGS, gsd=38.33, height=128)
    _check_append("A", held, Recipe(gsd=10.0))
    assert "gsd: 10 m was asked for, the chips have 38.33 m" in caplog.text
    with pytest.raises(BadInput, match=r"gsd 38\.33, found 40"):
        _check_append("A", held, Recipe(gsd=40.0))


def test_the_regions_of_an_append_are_those_of_the_archive(tmp_path):
    (tmp_path / "r.csv").write_text("u33,east\nu32,west\n")
    recipe = Recipe(region_file=str(tmp_path / "r.csv"))
    _check_append("A", replace(SETTINGS, regions={"u33": "east", "u32": "west"}), recipe)
    with pytest.raises(BadInput, match="region_file of 1 prefixes, found another of 2"):
        _check_append("A", replace(SETTINGS, regions={"u33": "east"}), recipe)


def test_an_append_in_other_units_is_refused(scene, tmp_path, monkeypatch):
    held = plan(scene, tmp_path)
    head = SimpleNamespace(generation=SimpleNamespace(settings=held, number=1, spaces=()))
    monkeypatch.setattr(step_plan, "find_head", lambda store: head)
    assert plan(scene, tmp_path) == held
    with pytest.raises(BadInput, match="expected the archive's stored values, found scaled ones"):
        plan(scene, tmp_path, scale=0.0001)


def test_an_append_is_refused_before_its_scenes_are_read(tmp_path):
    make_archive(tmp_path, 50)
    with pytest.raises(BadInput, match="the archive's precision 6, found 5"):
        decide(open_store(tmp_path), ["absent.tif"], Recipe(precision=5))
