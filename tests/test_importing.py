"""Vectors that others made become archives that are searched as any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from vectorfiles import (
    alphaearth,
    clay,
    lists,
    major_tom,
    make_floats,
    make_points,
    plain,
    tessera,
    write,
)

import embarchive
from embarchive import grid, importing, survey
from embarchive.cli import main
from embarchive.errors import BadInput, Conflict
from embarchive.import_plan import Options
from embarchive.layouts import Wishes
from embarchive.levels import make_pyramid
from embarchive.store import open_store
from embarchive.verify import verify


def quiet(stage, done, total):
    pass


def brought(out, *paths, wishes=None, **options):
    done = importing.import_vectors(paths, str(out), wishes or Wishes(), Options(**options), quiet)
    return done, embarchive.open_archive(out)


def stored(archive):
    columns = ["geohash", "datetime", "source", "embedding", "bits", "model_id", "input_digest"]
    return archive.select(columns=columns)


@pytest.mark.parametrize("make", [clay, major_tom, tessera, alphaearth])
def test_layouts_of_others_are_imported_without_options(tmp_path, make):
    make(tmp_path / "v.parquet")
    done, archive = brought(tmp_path / "a", tmp_path / "v.parquet")
    assert (done["tiles"], done["added"], done["generation"]) == (60, 60, 1)
    assert verify(open_store(tmp_path / "a"))["ok"]
    assert archive.info()["datetime"] is not None
    assert set(stored(archive)["model_id"].to_pylist()) == {""}


def test_hits_are_those_of_the_floats(tmp_path):
    vectors = make_floats(3000, seed=3)
    lon, lat = make_points(3000)
    write(tmp_path / "v.parquet", {"lon": lon, "lat": lat, "embedding": lists(vectors)})
    done, archive = brought(tmp_path / "a", tmp_path / "v.parquet", precision=9)
    names = grid.encode(lon, lat, 9)
    assert done["places"] == len(np.unique(names))
    wide = vectors.astype(np.float64)
    kept = []
    for query in range(0, 3000, 100):
        away = ((wide - wide[query]) ** 2).sum(axis=1)
        away[names == names[query]] = np.inf
        truth = set(names[np.argsort(away)[:10]].tolist())
        like = [str(names[query])]
        found = (archive.search(like, k=10, exact=exact) for exact in (True, False))
        hits = [set(some["geohash"].to_pylist()) for some in found]
        kept.append([len(truth & some) / 10 for some in hits])
    every, listed = np.mean(kept, axis=0)
    # Round clusters are the worst that a shortlist can meet.
    assert every > 0.92 and listed > 0.8


def test_an_imported_archive_is_read_as_any_other_but_not_decoded(tmp_path, capsys):
    plain(tmp_path / "v.parquet", date=["2020-01-01"] * 200)
    _, archive = brought(tmp_path / "a", tmp_path / "v.parquet", attribution="Someone")
    info = archive.info()
    assert (info["regions"], info["decoders"], info["bands"]) == (0, {}, [])
    assert info["spaces"][0]["encoder"] is None and info["codec"] == "none"
    assert len(archive.models()) == 0
    rows = archive.select(bbox=(10, 45, 11, 46), datetime="2020-01-01")
    assert 0 < len(rows) < 200
    hits = archive.search(like=make_floats(200)[7], k=1)
    assert hits["score"][0].as_py() < 1
    with pytest.raises(BadInput, match="decode: expected rows that have a decoder, found some of"):
        archive.decode(hits)
    root = str(tmp_path / "a")
    assert main(["decode", root, "--out", str(tmp_path / "x.png")]) == 2
    (tmp_path / "x.tif").write_bytes(b"II")
    assert main(["search", root, "--like", str(tmp_path / "x.tif")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "decoder" in said[0] and "has no encoder" in said[1]
    assert main(["publish", root, "-q"]) == 0
    assert main(["sql", root, "--json", "SELECT count(*) FROM models"]) == 0
    assert main(["sql", root, "SELECT count(*) FROM tiles WHERE model_id = ''"]) == 0
    assert main(["sql", root, "--print", "--like", rows["geohash"][0].as_py()]) == 0
    text = capsys.readouterr().out
    assert '"rows": [\n    [\n      0' in text and "200" in text


def test_the_sql_of_a_search_gives_its_hits(tmp_path):
    pytest.importorskip("duckdb")
    from embarchive import sql

    plain(tmp_path / "v.parquet")
    _, archive = brought(tmp_path / "a", tmp_path / "v.parquet")
    like = [archive.select()["geohash"][5].as_py()]
    found = sql.run(archive.sql(), sql.search_sql(archive, like, k=20))
    hits = archive.search(like, k=20)
    assert found["geohash"].to_pylist() == hits["geohash"].to_pylist()
    assert found["score"].to_pylist() == hits["score"].to_pylist()


def test_rows_that_share_cell_date_and_source_get_sources_of_their_own(tmp_path):
    lon, lat = np.repeat(make_points(40), 3, axis=1)
    days = [f"2020-01-0{1 + (i % 3 == 2)}" for i in range(120)]
    vectors = make_floats(120, 8)
    columns = {"lon": lon, "lat": lat, "date": days, "embedding": lists(vectors)}
    write(tmp_path / "v.parquet", columns)
    done, archive = brought(tmp_path / "a", tmp_path / "v.parquet", precision=8)
    assert (done["renamed"], done["places"], done["tiles"]) == (40, 40, 120)
    rows = archive.select(geohash=grid.encode(lon[:1], lat[:1], 8).tolist(), columns=["source"])
    assert rows["source"].to_pylist() == ["v", "v#2", "v"]
    write(tmp_path / "w.parquet", {**columns, "s": ["one"] * 120})
    said = r"import w.parquet row \d+: expected a place, date and s of its own, found those of w"
    with pytest.raises(BadInput, match=said):
        brought(tmp_path / "b", tmp_path / "w.parquet", wishes=Wishes(source="s"), precision=8)
    assert not (tmp_path / "b" / "embarchive.json").exists()


def test_a_source_that_is_named_tells_rows_apart(tmp_path):
    sources = [f"scene{i % 2}" for i in range(199)] + [None]
    plain(tmp_path / "v.parquet", scene=sources)
    done, archive = brought(
        tmp_path / "a", tmp_path / "v.parquet", wishes=Wishes(source="scene"), precision=5
    )
    found = set(archive.select()["source"].to_pylist())
    assert {"scene0", "scene1", "v"} <= found and done["renamed"] > 0
    assert all(name.split("#")[0] in {"scene0", "scene1", "v"} for name in found)


def test_the_same_file_again_adds_nothing_and_another_is_appended(tmp_path):
    one, two = plain(tmp_path / "v.parquet"), plain(tmp_path / "w.parquet", seed=8)
    _, archive = brought(tmp_path / "a", one, precision=6)
    before = stored(archive)
    done, archive = brought(tmp_path / "a", one)
    assert (done["added"], done["generation"], done["tiles"]) == (0, 1, 200)
    done, archive = brought(tmp_path / "a", two)
    assert (done["added"], done["generation"], done["tiles"]) == (200, 2, 400)
    assert len(archive.spaces) == 1
    rows = stored(archive)
    again = rows.filter(pa.compute.not_equal(rows["source"].cast(pa.string()), "w"))
    again = again.filter(pa.compute.not_equal(again["source"].cast(pa.string()), "w#2"))
    assert again["input_digest"].to_pylist() == before["input_digest"].to_pylist()
    assert verify(open_store(tmp_path / "a"))["ok"]
    plain(tmp_path / "v.parquet", seed=0, embedding=lists(make_floats(200, seed=4)))
    with pytest.raises(Conflict, match="expected the stored input"):
        brought(tmp_path / "a", one)


def test_rows_that_are_added_are_in_the_pyramid(tmp_path):
    one, two = plain(tmp_path / "v.parquet"), plain(tmp_path / "w.parquet", seed=8)
    brought(tmp_path / "a", one, precision=6)
    store = open_store(tmp_path / "a")
    make_pyramid(store, progress=lambda *_: None)
    _, archive = brought(tmp_path / "a", two)
    cells = archive.pyramid(1)
    assert sum(cells["count"].to_pylist()) == len(archive) == 400
    assert set(cells["model_id"].to_pylist()) == {""} and verify(store)["ok"]
    with pytest.raises(BadInput, match="expected rows that have a decoder"):
        archive.decode(cells)


def test_files_in_parts_give_the_rows_of_one_file(tmp_path, monkeypatch):
    vectors, (lon, lat) = make_floats(2000), make_points(2000, span=30.0)
    columns = {"lon": lon, "lat": lat, "embedding": lists(vectors), "s": ["x"] * 2000}
    write(tmp_path / "v.parquet", columns)
    table = pa.table(columns)
    wishes = Wishes(source="s")
    parts = [
        write(tmp_path / f"{i}.parquet", table.slice(500 * i, 500).to_pydict() | {
            "embedding": lists(vectors[500 * i : 500 * i + 500])
        })
        for i in range(4)
    ]  # fmt: skip
    _, whole = brought(tmp_path / "a", tmp_path / "v.parquet", wishes=wishes)
    monkeypatch.setattr(importing, "BUCKET_BYTES", 1 << 15)
    monkeypatch.setattr(survey, "SHARD_ROWS", 150)
    monkeypatch.setattr(survey, "MOST_SHARDS", 1)
    done, many = brought(tmp_path / "b", *parts, wishes=wishes)
    assert stored(many) == stored(whole)
    assert done["generation"] == 1 and many.info()["shards"] > 10


def test_int8_comes_as_it_is_and_its_clipping_is_counted(tmp_path):
    q = np.clip(make_floats(200) * 40, -127, 127).astype(np.int8)
    q[3, 4] = -128
    plain(tmp_path / "v.parquet", embedding=lists(q), year=[2020] * 200)
    done, archive = brought(tmp_path / "a", tmp_path / "v.parquet", precision=8)
    assert done["scale"] == 1 and done["saturation"] == {"DJF": 1 / q.size}
    like = archive.search(like=np.maximum(q[9], -127), k=1, exact=True)
    assert like["score"][0].as_py() == 0


def test_saturation_is_said_by_season(tmp_path):
    days = ["2020-01-15"] * 100 + ["2020-07-15"] * 99 + [None]
    plain(tmp_path / "v.parquet", date=days)
    _, archive = brought(tmp_path / "a", tmp_path / "v.parquet")
    assert set(archive.space().saturation) == {"DJF", "JJA", "undated"}


def test_nothing_is_committed_when_a_late_row_is_bad(tmp_path):
    vectors = make_floats(200)
    vectors[199, 0] = np.nan
    plain(tmp_path / "v.parquet", embedding=lists(vectors))
    with pytest.raises(BadInput, match=r"import v.parquet: row 200: expected finite numbers"):
        brought(tmp_path / "a", tmp_path / "v.parquet")
    assert not (tmp_path / "a" / "embarchive.json").exists()


def test_scenes_are_not_built_into_imported_vectors(tmp_path):
    from embarchive import step_plan
    from embarchive.recipe import Recipe

    _, archive = brought(tmp_path / "a", plain(tmp_path / "v.parquet"))
    with pytest.raises(BadInput, match="expected an archive of scenes to add to, found one of ve"):
        step_plan.look([str(tmp_path)], Recipe(), archive.settings)


def test_rows_feed_a_trainer(tmp_path):
    pytest.importorskip("torch")
    _, archive = brought(tmp_path / "a", plain(tmp_path / "v.parquet"))
    found = list(embarchive.TileDataset(archive))
    assert len(found) == 200 and tuple(found[0]["embedding"].shape) == (64,)


def test_another_committer_in_the_meantime_is_a_conflict(tmp_path, monkeypatch):
    one, two = plain(tmp_path / "v.parquet"), plain(tmp_path / "w.parquet", seed=8)
    brought(tmp_path / "a", one)
    decide = importing.decide

    def late(*given):
        job = decide(*given)
        monkeypatch.setattr(importing, "decide", decide)
        brought(tmp_path / "a", plain(tmp_path / "x.parquet", seed=9))
        return job

    monkeypatch.setattr(importing, "decide", late)
    with pytest.raises(Conflict, match="found a new generation; run again"):
        brought(tmp_path / "a", two)
    assert len(embarchive.open_archive(tmp_path / "a")) == 400


def test_the_command_says_what_it_did_and_errors_in_one_line(tmp_path, capsys):
    path = plain(tmp_path / "v.parquet")
    assert main(["import", str(path), "--out", str(tmp_path / "a"), "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tiles"] == 200 and found["bits"] == 128 and found["saturation"]
    for line in (
        [str(path), "--vector", "none"],
        [str(path), "--lon", "lon"],
        [str(path), "--bits", "12"],
        [str(tmp_path / "no.parquet")],
    ):
        assert main(["import", *line, "--out", str(tmp_path / "b"), "-q"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("embarchive: import")


SCRIPT = """
import re, sys
from pathlib import Path
from embarchive.import_plan import Options
from embarchive.importing import import_vectors
from embarchive.layouts import Wishes
from embarchive import importing, survey
def quiet(*_): pass
# What is bounded is small, so that it is full with few rows.
importing.BUCKET_BYTES = survey.SAMPLE_BYTES = 4 << 20
survey.SHARD_ROWS, survey.MOST_SHARDS = 4096, 1
import_vectors([sys.argv[1]], sys.argv[2], Wishes(), Options(), quiet)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(path, out):
    """Peak memory of an import in a process of its own, MB."""
    source = str(Path(embarchive.__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(out)],
        capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source},
    )  # fmt: skip
    return int(run.stdout) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = [
        peak(plain(tmp_path / f"{n}.parquet", n, 256), tmp_path / f"a{n}") for n in (20_000, 80_000)
    ]
    # The vectors of the larger file are 82 MB, 61 MB more than those of the smaller.
    assert peaks[1] - peaks[0] < 50, peaks


