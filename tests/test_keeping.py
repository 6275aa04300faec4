"""The commands that look after an archive."""

import json
import os
import shutil
import time

import numpy as np
import pytest
import rasterio
from archives import append_date, make_archive
from PIL import Image

import embarchive
from embarchive import serve
from embarchive.cli import main
from embarchive.store import open_store

LEFT = "blocks/" + "a" * 64


@pytest.fixture
def root(tmp_path):
    make_archive(tmp_path, 300)
    return tmp_path


def run(capsys, *arguments):
    """(status, standard output, standard error)"""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_gc_lists_then_deletes(root, capsys):
    open_store(root).put_new(LEFT, b"left")
    then = time.time() - 30 * 3600
    os.utime(root / LEFT, (then, then))
    status, out, err = run(capsys, "gc", root)
    assert status == 0 and "gc 1/1" in err and (root / LEFT).exists()
    assert out.startswith(f"would remove {LEFT}, 4 bytes, 30.0 h old\n")
    status, out, _ = run(capsys, "gc", root, "--delete", "--json", "-q", "--grace", "31")
    assert json.loads(out)["removed"] == [] and (root / LEFT).exists()
    status, out, _ = run(capsys, "gc", root, "--delete", "--json", "-q", "--grace", "29")
    document = json.loads(out)
    assert status == 0 and document["deleted"] and document["bytes"] == 4
    assert [one["object"] for one in document["removed"]] == [LEFT]
    assert not (root / LEFT).exists()


def test_compact_says_what_it_merged_and_that_there_is_nothing(root, capsys):
    append_date(root, 1)
    status, out, err = run(capsys, "compact", root, "--json", "--below", "10000")
    found = json.loads(out)
    assert status == 0 and found["merged"] and found["rows"] == 600 and "compact" in err
    status, out, _ = run(capsys, "compact", root, "-q")
    assert (status, out) == (0, "nothing to merge: generation 3 stays\n")


def test_a_pyramid_is_made_drawn_and_not_made_twice(tmp_path, capsys):
    root = tmp_path / "a"
    shutil.copytree(serve.demo_root(), root)
    status, out, err = run(capsys, "pyramid", root, "--json")
    found = json.loads(out)
    assert status == 0 and (found["level"], found["rows"], found["made"]) == (5, 37, True)
    assert "pyramid" in err
    status, out, _ = run(capsys, "pyramid", root, "-q")
    assert (status, out) == (0, "nothing new: generation 2 has it\n")
    box = "-75.7,37.6,-75.6,37.7"
    where = ("--level", 5, "--bbox", box)
    status, out, _ = run(capsys, "decode", root, *where, "--out", tmp_path / "a.tif", "--json")
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert status == 0 and json.loads(out)["cells"] == raster.width * raster.height == 9
        assert raster.count == 4 and raster.crs.to_epsg() == 4326
        assert np.allclose(raster.res, 360 / 2**13)
        cells = embarchive.open_archive(root).pyramid(5, bbox=[float(s) for s in box.split(",")])
        means = embarchive.open_archive(root).decode(cells).mean(axis=(2, 3))
        points = embarchive.grid.centers(cells["geohash"].to_pylist())
        assert np.allclose(list(raster.sample(points.tolist())), means, atol=1e-6)
    status, out, _ = run(capsys, "decode", root, "--level", 4, "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1024, 512) and len(image.getcolors()) == 4
    for wrong, said in (
        (("--level", 6), "expected 1 to 5"),
        (("--level", 4, "--bbox", "1,1,2,2"), "found none that match"),
        (("--level", 4, "--datetime", "2023-01-01"), "--datetime goes with tiles"),
    ):
        status, _, err = run(capsys, "decode", root, *wrong, "--out", tmp_path / "b.png", "-q")
        assert status == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["gc", "compact", "pyramid"])
def test_what_cannot_be_kept_is_refused_in_a_line(capsys, tmp_path, name):
    for where, reason in ((tmp_path / "none", "embarchive.json"), ("http://h:1/a", "read only")):
        status, _, err = run(capsys, name, where, "-q")
        assert status == 2 and reason in err and err.count("\n") == 1
