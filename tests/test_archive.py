"""The reader over files and over HTTP, against tables held in memory."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from archives import SCALE, make_archive, make_cells, make_simhash, make_table

import embarchive
from embarchive import grid, reads, resolve, search
from embarchive.errors import (
    BadInput,
    Damaged,
    EmbarchiveError,
    GenerationExpired,
    MissingExtra,
    NotAnArchive,
    StoreUnreachable,
)
from embarchive.exemplars import Image
from embarchive.filters import make_filter, row_mask
from embarchive.serve import running
from embarchive.store import open_store

CELLS = make_cells(1000)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    make_archive(root, 2000, dates=2, nulls=True, shard_prefix=4)
    return root


@pytest.fixture(scope="module")
def table(root):
    return embarchive.open_archive(root).select(columns=make_table(4).column_names)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    root = tmp_path_factory.mktemp("big")
    make_archive(root, 50_000)
    with running(root) as url:
        yield url


@pytest.fixture
def archive(root):
    return embarchive.open_archive(root)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"bbox": (13.05, 52.02, 13.2, 52.1)},
        {"bbox": (13.2, 52.0, 13.1, 52.1)},
        {"datetime": "2023-05-05/.."},
        {"datetime": ("2023-05-01", "2023-05-01"), "geohash": "u33"},
        {"polygon": "POLYGON ((13.1 52, 13.3 52.05, 13.1 52.1, 13.1 52))"},
        {"geohash": [str(CELLS[7]), str(CELLS[900])]},
    ],
)
def test_select_gives_exactly_the_rows_that_match(archive, table, asked):
    found = archive.select(**asked, columns=table.column_names)
    wanted = make_filter(
        asked.get("bbox"), asked.get("polygon"), asked.get("geohash"), asked.get("datetime")
    )
    expected = table.filter(row_mask(table, wanted))
    assert 0 < len(found) == len(expected)
    for name in table.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist()


def test_select_leaves_the_heavy_columns_out_and_keeps_the_order_asked_for(archive):
    assert not {"embedding", "bits", "code"} & set(archive.select(geohash="u").column_names)
    some = archive.select(columns=["mse", "geohash"])
    assert some.column_names == ["mse", "geohash"] and len(some) == len(archive) == 2000


def test_select_of_nothing_has_the_columns_and_no_rows(archive):
    assert archive.select(datetime="1999-01-01", columns=["geohash"]).num_rows == 0
    assert archive.select(bbox=(0, 0, 1, 1)).num_rows == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"columns": ["ndvi"]},
        {"bbox": (1, 2)},
        {"datetime": "2024-01-02/2024-01-01"},
        {"polygon": "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"},
        {"geohash": "ilo"},
    ],
)
def test_select_refuses_what_cannot_be(archive, asked):
    with pytest.raises(BadInput):
        archive.select(**asked)


def test_search_is_the_ranking_of_all_rows_without_the_exemplars_cell(archive, table):
    name = str(CELLS[123])
    own = archive.select(geohash=name, columns=["embedding", "datetime", "valid_fraction"])
    hits = archive.search(name, k=12)
    good = [r for r in own.to_pylist() if r["valid_fraction"] >= 0.8 and r["datetime"]]
    best = (
        max(good, key=lambda r: r["datetime"])
        if good
        else max(own.to_pylist(), key=lambda r: r["valid_fraction"])
    )
    vector = np.array([best["embedding"]], dtype=np.int8)
    query = search.Query(vector, vector[:0], k=12, exclude=[name])
    expected = search.rank(table, query, make_simhash(), SCALE)
    assert hits.to_pylist() == expected.to_pylist()
    assert name not in hits["geohash"].to_pylist()


def test_search_says_its_space_and_what_it_cost(root):
    archive = embarchive.open_archive(root)
    before = archive.store.requests
    said = archive.search(str(CELLS[3]), k=3).schema.metadata
    assert said[b"space_id"].decode() == archive.spaces[-1].space_id
    assert int(said[b"requests"]) == archive.store.requests - before > 0
    assert int(said[b"bytes_read"]) > 0 and float(said[b"seconds"]) > 0


def test_a_second_search_costs_no_request(archive):
    archive.search(str(CELLS[3]), k=3)
    again = archive.search(str(CELLS[40]), k=3)
    assert again.schema.metadata[b"requests"] == b"0"


def test_a_stored_vector_finds_its_own_place_first(archive, table):
    vector = np.array(table["embedding"][77].as_py(), dtype=np.int8)
    for like in (vector, vector * SCALE):
        hits = archive.search(like, k=5, exact=True, columns=["mse"])
        assert hits["geohash"][0].as_py() == table["geohash"][77].as_py()
        assert hits["score"][0].as_py() == 0 and "mse" in hits.column_names


def test_points_dates_and_geohashes_name_the_same_tile(archive):
    name = str(CELLS[500])
    lon, lat = grid.centers(np.array([name]))[0]
    day = archive.select(geohash=name, columns=["datetime"])["datetime"].drop_null()[0].as_py()
    found = [
        archive.search(like, k=5).to_pylist()
        for like in ([name], f"{lon},{lat}", (lon, lat), [(lon, lat)])
    ]
    assert all(one == found[0] for one in found)
    assert archive.search(f"{name}@{day:%Y-%m-%d}", k=5).num_rows == 5


def test_unlike_and_its_cell_are_away_from_the_hits(archive):
    near, far = str(CELLS[5]), str(CELLS[905])
    plain = archive.search(near, k=200)
    pushed = archive.search(near, unlike=far, k=200)
    assert far not in pushed["geohash"].to_pylist()
    assert plain["geohash"].to_pylist() != pushed["geohash"].to_pylist()


def test_search_in_a_box_and_time_stays_inside(archive):
    hits = archive.search(
        str(CELLS[5]), k=500, bbox=(13.1, 52.0, 13.2, 52.1), datetime="2023-05-11", per_place=0
    )
    assert {str(day)[:10] for day in hits["datetime"].to_pylist()} == {"2023-05-11"}
    west, east = (np.array([b[s] for b in hits["bbox"].to_pylist()]) for s in ("xmin", "xmax"))
    assert len(hits) and (west <= 13.2).all() and (east >= 13.1).all()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"like": []}, "at least one exemplar"),
        ({"like": "u33d8k", "k": 0}, "k must be at least 1, found 0"),
        ({"like": np.zeros(3)}, "expected a vector of 64 numbers, found 3"),
        ({"like": str(CELLS[0]), "space": "nope"}, "space: expected one of"),
        ({"like": f"{CELLS[0]}@1999-01-01"}, "no tile on that date; it has 2023-05"),
        ({"like": str(CELLS[0]), "columns": ["x"]}, "columns: expected some of"),
    ],
)
def test_search_refuses_what_cannot_be(archive, asked, message):
    with pytest.raises(BadInput, match=message):
        archive.search(**asked)


def test_a_place_without_a_tile_is_told_with_the_nearest_one(archive):
    corner = grid.centers(CELLS[:1])[0] - 0.01
    outside = str(grid.encode(corner[:1], corner[1:], 6)[0])
    nearest = min(CELLS, key=lambda name: math.dist(grid.centers(np.array([name]))[0], corner))
    with pytest.raises(BadInput, match=f"{outside} has no tile.*nearest is {nearest}"):
        archive.search(outside)


def test_info_has_the_keys_of_the_contract(archive):
    info = archive.info()
    keys = "generation tiles shards regions embedding_dim bits bounds datetime bytes codec"
    assert {*keys.split(), "saturation", "bands", "spaces"} <= set(info)
    assert set(info["bytes"]) == {"shards", "manifest", "models", "overview", "total"}
    assert info["tiles"] == 2000 and info["regions"] == 2 and info["generation"] == 1
    assert info["bytes"]["total"] == sum(v for k, v in info["bytes"].items() if k != "total")
    assert info["bounds"] == list(archive.bounds)
    assert info["decoders"] == {"shared": 2}


def test_decode_takes_hits_selections_and_geohashes(archive, monkeypatch):
    def decode_batch(architecture, backbone, adapter, z):
        return np.repeat(z[:, :3, None, None], 4, axis=2).astype(np.float32)

    monkeypatch.setattr("embarchive.decode.model.decode_batch", decode_batch)
    decoder = embarchive.archive.decoding.Decoder(None, {}, None, SCALE)
    monkeypatch.setattr(archive.weights, "decoder", lambda model_id: decoder)
    hits = archive.search(str(CELLS[9]), k=6, columns=["embedding"])
    direct = archive.decode(hits)
    assert direct.shape == (6, 3, 4, 1)
    assert np.array_equal(archive.decode(hits.drop_columns(["embedding"])), direct)
    names = [str(CELLS[9]), str(CELLS[2]), str(CELLS[9])]
    images = archive.decode(names)
    assert np.array_equal(images[0], images[2]) and len(images) == 3
    assert len(archive.decode([])) == 0 == len(archive.decode(archive.select(geohash="9")))
    with pytest.raises(BadInput, match="missing"):
        archive.decode(archive.select(columns=["geohash"]))


def test_an_image_goes_through_the_encoder_of_the_space(archive, monkeypatch):
    monkeypatch.setattr(resolve, "encode_image", lambda *_: np.full(64, 0.5, np.float32))
    hits = archive.search(np.full(64, 0.5), k=4)
    found = resolve.vectors(
        archive, [Image("a.tif")], archive.space(), archive.plan(make_filter()), []
    )
    assert found.vectors.tolist() == [[16] * 64] and len(hits) == 4


@pytest.mark.parametrize(
    ("inside", "most"),
    [((13.3, 52.3, 13.5, 52.4), 3_000_000), ((13.9, 52.5, 14.1, 52.7), 5_000_000)],
)
def test_a_box_search_in_50k_tiles_takes_at_most_12_requests(big, inside, most):
    archive = embarchive.open_archive(big)
    assert archive.store.requests == 2
    hits = archive.search(str(make_cells(50_000)[100]), k=50, bbox=inside)
    assert len(hits) == 50
    assert archive.store.requests <= 12
    assert archive.store.bytes_read < most


def test_opening_and_planning_50k_tiles_reads_under_512_kb(big):
    archive = embarchive.open_archive(big)
    archive.plan(make_filter((13.3, 52.3, 13.5, 52.4)))
    assert archive.store.requests == 3 and archive.store.bytes_read < 512_000


def test_one_tile_of_50k_is_found_in_few_bytes(big):
    archive = embarchive.open_archive(big)
    rows = archive.select(geohash=str(make_cells(50_000)[30_000]), columns=["geohash", "mse"])
    assert len(rows) == 1
    assert archive.store.requests <= 8 and archive.store.bytes_read < 300_000


def test_files_and_http_give_the_same(root):
    with running(root) as url:
        far, near = embarchive.open_archive(url), embarchive.open_archive(root)
        asked = {"like": str(CELLS[8]), "k": 9, "bbox": (13.0, 52.0, 13.3, 52.2)}
        assert far.search(**asked).to_pylist() == near.search(**asked).to_pylist()
        assert far.info() == near.info()


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_a_damaged_shard_is_an_error_and_never_a_row(tmp_path, how):
    make_archive(tmp_path, 300)
    path = next(tmp_path.glob("embeddings/*/*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data if how == "flip" else data[: len(data) // 2])
    archive = embarchive.open_archive(tmp_path)
    with pytest.raises(GenerationExpired if how == "gone" else Damaged):
        archive.select()


def test_flips_in_a_big_shard_are_found_by_range_reads(tmp_path):
    make_archive(tmp_path, 20_000)
    path = max(tmp_path.glob("embeddings/*/*.parquet"), key=lambda p: p.stat().st_size)
    clean, rng = path.read_bytes(), np.random.default_rng(4)
    prefix = path.parent.name.removeprefix("gh=")
    asked = {"geohash": prefix, "columns": ["geohash", "bits"]}
    expected = embarchive.open_archive(tmp_path).select(**asked)
    assert len(clean) > 2 * reads.WHOLE_BYTES
    found = 0
    for _ in range(25):
        data = bytearray(clean)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            # a flip in what is not read is not seen, and does no harm
            assert embarchive.open_archive(tmp_path).select(**asked).equals(expected)
        except Damaged:
            found += 1
    assert 0 < found < 25


def test_what_is_no_archive_is_told(tmp_path):
    with pytest.raises(NotAnArchive):
        embarchive.open_archive(tmp_path)
    with pytest.raises((NotAnArchive, StoreUnreachable)):
        embarchive.open_archive(tmp_path / "none")
    (tmp_path / "embarchive.json").write_text("{}")
    with pytest.raises(EmbarchiveError):
        embarchive.open_archive(tmp_path)


def test_a_generation_without_parts_is_empty(archive):
    held = replace(archive.head.generation, parts=(), tiles=0)
    archive = embarchive.Archive(archive.store, replace(archive.head, generation=held))
    assert len(archive) == 0 and archive.select().num_rows == 0
    assert archive.bounds == (0, 0, 0, 0) and archive.info()["shards"] == 0
    assert archive.search(np.zeros(64)).num_rows == 0


def test_a_search_where_nothing_is_gives_no_hits(archive):
    hits = archive.search(str(CELLS[5]), bbox=(0, 0, 1, 1), columns=["mse"])
    assert len(hits) == 0 and "mse" in hits.column_names


def test_the_package_names_are_few_and_lazy():
    assert set(embarchive.__all__) == {
        "Archive",
        "TileDataset",
        "__version__",
        "errors",
        "open_archive",
        "stack_bands",
    }
    with pytest.raises(AttributeError):
        _ = embarchive.nothing


def test_without_torch_a_feed_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "embarchive.feeds", raising=False)
    monkeypatch.delattr(embarchive, "feeds", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.data", None)
    with pytest.raises(MissingExtra, match=r"needs torch, install embarchive\[encode\]") as caught:
        _ = embarchive.TileDataset
    assert isinstance(caught.value, BadInput) and isinstance(caught.value, ImportError)


def test_an_archive_opens_at_a_head_that_is_known_without_reading(root):
    known = embarchive.open_archive(root).head
    store = open_store(root)
    archive = embarchive.Archive(store, known)
    assert store.requests == 0 and archive.generation == known.pointer.generation
    assert len(archive.select()) == len(archive)


def test_a_refreshed_archive_fetches_only_what_is_new(tmp_path):
    make_archive(tmp_path, 3000)
    archive = embarchive.open_archive(tmp_path)
    before = archive.select(columns=["geohash", "embedding"])
    requests = archive.store.requests
    assert archive.refresh() is archive and archive.store.requests == requests + 1
    make_archive(tmp_path, 500, named="more", cells=make_cells(500, 100.0, 10.0))
    requests, read = archive.store.requests, archive.store.bytes_read
    after = archive.refresh()
    assert (after.generation, len(archive), len(after)) == (archive.generation + 1, 3000, 3500)
    assert after.store.requests == requests + 2
    both = after.select(columns=["geohash", "embedding"])
    assert len(both) == 3500
    new = sum(row.length for row in after.shards()) - sum(row.length for row in archive.shards())
    assert after.store.bytes_read - read < new + 20_000
    assert archive.select(columns=["geohash", "embedding"]).equals(before)