def test_geoclip_vectors_keep_their_neighbours(real_data, tmp_path):
    import pyarrow.parquet as pq
    import shapely

    path = real_data / "geoclip_embeddings" / "geoclip_loc_512d_f16.parquet"
    done, archive = brought(tmp_path / "a", path)
    assert (done["tiles"], done["dim"], done["bits"]) == (4000, 512, 512)
    table = pq.read_table(path)
    vectors = np.stack(table["embedding"].to_numpy()).astype(np.float64)
    points = shapely.get_coordinates(shapely.from_wkb(table["geometry"].to_pylist()))
    names = grid.encode(points[:, 0], points[:, 1], done["precision"])
    squares = (vectors**2).sum(axis=1)
    kept = []
    for query in range(0, 4000, 80):
        away = squares - 2 * vectors @ vectors[query]
        away[names == names[query]] = np.inf
        # The best of a place counts.
        order = np.argsort(away)[:30]
        truth = list(dict.fromkeys(names[order].tolist()))[:10]
        hits = archive.search(like=[str(names[query])], k=10)["geohash"].to_pylist()
        kept.append(len(set(truth) & set(hits)) / 10)
    assert np.mean(kept) > 0.97


def units(path, count=500, seed=0, odd=None):
    """Unit vectors, one of them nothing but `odd`."""
    vectors = make_floats(count, seed=seed)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if odd is not None:
        vectors[17] = odd
    lon, lat = make_points(count, seed)
    return write(path, {"lon": lon, "lat": lat, "embedding": lists(vectors)})


