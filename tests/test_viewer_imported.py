"""The page on an archive of vectors that others made: searched, not decoded."""

from dataclasses import replace

import pytest
from test_jobs import RECIPE, write_scene
from test_viewer import CARDS, again, rest, visit
from vectorfiles import alphaearth, plain

import embarchive
from embarchive import jobs, serve
from embarchive.import_plan import Options
from embarchive.importing import import_vectors
from embarchive.layouts import Wishes


def quiet(stage, done, total):
    pass


@pytest.fixture(scope="module", params=["plain", "numbered"])
def brought(request, tmp_path_factory):
    """An imported archive, opened, and its URL."""
    folder = tmp_path_factory.mktemp(request.param)
    make = {"plain": lambda path: plain(path, 400, 100), "numbered": alphaearth}[request.param]
    make(folder / "v.parquet")
    root = folder / "a"
    import_vectors([folder / "v.parquet"], str(root), Wishes(), Options(title="Brought"), quiet)
    with serve.running(root) as url:
        yield embarchive.open_archive(root), url


def test_hits_are_those_of_python_and_cards_say_that_there_is_no_picture(page, brought):
    archive, url = brought
    names = archive.select(columns=["geohash"])["geohash"].to_pylist()
    assert visit(page, url, f"like={names[7]}&unlike={names[30]}&k=24&imagery=1") == "ready"
    expected = archive.search(like=[names[7]], unlike=[names[30]], k=24)
    assert page.evaluate(CARDS) == expected["geohash"].to_pylist()
    said = page.locator(".card .picture.bare")
    assert said.count() == 24 and "these vectors have no decoder" in said.first.inner_text()
    assert page.locator(".card canvas").count() == 0
    assert page.locator("#undecoded").is_hidden()
    assert page.seen.faults == []


def test_nothing_is_offered_that_takes_a_decoder(page, brought):
    archive, url = brought
    assert visit(page, url) == "ready"
    assert page.locator("#imagery").is_hidden() and page.locator("#ndvi").is_hidden()
    assert page.locator("#heat").is_visible()
    facts = page.locator("#facts").inner_text()
    assert facts.startswith(f"{len(archive)} tiles") and " m" not in facts
    assert page.locator("#title").inner_text() == "Brought"
    assert page.seen.faults == []


def test_tiles_of_a_rectangle_are_chosen_from(page, brought):
    archive, url = brought
    west, south, east, north = archive.bounds
    assert visit(page, url) == "ready"
    assert again(page, f"bbox={west},{south},{east},{north}") == "ready"
    name = page.evaluate(CARDS)[0]
    before = page.evaluate("Number(document.body.dataset.settled ?? 0)")
    page.get_by_role("button", name=f"+ like {name}").first.click()
    assert rest(page, before) == "ready"
    assert len(page.evaluate(CARDS)) > 10
    assert page.seen.faults == []


def test_a_second_encoder_s_space_is_searched_as_python_does_without_pictures(page, tmp_path):
    scenes = [str(write_scene(tmp_path / "field_20230601.tif", 1))]
    root = str(tmp_path / "a")
    jobs.build(scenes, root, RECIPE, workers=1, progress=quiet)
    second = replace(RECIPE, encoder="tile2vec")
    jobs.reencode(scenes, root, second, workers=1, progress=quiet)
    archive = embarchive.open_archive(root)
    name = archive.select(columns=["geohash"])["geohash"][3].as_py()
    expected = archive.search(like=[name], k=12)["geohash"].to_pylist()
    with serve.running(root) as url:
        assert visit(page, url, f"like={name}&k=12&imagery=1") == "ready"
        assert page.evaluate(CARDS) == expected
        assert page.locator(".card .picture.bare").count() == len(expected)
        assert page.locator("#imagery").is_hidden()
        assert page.seen.faults == []
