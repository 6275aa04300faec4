"""The pyramid of an archive: what it says, what reading it costs; appends keep it right."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archives import append_date, make_archive, make_cells, make_settings

import embarchive
from embarchive import cellmeans, levels, pyramid
from embarchive.additions import Addition, add_to_archive, sizes
from embarchive.collect import collect
from embarchive.commit import Draft, commit, read_head
from embarchive.compact import compact
from embarchive.errors import BadInput, Damaged, GenerationExpired
from embarchive.levels import make_pyramid
from embarchive.make_overview import make as make_overview
from embarchive.manifest import object_path
from embarchive.requantize import requantize
from embarchive.store import open_store
from embarchive.verify import verify

DEMO = Path(embarchive.__file__).parent / "demo"


def quiet(*_):
    pass


@pytest.fixture
def root(tmp_path):
    make_archive(tmp_path / "a", 2000, dates=2, nulls=True)
    return tmp_path / "a"


def path_of(root):
    return root / object_path("pyramid", read_head(open_store(root)).generation.pyramid.sha256)


def oracle(archive, level, space=None):
    """Geohash, count and mean of the cells of a level, the plain way."""
    rows = archive.select(columns=["geohash", "embedding"], space=space)
    names = np.array([name[:level] for name in rows["geohash"].to_pylist()])
    vectors = np.array(rows["embedding"].to_pylist(), float)
    cells, index = np.unique(names, return_inverse=True)
    count = np.bincount(index)
    sums = np.zeros((len(cells), vectors.shape[1]))
    np.add.at(sums, index, vectors)
    return cells.tolist(), count, np.floor(sums / count[:, None] * 256 + 0.5)


def check(archive, space=None, within=0):
    for level in range(1, archive.info()["pyramid"]["level"] + 1):
        names, count, mean = oracle(archive, level, space)
        found = archive.pyramid(level, space=space)
        assert found["geohash"].to_pylist() == names
        assert found["count"].to_pylist() == count.tolist()
        assert np.abs(pyramid.means(found) - mean).max() <= within


def test_every_level_is_the_mean_of_its_rows(root):
    before = read_head(open_store(root)).generation
    found = make_pyramid(open_store(root), progress=quiet)
    archive = embarchive.open_archive(root)
    check(archive)
    assert found["level"] == 5 and found["made"] and found["generation"] == 2
    held = archive.head.generation
    assert replace(held, pyramid=None, **{
        key: getattr(before, key) for key in ("number", "parent", "commit_id", "created", "bytes")
    }) == before  # fmt: skip
    assert found["bytes"] == held.bytes["overview"] == path_of(root).stat().st_size
    assert archive.info()["pyramid"] == {key: found[key] for key in ("level", "rows", "bytes")}
    assert verify(open_store(root)) == {"ok": True, "checked": held_objects(root), "bad": []}


def held_objects(root):
    """Pointer, generation, and all that it reaches but for outboards."""
    archive = embarchive.open_archive(root)
    names = ("space_id", "encoder")
    assert all(getattr(archive.spaces[0], name) for name in names)
    return 2 + 1 + len(archive.parts) + len(archive.shards()) + 3 + 1


def test_a_second_time_makes_no_generation(root):
    make_pyramid(open_store(root), progress=quiet)
    again = make_pyramid(open_store(root), progress=quiet)
    assert not again["made"] and again["generation"] == 2


def test_portions_do_not_matter_and_cells_that_are_complete_are_done_with(tmp_path, monkeypatch):
    make_archive(tmp_path / "a", 4000)
    for turn in range(1, 5):
        append_date(tmp_path / "a", turn, count=4000)
    store = open_store(tmp_path / "a")
    make_pyramid(store, progress=quiet)
    cells = len(embarchive.open_archive(tmp_path / "a").pyramid(5))
    held, real = [], cellmeans.merge

    def watched(some):
        held.append(len(some[0]) if len(some) == 2 else 0)
        return real(some)

    monkeypatch.setattr(levels.Reader, "portion", 100)
    monkeypatch.setattr(cellmeans, "merge", watched)
    assert not make_pyramid(store, progress=quiet)["made"]
    assert 0 < max(held) < cells


def test_an_append_gives_what_is_built_at_once(root, tmp_path):
    """An archive of the same rows whose pyramid came before the append, and one where after."""
    make_pyramid(open_store(root), progress=quiet)
    for turn in range(1, 4):
        append_date(root, turn)
    archive = embarchive.open_archive(root)
    check(archive)
    held = archive.head.generation.pyramid
    assert verify(open_store(root))["ok"]
    again = make_pyramid(open_store(root), progress=quiet)
    assert not again["made"] and read_head(open_store(root)).generation.pyramid == held


def test_rows_that_the_parent_has_are_not_counted_twice(root):
    make_pyramid(open_store(root), progress=quiet)
    archive = embarchive.open_archive(root)
    known = Addition(archive.settings, shards=tuple(archive.shards()), attribution="again")
    assert add_to_archive(archive.store, lambda _: known).generation.number == 2
    held = archive.head.generation
    assert levels.extended(archive.store, held, [], held.places) == held.pyramid
    bare = replace(held, pyramid=None)
    assert levels.extended(archive.store, bare, archive.shards(), held.places) is None
    append_date(root, 1)
    both = (*known.shards, *embarchive.open_archive(root).shards())
    add_to_archive(archive.store, lambda _: replace(known, shards=both))
    check(embarchive.open_archive(root))


def test_a_lost_race_is_extended_on_the_winner(root, monkeypatch):
    """Another append lands between reading and swapping: both are in the pyramid, each once."""
    make_pyramid(open_store(root), progress=quiet)
    real, done = levels.extended, []

    def late(*args):
        found = real(*args)
        if not done:
            done.append(True)
            append_date(root, 9)
        return found

    monkeypatch.setattr(levels, "extended", late)
    append_date(root, 1)
    archive = embarchive.open_archive(root)
    assert done and len(archive) == 2600 and archive.generation == 4
    check(archive)
    assert verify(open_store(root))["ok"]


@pytest.mark.parametrize("late", ["append", "compact"])
def test_a_pyramid_that_loses_the_race_catches_up(root, monkeypatch, late):
    real, made = levels._made, []
    for turn in (1, 2):
        append_date(root, turn)

    def slow(store, generation, progress):
        found = real(store, generation, progress)
        made.append(generation.number)
        if len(made) == 1:
            append_date(root, 9) if late == "append" else compact(open_store(root), progress=quiet)
        return found

    monkeypatch.setattr(levels, "_made", slow)
    make_pyramid(open_store(root), progress=quiet)
    # of an append only the new rows were read
    assert made == ([3] if late == "append" else [3, 4])
    check(embarchive.open_archive(root))
    assert verify(open_store(root))["ok"]


def test_a_new_space_is_added(root):
    make_pyramid(open_store(root), progress=quiet)
    append_date(root, 5, space_id="synthetic-2")
    archive = embarchive.open_archive(root)
    check(archive, "synthetic-1")
    check(archive, "synthetic-2")
    assert set(archive.pyramid(2)["space_id"].to_pylist()) == {"synthetic-2"}
    assert verify(open_store(root))["ok"]


def test_merging_shards_keeps_it_and_gc_keeps_what_is_named(root):
    make_pyramid(open_store(root), progress=quiet)
    first = path_of(root)
    for turn in (1, 2, 3):
        append_date(root, turn)
    before = path_of(root)
    assert compact(open_store(root), progress=quiet)["merged"]
    assert path_of(root) == before and verify(open_store(root))["ok"]
    check(embarchive.open_archive(root))
    collect(open_store(root), grace=1, delete=True, progress=quiet)
    assert first.exists(), "younger than the grace time"
    collect(open_store(root), grace=0, delete=True, progress=quiet)
    assert not first.exists() and verify(open_store(root))["ok"]
    held = {path.name for path in (root / "pyramid").iterdir()}
    assert held == {before.name}
    check(embarchive.open_archive(root))


def test_beside_an_overview_each_keeps_the_other(root):
    make_pyramid(open_store(root), progress=quiet)
    make_overview(open_store(root), lists=4, progress=quiet)
    append_date(root, 1)
    again = make_pyramid(open_store(root), progress=quiet)
    compact(open_store(root), progress=quiet)
    collect(open_store(root), grace=0, delete=True, progress=quiet)
    held = read_head(open_store(root)).generation
    assert held.overview and held.pyramid and not again["made"]
    assert held.bytes == sizes(open_store(root), held)
    assert verify(open_store(root))["ok"]
    check(embarchive.open_archive(root))
    # without the pyramid before: the sum of bytes is right too
    bare = replace(held, pyramid=None)
    commit(open_store(root), lambda _: Draft(replace(bare, bytes=sizes(open_store(root), bare))))
    assert make_pyramid(open_store(root), progress=quiet)["made"]
    assert read_head(open_store(root)).generation.bytes == held.bytes


def test_a_level_in_a_box_reads_little(root):
    """Of 40,000 cells a few hundred: the footer, the outboard and some row groups."""
    names = make_cells(40_000, west=10, south=40, precision=5)
    codes, n = cellmeans.codes_of(names.tolist(), 5), len(names)
    mean = np.random.default_rng(0).integers(-9999, 9999, (n, 64)).astype(np.int16)
    model, day = np.full(n, b"", "S64"), np.zeros(n, np.int64)
    cells = cellmeans.Cells(5, codes, np.ones(n, np.int64), mean, model, day, day)
    table = pyramid.dump({"synthetic-1": cells}, 64)
    store = open_store(root)
    commit(
        store,
        lambda head: Draft(
            replace(head.generation, pyramid=table.ref), tuple(levels._objects(table))
        ),
    )
    archive = embarchive.open_archive(root)
    requests, read = archive.store.requests, archive.store.bytes_read
    box = (12.0, 42.0, 12.9, 42.6)
    found = archive.pyramid(5, bbox=box)
    requests, read = archive.store.requests - requests, archive.store.bytes_read - read
    bounds = embarchive.grid.bounds(names)
    inside = np.sort(names[embarchive.grid.bbox_intersects(bounds, box)])
    assert found["geohash"].to_pylist() == inside.tolist() and 200 < len(found) < 400
    assert requests <= 6
    assert read < table.ref.length / 6
    assert table.ref.footer_length < table.ref.length / 50
    # the same again, and its coarser cells, cost nothing more or little
    archive.pyramid(5, bbox=box)
    assert archive.store.requests - requests <= 6
    assert len(archive.pyramid(3, bbox=box)) < 5


def test_tampered_bytes_are_refused(root):
    make_pyramid(open_store(root), progress=quiet)
    path = path_of(root)
    data = path.read_bytes()
    for at in (10, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Damaged, match="sha256"):
            embarchive.open_archive(root).pyramid(3)
        found = verify(open_store(root))
        assert not found["ok"] and found["bad"][0]["object"].startswith("pyramid/")
    path.write_bytes(data)
    outboard = root / "blocks" / read_head(open_store(root)).generation.pyramid.blocks
    outboard.write_bytes(b"x" * len(outboard.read_bytes()))
    assert verify(open_store(root))["bad"][0]["object"] == f"blocks/{outboard.name}"
    path.unlink()
    with pytest.raises(GenerationExpired):
        embarchive.open_archive(root).pyramid(3)


def test_a_pyramid_of_other_rows_is_told(root, monkeypatch):
    """An append by a writer that knows of no pyramid leaves it behind; it is found out."""
    make_pyramid(open_store(root), progress=quiet)
    with monkeypatch.context() as patch:
        patch.setattr(levels, "extended", lambda store, held, fresh, places: held.pyramid)
        append_date(root, 7)
    (bad,) = verify(open_store(root))["bad"]
    assert bad["object"].startswith("pyramid/") and bad["found"] == "2000"
    assert bad["expected"] == "2300 rows in space synthetic-1 at level 1"
    assert make_pyramid(open_store(root), progress=quiet)["made"]
    assert verify(open_store(root))["ok"]


def test_codes_of_a_quantiser_are_decoded_first(root, tmp_path):
    requantize(str(root), str(tmp_path / "q"), "pca16+int4", progress=quiet)
    make_pyramid(open_store(tmp_path / "q"), progress=quiet)
    archive = embarchive.open_archive(tmp_path / "q")
    check(archive)
    assert archive.pyramid(3)["mean"].type.list_size == 16
    assert verify(open_store(tmp_path / "q"))["ok"]


def test_places_far_apart_get_no_levels_of_their_own(tmp_path):
    """Of 12-character cells only the levels that gather places are kept."""
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-170, 170, 3000), rng.uniform(-80, 80, 3000)
    cells = embarchive.grid.encode(lon, lat, 12)
    settings = replace(make_settings(1), precision=12)
    make_archive(tmp_path / "a", 3000, cells=cells, settings=settings, shard_prefix=1)
    found = make_pyramid(open_store(tmp_path / "a"), progress=quiet)
    assert found["level"] == 1 and found["rows"] <= 32


def test_too_many_cells_make_the_finest_level_coarser(root, monkeypatch):
    make_pyramid(open_store(root), progress=quiet)
    full = embarchive.open_archive(root)
    few = len(full.pyramid(4)) + len(full.pyramid(3)) + 10
    monkeypatch.setattr(pyramid, "affordable", lambda dim: few)
    monkeypatch.setattr(levels.Reader, "portion", 300)
    assert make_pyramid(open_store(root), progress=quiet)["level"] == 4
    # made from cells of more rows than tell their sum
    check(embarchive.open_archive(root), within=1)


def test_cells_decode_to_what_is_typical(tmp_path):
    """The mean of a cell's picture is near that of the tiles in it."""
    shutil.copytree(DEMO, tmp_path / "a")
    make_pyramid(open_store(tmp_path / "a"), progress=quiet)
    archive = embarchive.open_archive(tmp_path / "a")
    cells = archive.pyramid(5)
    images = archive.decode(cells)
    assert images.shape == (30, 4, 64, 112) and images.dtype == np.float32
    tiles = archive.select(columns=["geohash", "datetime", "source"])
    means = archive.decode(tiles).mean(axis=(2, 3))
    names = np.array([name[:5] for name in tiles["geohash"].to_pylist()])
    own = np.array([means[names == name].mean(axis=0) for name in cells["geohash"].to_pylist()])
    gap = np.abs(images.mean(axis=(2, 3)) - own).mean()
    assert gap < 0.1 * np.std(means, axis=0).mean()
    assert np.allclose(archive.decode(cells.slice(3, 1)), images[3:4], atol=1e-5)


@pytest.mark.parametrize("level", [0, 6, -1, True])
def test_levels_that_there_are_not(root, level):
    make_pyramid(open_store(root), progress=quiet)
    with pytest.raises(BadInput, match="level: expected 1 to 5"):
        embarchive.open_archive(root).pyramid(level)


def test_refusals(root, tmp_path):
    with pytest.raises(BadInput, match="expected a pyramid, found none"):
        embarchive.open_archive(root).pyramid(3)
    with pytest.raises(BadInput, match="read only"):
        make_pyramid(open_store("http://127.0.0.1:1/x", env={}), progress=quiet)
    single = replace(make_settings(), bands=("any",))
    make_archive(tmp_path / "s", 10, settings=single)
    with pytest.raises(BadInput, match="single bands"):
        make_pyramid(open_store(tmp_path / "s"), progress=quiet)