def test_a_row_that_takes_the_whole_scale_is_refused(tmp_path):
    units(tmp_path / "v.parquet", odd=-9999)
    with pytest.raises(BadInput) as error:
        brought(tmp_path / "new" / "a", tmp_path / "v.parquet")
    assert str(error.value) == (
        "import v.parquet row 18: expected vectors that one int8 step can hold, found 9999 there, "
        "and 499 of 500 rows that the step 78.7 makes zeros: leave out rows of no data, or import "
        "the files apart"
    )
    assert not (tmp_path / "new").exists()


def test_a_row_far_beyond_the_scale_of_the_archive_is_refused(tmp_path):
    brought(tmp_path / "a", units(tmp_path / "v.parquet"))
    units(tmp_path / "w.parquet", seed=1, odd=-9999)
    with pytest.raises(BadInput, match=r"w.parquet row 18: expected numbers up to about .* 9999:"):
        brought(tmp_path / "a", tmp_path / "w.parquet")
    assert embarchive.open_archive(tmp_path / "a").generation == 1


def test_few_rows_may_become_zeros_and_are_brought_again(tmp_path):
    done, _ = brought(tmp_path / "a", units(tmp_path / "v.parquet", odd=1e-6))
    assert done["added"] == 500
    assert main(["export", str(tmp_path / "a"), "--out", str(tmp_path / "e.parquet")]) == 0
    done, archive = brought(tmp_path / "b", tmp_path / "e.parquet")
    assert done["added"] == 500
    assert stored(archive)["embedding"].to_pylist() == (
        stored(embarchive.open_archive(tmp_path / "a"))["embedding"].to_pylist()
    )


