"""Labels of places: what a file may look like, and what it is told when it does not."""

import json

import pytest

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.labels import classes, read_labels

CELLS = sorted(grid.cells_in_bbox((10.0, 46.0, 10.2, 46.1), 6).tolist())


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_geohashes_and_of_their_prefixes(tmp_path):
    short = CELLS[0][:5]
    path = write(tmp_path, "a.csv", f"geohash,label\n{CELLS[3]},wood\n{short},crop\nzzz,sea\n")
    found = read_labels(path, "label", CELLS)
    below = [name for name in CELLS if name.startswith(short)]
    assert {name for name, one in found.items() if one == "crop"} >= set(below) - {CELLS[3]}
    assert set(found) == {*below, CELLS[3]} and classes(found)["crop"] >= len(below) - 1


def test_points_vote_in_their_cell(tmp_path):
    lines = ["lon,lat,kind"]
    import numpy as np

    for name, kinds in ((CELLS[0], "aab"), (CELLS[1], "ba")):
        lon, lat = grid.centers(np.array([name]))[0]
        lines += [f"{lon},{lat},{kind}" for kind in kinds]
    path = write(tmp_path, "a.csv", "\n".join([*lines, "11,47,far"]))
    assert read_labels(path, "kind", CELLS) == {CELLS[0]: "a", CELLS[1]: "a"}


def test_polygons_and_points_of_geojson(tmp_path):
    def feature(kind, coordinates, label):
        shape = {"type": kind, "coordinates": coordinates}
        return {"type": "Feature", "geometry": shape, "properties": {"label": label}}

    west = [[[9, 45], [10.1, 45], [10.1, 47], [9, 47], [9, 45]]]
    document = {
        "type": "FeatureCollection",
        "features": [feature("Polygon", west, "west"), feature("Point", [10.15, 46.05], "dot")],
    }
    found = read_labels(write(tmp_path, "a.geojson", json.dumps(document)), "label", CELLS)
    assert set(found.values()) == {"west", "dot"}
    assert 0 < len(found) < len(CELLS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "geohash,kind\nu0,a\n",
            "the columns label and geohash, or lon and lat, found geohash, kind",
        ),
        ("", "found none"),
        ("lon,lat,label\nx,1,a\n", "lon and lat in degrees"),
        ("lon,lat,label\n500,1,a\n", r"found 500, 1"),
        ("geohash,label\nzzzzzz,a\n", "found none of them"),
        ('{"features": [{"geometry": null, "properties": {}}]}', "another document"),
        ('{"type": "Point"}', "another document"),
        ('{"features": ' + "[" * 100_000, "another document"),
        (
            '{"features": [{"geometry": {"type": "Point", "coordinates": []}, '
            '"properties": {"label": "a"}}]}',
            "found an empty one",
        ),
        (f"geohash,label\n{CELLS[0]},{'a' * 200_000}\n", "expected CSV, found field larger"),
    ],
)
def test_a_file_that_does_not_match_is_told_so(tmp_path, text, message):
    with pytest.raises(BadInput, match=message) as error:
        read_labels(write(tmp_path, "a.txt", text), "label", CELLS)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="nothere"):
        read_labels(tmp_path / "nothere", "label", CELLS)
