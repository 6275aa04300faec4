"""The commands change, view and path: what they take, print and write."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from archives import make_archive, make_cells
from PIL import Image
from vectorfiles import clay

import embarchive
from embarchive.archive import Archive
from embarchive.cli import main
from embarchive.serve import demo_root

CELL, OTHER = (str(cell) for cell in make_cells(200)[[7, 150]])
BOTH = ("--before", "2023-05-01", "--after", "2023-05-11")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("asking") / "A"
    make_archive(root, 600, dates=3)
    return root


def run(capsys, *arguments):
    """(status, standard output, standard error)"""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_change_gives_the_hits_of_the_library(capsys, root):
    status, out, _ = run(capsys, "change", root, *BOTH, "-k", 5, "--valid", 0.3, "--json")
    document = json.loads(out)
    hits = embarchive.open_archive(root).change("2023-05-01", "2023-05-11", k=5, valid=0.3)
    assert status == 0
    for name in ("geohash", "score", "change", "source_before"):
        assert [hit[name] for hit in document["hits"]] == hits[name].to_pylist()
    assert {"places", "floor", "seconds", "space_id"} <= set(document)


def test_change_alike_says_its_floor_and_writes(capsys, root, tmp_path):
    like = ("--like", f"{CELL}@2023-05-01..2023-05-21", "--unlike", OTHER)
    line = ("change", root, *BOTH, "--valid", 0, *like, "--floor", 0.5, "-k", 3)
    status, out, _ = run(capsys, *line, "--out", tmp_path / "hits.csv")
    assert status == 0
    assert out.splitlines()[-1].startswith("3 hits of 200 places, changes below ")
    with (tmp_path / "hits.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["geohash"] for row in table] == [line.split()[0] for line in out.splitlines()[1:4]]
    assert table[0]["datetime_before"].startswith("2023-05-01")


def test_windows_are_two_or_more(capsys, root):
    windows = "2023-05-01, 2023-05-11,2023-05-21"
    _, out, _ = run(capsys, "change", root, "--windows", windows, "--plain", "--json")
    assert "datetime_2" in json.loads(out)["hits"][0]


def test_a_view_prints_some_and_writes_all(capsys, root, tmp_path):
    target = tmp_path / "odd.parquet"
    line = ("view", root, "--kind", "outlier", "-k", 4, "--out", target)
    status, out, _ = run(capsys, *line, "--json")
    document = json.loads(out)
    assert status == 0
    assert (len(document["rows"]), document["count"], document["places"]) == (4, 200, 200)
    assert sum(document["histogram"]["counts"]) == 200
    written = pq.read_table(target)
    assert len(written) == 200
    assert written["geohash"][:4].to_pylist() == [row["geohash"] for row in document["rows"]]
    assert run(capsys, *line)[1].splitlines()[-1] == "200 of 200 places, 4 shown"


def test_a_threshold_keeps_what_is_near(capsys, root):
    line = ("view", root, "--kind", "threshold", "--like", CELL, "--threshold", 30)
    status, out, _ = run(capsys, *line, "--json")
    document = json.loads(out)
    assert status == 0
    assert 0 < document["count"] < document["places"]
    assert document["rows"][0]["geohash"] == CELL


def test_a_path_gives_the_steps_of_the_library(capsys, root):
    status, out, _ = run(
        capsys, "path", root, "--from", CELL, "--to", OTHER, "--steps", 5, "--json"
    )
    found = embarchive.open_archive(root).path(CELL, OTHER, 5)
    assert status == 0
    steps = json.loads(out)["steps"]
    assert [step["geohash"] for step in steps] == found["geohash"].to_pylist()
    assert len(steps[0]["point"]) == 64


def test_a_path_is_drawn(capsys, tmp_path):
    archive = embarchive.open_archive(demo_root())
    names = archive.select(columns=["geohash"])["geohash"].unique().to_pylist()
    target = tmp_path / "path.png"
    line = ("path", demo_root(), "--from", names[0], "--to", names[-1], "--out", target)
    status, _, _ = run(capsys, *line, "--steps", 4)
    assert status == 0
    height, width = archive.settings.height, archive.settings.width
    with Image.open(target) as picture:
        assert picture.size == (4 * width, 2 * height)
    table = archive.path(names[0], names[-1], 4)
    points, tiles = archive.decode_points(table), archive.decode(table)
    assert points.shape == tiles.shape == (4, len(archive.bands), height, width)
    # At its ends the line is a tile: what it shows is that tile without its fidelity code.
    gap = np.abs(points - tiles).mean(axis=(1, 2, 3))
    assert gap[[0, -1]].max() < gap[1:-1].max() or gap.max() == 0


def test_a_path_of_imported_vectors_is_told_but_not_drawn(capsys, tmp_path, monkeypatch):
    clay(tmp_path / "v.parquet")
    assert run(capsys, "import", tmp_path / "v.parquet", "--out", tmp_path / "B")[0] == 0
    names = embarchive.open_archive(tmp_path / "B").select(columns=["geohash"])["geohash"]
    ends = ("--from", names[0].as_py(), "--to", names[-1].as_py(), "--steps", 3)
    assert run(capsys, "path", tmp_path / "B", *ends)[0] == 0
    monkeypatch.setattr(Archive, "path", lambda *_, **__: pytest.fail("walked before"))
    status, _, err = run(capsys, "path", tmp_path / "B", *ends, "--out", tmp_path / "p.png")
    assert (status, err.count("\n")) == (2, 1)
    assert "expected rows that have a decoder" in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("change A --before 2023-05-01", "either --before and --after or --windows"),
        ("change A --windows 2023-05-01", "expected 2 to 16 windows"),
        (
            "change A --windows 2023-05-01,2023-05-11 --after 2023-05-11",
            "either --before and --after or --windows",
        ),
        ("change A --windows 2023-05-01,2023-05-11 --floor 2", "floor as a share from 0 to 1"),
        ("change A --windows 2023-05-01,2023-05-11 -k 0", "k must be at least 1, found 0"),
        ("change A --windows 2023-05-01,2023-05-11 --out hits.xls", "out: expected a name ending"),
        ("change A --windows 2023-05-01,may", "expected ISO 8601"),
        ("view A", "Missing option '--kind'"),
        ("view A --kind odd", "'odd' is not one of"),
        ("view A --kind heat", "at least one exemplar in like for heat"),
        (f"view A --kind outlier --like {CELL}", "no exemplars for outlier"),
        (f"view A --kind threshold --like {CELL}", "expected a threshold for threshold"),
        (f"path A --from {CELL}", "Missing option '--to'"),
        (f"path A --from {CELL} --to {OTHER} --steps 1", "expected 2 to 256 steps, found 1"),
        (f"path A --from {CELL} --to {OTHER} --out a.jpg", "out: expected a name ending"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, root, tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *(str(root) if word == "A" else word for word in line.split()))
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