def test_int8_numbers_of_no_known_scale_do_not_mix_with_floats(tmp_path):
    rng = np.random.default_rng(0)
    lon, lat = make_points(200)
    numbers = lists(rng.integers(-100, 100, (200, 64)).astype(np.int8))
    whole = write(tmp_path / "q.parquet", {"lon": lon, "lat": lat, "embedding": numbers})
    units(tmp_path / "v.parquet")
    both = [whole, tmp_path / "v.parquet"]
    for first, second in (both, both[::-1]):
        with pytest.raises(BadInput, match=f"{second.name}: expected vectors of .* apart"):
            brought(tmp_path / "a", first, second)
        brought(tmp_path / first.stem, first)
        with pytest.raises(BadInput, match=f"{second.name}: .* as those of the archive"):
            brought(tmp_path / first.stem, second)
    assert not (tmp_path / "a").exists()
    # What the archive gave has its scale.
    assert main(["export", str(tmp_path / "q"), "--out", str(tmp_path / "e.parquet")]) == 0
    done, _ = brought(tmp_path / "q", tmp_path / "e.parquet")
    assert (done["scale"], done["added"]) == (1.0, 0)


def test_a_refused_import_leaves_nothing(tmp_path):
    lon, lat = make_points(300)
    columns = {"lon": lon, "lat": lat, "embedding": lists(make_floats(300)), "scene": ["s"] * 300}
    lon[299], lat[299] = lon[298], lat[298]
    write(tmp_path / "v.parquet", columns)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    for out in (tmp_path / "new" / "a", tmp_path / "there"):
        with pytest.raises(BadInput, match=r"expected a place, date and scene of its own"):
            brought(out, tmp_path / "v.parquet", wishes=Wishes(source="scene"))
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "there").rglob("*")] == ["mine"]
