"""The torch dataset: every row once, whole places, and two small trainings that learn."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import archives
import numpy as np
import pytest
import torch
from archives import FIRST, SCALE, make_archive, make_table, make_vectors
from torch.utils.data import DataLoader

import embarchive
from embarchive import TileDataset, feeds
from embarchive.additions import Addition, add_to_archive
from embarchive.errors import BadInput
from embarchive.rows import date_keys, embeddings
from embarchive.store import open_store

BOX = (13.05, 52.02, 13.2, 52.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed")
    make_archive(root, 2000, dates=4, nulls=True, shard_prefix=5)
    return root


@pytest.fixture(scope="module")
def rows(root):
    columns = ["embedding", "valid_fraction"]
    return embarchive.open_archive(root).select(columns=[*archives.rows.ORDER, *columns])


def keys(items):
    return [(i["geohash"], -1 if np.isnan(i["datetime"]) else i["datetime"], i["source"])
            for i in items]  # fmt: skip


def keys_of(table):
    when = table["datetime"].to_pylist()
    seconds = [-1 if moment is None else moment.timestamp() for moment in when]
    return list(
        zip(table["geohash"].to_pylist(), seconds, table["source"].to_pylist(), strict=True)
    )


def load(feed, workers=0):
    return list(DataLoader(feed, batch_size=None, num_workers=workers))


def test_tiles_are_the_rows_of_select_in_order(root, rows):
    feed = TileDataset(root, batch_rows=300)
    items = list(feed)
    assert len(feed) == len(items) == len(rows) == 2000
    assert keys(items) == keys_of(rows)
    vectors = np.stack([item["embedding"] for item in items])
    assert vectors.dtype == np.float32 and np.array_equal(vectors, embeddings(rows) * SCALE)
    centers = np.stack([item["lonlat"] for item in items])
    assert np.allclose(centers, embarchive.archive.grid.centers(rows["geohash"].to_pylist()))
    assert centers.dtype == np.float32
    assert [item["valid_fraction"] for item in items] == rows["valid_fraction"].to_pylist()


@pytest.mark.parametrize("seed", [None, 5])
def test_two_workers_give_every_row_exactly_once(root, rows, seed):
    items = load(TileDataset(root, shuffle_seed=seed), 2)
    assert sorted(keys(items)) == sorted(keys_of(rows))


def test_both_workers_have_shards_of_their_own(root, monkeypatch):
    taken = []
    for number in range(2):
        info = type("Info", (), {"id": number, "num_workers": 2})
        monkeypatch.setattr(feeds, "get_worker_info", lambda info=info: info)
        taken.append({item["geohash"][:5] for item in TileDataset(root)})
    assert all(taken) and not taken[0] & taken[1]


def test_a_shuffle_is_a_permutation_and_repeats(root, rows):
    one, again, other = (keys(TileDataset(root, shuffle_seed=s)) for s in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(other) == sorted(keys_of(rows)) and one != keys_of(rows)


def test_batches_of_a_loader_are_tensors(root):
    batch = next(iter(DataLoader(TileDataset(root), batch_size=32)))
    assert batch["embedding"].shape == (32, 64) and batch["embedding"].dtype == torch.float32
    assert batch["datetime"].dtype == torch.float64 and len(batch["geohash"]) == 32


@pytest.mark.parametrize("asked", [{"bbox": BOX}, {"datetime": "2023-05-05/2023-05-25"}])
def test_filters_are_those_of_select_and_leave_the_length_open(root, asked):
    archive = embarchive.open_archive(root)
    feed = TileDataset(archive, **asked)
    expected = archive.select(**asked)
    assert keys(feed) == keys_of(expected) and 0 < len(expected) < 2000
    with pytest.raises(TypeError):
        len(feed)
    with pytest.raises(TypeError):
        len(TileDataset(archive, sequences=True))


def test_a_box_costs_the_reads_of_its_shards_only(root):
    small, whole = embarchive.open_archive(root), embarchive.open_archive(root)
    assert len(list(TileDataset(small, bbox=(13.05, 52.02, 13.06, 52.03)))) > 0
    list(TileDataset(whole))
    assert small.store.requests < whole.store.requests
    assert small.store.bytes_read < whole.store.bytes_read / 2


def test_rows_of_an_older_space_are_left_out(root):
    archive = embarchive.open_archive(root)
    newer = replace(archive.space(), space_id="synthetic-2")
    held = replace(archive.head.generation, spaces=(*archive.spaces, newer))
    feed = TileDataset(embarchive.Archive(archive.store, replace(archive.head, generation=held)))
    assert len(feed) == 0 and list(feed) == []


@pytest.mark.parametrize("asked", [{"batch_rows": 0}, {"min_dates": 0}, {"bbox": (1, 2)}])
def test_what_cannot_be_is_refused(root, asked):
    with pytest.raises(BadInput):
        TileDataset(root, **asked)


# ---------------------------------------------------------------- processes


def append_one_date(root):
    """One more generation, with the rows of a later date as more shards."""
    store = open_store(root)
    archive = embarchive.open_archive(root)
    model = archive.models()["model_id"][0].as_py()
    later = make_table(100, models=[model], start=FIRST + timedelta(days=400))
    prefixes = np.array([name[:5] for name in later["geohash"].to_pylist()])
    found = []
    for prefix in np.unique(prefixes).tolist():
        for shard in archives.shards.write_shards(later.filter(prefixes == prefix), archives.EMB):
            archives._put(store, "shard", shard.data, prefix)
            put = partial(archives._put, store)
            found.append(archives._shard_row(shard, prefix, "synthetic-1", put))
    add_to_archive(
        store,
        lambda _: Addition(
            settings=archive.settings, shards=tuple(found), models=(), spaces=(), scenes=1, places=0
        ),
    )


def test_a_feed_stays_on_its_generation_in_every_process(tmp_path):
    make_archive(tmp_path, 400, dates=2, shard_prefix=5)
    feed = TileDataset(tmp_path)
    append_one_date(tmp_path)
    assert len(embarchive.open_archive(tmp_path)) == 500
    copy = pickle.loads(pickle.dumps(feed))  # what a spawned worker gets
    assert len(copy) == 400 and keys(copy) == keys(feed) == sorted(keys(load(feed, 2)))
    longer = list(TileDataset(tmp_path, sequences=True, min_dates=3))
    assert len(longer) == 100 and all(len(item["datetimes"]) == 3 for item in longer)


def test_forked_workers_are_refused_where_the_client_would_hang(root, monkeypatch):
    feed = TileDataset(root)
    monkeypatch.setattr(feeds.Archive, "root", "s3://bucket/archive")
    monkeypatch.setattr(feeds.os, "getpid", lambda: 1)
    with pytest.raises(BadInput, match="multiprocessing_context"):
        next(iter(feed))


# ---------------------------------------------------------------- places


def best_days(table, min_dates):
    """{geohash: [(datetime, vector) of the best row of each day]}, the slow way."""
    places = {}
    for row in table.to_pylist():
        if row["datetime"] is not None:
            days = places.setdefault(row["geohash"], {})
            day = row["datetime"].date()
            if day not in days or row["valid_fraction"] > days[day]["valid_fraction"]:
                days[day] = row
    return {
        name: [(days[d]["datetime"].timestamp(), days[d]["embedding"]) for d in sorted(days)]
        for name, days in places.items()
        if len(days) >= min_dates
    }


def check_places(items, expected):
    assert [item["geohash"] for item in items] == list(expected)
    for item in items:
        when, vectors = zip(*expected[item["geohash"]], strict=True)
        assert item["datetimes"].tolist() == list(when)
        assert np.array_equal(item["embeddings"], np.array(vectors, np.float32) * SCALE)


@pytest.mark.parametrize("min_dates", [1, 3, 4])
def test_sequences_are_whole_places_with_the_best_row_of_each_day(root, rows, min_dates):
    items = list(TileDataset(root, sequences=True, min_dates=min_dates, batch_rows=7))
    check_places(items, best_days(rows, min_dates))


def test_overlapping_scenes_of_a_day_leave_the_best_row(tmp_path, monkeypatch):
    real = make_table

    def table(*given, **asked):
        found = real(*given, **asked)
        # dates 10 days apart become hours apart: three a day
        when = date_keys(found["datetime"]) - archives.FIRST.timestamp() * 1e6
        moved = [
            datetime(2023, 5, 1, tzinfo=UTC) + timedelta(hours=8 * w / 864e9) for w in when.tolist()
        ]
        column = archives.pa.array(moved, found.schema.field("datetime").type)
        return found.set_column(1, found.schema.field("datetime"), column)

    monkeypatch.setattr(archives, "make_table", table)
    stored = make_archive(tmp_path, 600, dates=6)
    expected = best_days(stored, 2)
    assert {len(days) for days in expected.values()} == {2}
    check_places(list(TileDataset(tmp_path, sequences=True)), expected)


@pytest.mark.parametrize("seed", [None, 3])
def test_large_prefixes_are_read_in_pieces_with_places_whole(root, rows, monkeypatch, seed):
    monkeypatch.setattr(feeds, "MOST_ROWS", 20)
    feed = TileDataset(root, sequences=True, shuffle_seed=seed)
    items = sorted(feed, key=lambda item: item["geohash"])
    check_places(items, best_days(rows, 2))
    tiles = keys(TileDataset(root, shuffle_seed=seed, bbox=BOX))
    expected = keys_of(embarchive.open_archive(root).select(bbox=BOX))
    assert sorted(tiles) == sorted(expected) and (seed is not None or tiles == expected)


def test_two_workers_give_every_place_once(root, rows):
    items = load(TileDataset(root, sequences=True), 2)
    assert sorted(item["geohash"] for item in items) == list(best_days(rows, 2))


# ---------------------------------------------------------------- images


def test_images_are_decoded_in_batches_and_belong_to_their_rows(root, monkeypatch):
    archive, calls = embarchive.open_archive(root), []

    def decode(table):
        assert {"embedding", "model_id"} <= set(table.column_names)
        calls.append(len(table))
        first = embeddings(table)[:, :3].astype(np.float32) * np.float32(SCALE)
        return np.broadcast_to(first[:, :, None, None], (len(table), 3, 4, 5))

    monkeypatch.setattr(archive, "decode", decode)
    for item in TileDataset(archive, images=True, batch_rows=64, shuffle_seed=1):
        assert item["image"].shape == (3, 4, 5)
        assert np.array_equal(item["image"][:, 0, 0], item["embedding"][:3])
    assert sum(calls) == 2000 and max(calls) == 64
    for item in TileDataset(archive, images=True, sequences=True, batch_rows=64):
        assert np.array_equal(item["images"][:, :, 3, 4], item["embeddings"][:, :3])
    assert 1 < max(calls) <= 64


@pytest.mark.parametrize("sequences", [False, True])
def test_images_cost_no_second_reading_of_their_rows(root, monkeypatch, sequences):
    def decode(decoder, table):
        assert {"embedding", "code", "model_id"} <= set(table.column_names)
        return np.zeros((len(table), 3, 4, 5), np.float32)

    def again(archive, rows):
        raise AssertionError("rows were read again")

    monkeypatch.setattr(embarchive.archive.decoding, "decode_rows", decode)
    monkeypatch.setattr(embarchive.archive.resolve, "again", again)
    assert list(TileDataset(root, images=True, sequences=sequences, batch_rows=64))


# ---------------------------------------------------------------- trainings


def train(network, x, y, loss, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network(x), y).backward()
        optimizer.step()


def test_a_classifier_learns_the_kind_of_place(root):
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 30, (12, 64))  # the first draw of make_vectors, before its noise
    torch.manual_seed(0)
    batches = list(DataLoader(TileDataset(root, shuffle_seed=0), batch_size=500))
    x = torch.cat([batch["embedding"] for batch in batches])
    gaps = torch.cdist(x / SCALE, torch.tensor(kinds, dtype=torch.float32))
    y = gaps.argmin(1) % 3  # three classes of four kinds each
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    train(network, x[:1500], y[:1500], torch.nn.functional.cross_entropy, 60)
    accuracy = (network(x[1500:]).argmax(1) == y[1500:]).float().mean()
    assert accuracy > 0.9 > 2 * float(torch.bincount(y).max()) / len(y)


def drifting(count, dim=64, seed=0, *, places=200):
    """Vectors that turn by the same rotation from each date to the next, with noise."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.eye(dim) + 0.08 * rng.normal(size=(dim, dim)))
    turn *= np.sign(np.diag(turn))
    at = rng.normal(0, 25, (places, dim))
    dates = []
    for _ in range(-(-count // places)):
        dates.append(at + rng.normal(0, 1, at.shape))
        at = at @ turn
    return np.clip(np.round(np.concatenate(dates)[:count]), -127, 127).astype(np.int8)


def test_a_next_date_predictor_beats_persistence_on_a_drift(tmp_path, monkeypatch):
    monkeypatch.setattr(
        archives, "make_vectors", lambda n, d, seed=0: (make_vectors if seed else drifting)(n, d)
    )
    make_archive(tmp_path, 1200, dates=6)
    torch.manual_seed(0)
    series = [torch.as_tensor(i["embeddings"]) for i in TileDataset(tmp_path, sequences=True)]
    assert len(series) == 200 and {len(s) for s in series} == {6}
    x, y = (torch.cat([s[side] for s in series]) for side in (slice(-1), slice(1, None)))
    seen = 5 * 140  # whole places are held out
    change = torch.nn.Linear(64, 64)
    train(change, x[:seen], (y - x)[:seen], torch.nn.functional.mse_loss, 150)
    held, after = x[seen:], y[seen:]
    persistence = torch.nn.functional.mse_loss(held, after)
    assert torch.nn.functional.mse_loss(held + change(held), after) < 0.5 * persistence
