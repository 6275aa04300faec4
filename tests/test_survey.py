"""The first pass over vectors: how fine cells have to be, where rows are, and a sample."""

import numpy as np
import pytest
from vectorfiles import lists, make_floats, make_points, plain, write

from embarchive import grid, survey
from embarchive.layouts import Wishes, look


def quiet(stage, done, total):
    pass


def share(lon, lat, precision):
    _, where, counts = np.unique(
        grid.encode(lon, lat, precision), return_inverse=True, return_counts=True
    )
    return float((counts[where] > 1).mean())


def test_the_precision_is_the_coarsest_at_which_few_rows_share_a_cell(tmp_path):
    lon, lat = make_points(3000)
    found = survey.survey([look(plain(tmp_path / "a.parquet", 3000), Wishes())], quiet)
    shares = [share(lon, lat, p) for p in range(1, 13)]
    assert found.precision == 1 + next(i for i, s in enumerate(shares) if s <= 0.01)
    assert 1 < found.precision < 12
    assert found.rows == 3000


def test_dates_and_sources_tell_rows_of_a_cell_apart_but_ids_do_not(tmp_path):
    lon, lat = np.repeat(make_points(50), 4, axis=1)
    columns = {"lon": lon, "lat": lat, "embedding": lists(make_floats(200, 8))}
    days = [f"2020-01-0{1 + i % 2}" for i in range(200)]
    sources = [f"s{i // 2 % 2}" for i in range(200)]
    ids = [f"id{i}" for i in range(200)]
    path = write(tmp_path / "a.parquet", {**columns, "d": days, "s": sources, "i": ids})

    def precision(**wishes):
        return survey.survey([look(path, Wishes(**wishes))], quiet).precision

    apart = 1 + next(i for i, p in enumerate(range(1, 13)) if share(lon[::4], lat[::4], p) <= 0.01)
    assert precision() == precision(datetime="d") == precision(source="s") == 12
    assert precision(datetime="d", source="s") == apart
    assert precision(datetime="d", source="i") == 12


@pytest.mark.parametrize("most", [10_000, 1000])
def test_a_tally_counts_shares_in_bounded_memory(most):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 20_000, 30_000).astype(np.uint64)
    tally = survey.Tally(most)
    for some in np.array_split(survey.mix(keys), 30):
        tally.add(some)
    _, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    assert abs(tally.shared() - (counts[where] > 1).mean()) < 0.04
    assert len(tally._keys) <= most


def test_shards_get_the_shortest_prefix_that_keeps_them_small(monkeypatch):
    places = grid.cell_codes(*make_points(5000, span=20.0), 12)
    found = survey.Survey(10_000, 7, np.sort(places), 2)
    monkeypatch.setattr(survey, "SHARD_ROWS", 500)
    monkeypatch.setattr(survey, "PREFIX_BYTES", 500 * 64 * 3)
    prefix = survey.shard_prefix(found, 7, 64)

    def fullest(letters):
        return 2 * np.unique(places >> np.uint64(5 * (12 - letters)), return_counts=True)[1].max()

    assert fullest(prefix) <= 1500 < fullest(prefix - 1)
    assert survey.shard_prefix(found, 1, 64) == 1
    assert survey.shard_prefix(found, 7, 1000) >= prefix >= survey.shard_prefix(found, 7, 1)


def test_few_rows_are_the_sample_and_of_many_some_of_all_files(tmp_path, monkeypatch):
    paths = [plain(tmp_path / f"{i}.parquet", 300, 8, seed=i) for i in range(3)]
    layouts = [look(path, Wishes()) for path in paths]
    every = np.concatenate([make_floats(300, 8, seed=i) for i in range(3)])
    np.testing.assert_array_equal(survey.sample(layouts), every)
    monkeypatch.setattr(survey, "SAMPLE_BYTES", 1)
    monkeypatch.setattr(survey, "LEAST_SAMPLE", 90)
    some = survey.sample(layouts)
    assert 50 < len(some) < 140
    known = {row.tobytes() for row in every}
    assert {row.tobytes() for row in some} <= known
