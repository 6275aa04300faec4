"""Exemplars and references resolved through an archive."""

import numpy as np
import pyarrow as pa
import pytest
from archives import SCALE, make_archive, make_cells
from rasterfiles import PLACE, write
from rasterio import Affine

import embarchive
from embarchive import grid, resolve, scenes
from embarchive.errors import BadInput
from embarchive.exemplars import parse_all
from embarchive.reads import ReadPlan

CELLS = [str(name) for name in make_cells(300)]
# Three cells each of twenty shards, some far apart.
FAR = np.sort(
    [
        f"{prefix}{last}"
        for prefix in np.unique(
            grid.encode(np.linspace(14, 22, 20), 66 + np.arange(20) * 7 % 20 * 0.3, 4)
        )
        for last in ("00", "h5", "zz")
    ]
)
NAMES = ["geohash", "datetime", "source", "model_id", "valid_fraction", "embedding"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("resolve")
    make_archive(root, 600, dates=2, nulls=True)
    return embarchive.open_archive(root)


def test_vectors_come_in_the_order_of_the_exemplars(archive):
    mixed = [CELLS[9], np.full(64, SCALE), CELLS[2]]
    found = resolve.vectors(archive, parse_all(mixed, 6), archive.space(), ReadPlan(()), NAMES)
    assert found.vectors[1].tolist() == [1] * 64
    assert found.cells == (CELLS[9], CELLS[2])
    stored = resolve.places(archive, [CELLS[2]])["embedding"][0].as_py()
    assert found.vectors[2].tolist() == stored


def test_float_vectors_are_rounded_like_the_archives_own(archive):
    values = np.linspace(-5, 5, 64)
    found = resolve._quantised(values, archive.space())
    assert found.dtype == np.int8 and found.min() == -127 and found.max() == 127
    assert np.array_equal(found, resolve._quantised(found, archive.space()))


def test_rows_are_found_again_in_any_order(archive):
    rows = archive.select(columns=[*NAMES])
    some = rows.take(pa.array([77, 3, 400, 3]))
    again = resolve.again(archive, some.select(["source", "geohash", "datetime"]))
    assert again["embedding"].to_pylist() == some["embedding"].to_pylist()


def test_a_row_that_is_not_in_the_archive_is_told(archive):
    rows = archive.select(geohash=CELLS[0], columns=["geohash", "datetime", "source"])
    odd = rows.set_column(2, "source", pa.array(["elsewhere"] * len(rows)))
    with pytest.raises(BadInput, match=f"no tile {CELLS[0]} of source elsewhere"):
        resolve.again(archive, odd)


def test_only_places_can_be_decoded_by_name(archive):
    assert len(resolve.places(archive, [])) == 0
    with pytest.raises(BadInput, match="expected geohashes or points"):
        resolve.places(archive, [np.zeros(64)])


def test_an_image_on_the_ground_is_the_tile_around_its_middle(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 9000, (1, 100, 100)).astype(np.uint16)
    whole = write(tmp_path / "whole.tif", pixels)
    crop = write(
        tmp_path / "crop.tif", pixels[:, 40:60, 30:70], transform=PLACE @ Affine.translation(30, 40)
    )
    chips = grid.ChipGrid(12, 20.0, 32, 32)
    found, part = (
        resolve._middle(scenes.image_scene(path, ("band1",)), chips) for path in (whole, crop)
    )
    assert found.shape == part.shape == (1, 32, 32) and found.dtype == np.float32
    assert part[0, 12:20, 8:24] == pytest.approx(found[0, 12:20, 8:24], rel=1e-3)
    assert part[0, 0:11].std() > 500  # mirrored, not filled with one value


def test_an_image_without_data_in_its_middle_is_refused(tmp_path):
    empty = write(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint16), nodata=0)
    with pytest.raises(BadInput, match="expected data in its middle"):
        resolve._middle(scenes.image_scene(empty, ("band1",)), grid.ChipGrid(12, 10.0, 16, 16))


def test_the_nearest_cell_is_so_in_metres_over_all_shards(tmp_path):
    """Narrow shards at 69 degrees north, where a degree east is a third of one north."""
    make_archive(tmp_path / "A", len(FAR), cells=FAR, shard_prefix=4)
    archive = embarchive.open_archive(tmp_path / "A")
    assert len(archive.shards()) == 20
    rng = np.random.default_rng(0)
    asked = grid.encode(rng.uniform(14, 22, 60), rng.uniform(66, 72, 60), 6)
    for name in set(asked.tolist()) - set(FAR.tolist()):
        here = grid.centers(np.array([name]))
        gaps = grid.distance_m(here, grid.centers(FAR))
        found = resolve._nearest(archive, name, archive.space().space_id)
        assert gaps[FAR.tolist().index(found)] == gaps.min()


def test_no_more_shards_are_read_than_may_hold_the_nearest(archive, monkeypatch):
    read = []
    rows = type(archive.reader).rows
    monkeypatch.setattr(type(archive.reader), "rows", lambda *given: read.append(1) or rows(*given))
    resolve._nearest(archive, "9q8yyk", archive.space().space_id)
    assert len(read) == 1 < len(archive.shards())
