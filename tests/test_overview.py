"""The overview: lists by which a search of all of an archive reads little of it."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from archives import EMB, FIRST, SCALE, _put, _shard_row, make_settings

import embarchive
from embarchive import (
    candidates,
    compact,
    find,
    fit_coarse,
    grid,
    inverted,
    make_overview,
    parts,
    reader,
    rows,
    shards,
)
from embarchive.additions import Addition, add_to_archive
from embarchive.coarse import Coarse
from embarchive.collect import collect
from embarchive.commit import Draft, commit
from embarchive.errors import BadInput, Conflict, Damaged
from embarchive.manifest import Space
from embarchive.quantize import fit_simhash
from embarchive.store import open_store
from embarchive.verify import verify

DIM, PREFIXES, ROWS = 16, ("u09", "u0d", "u1h", "gcp"), 1024
QUIET = lambda *_: None  # noqa: E731


def vectors(count: int, seed: int) -> np.ndarray:
    """Rows around 60 points of 16 numbers."""
    kinds = np.random.default_rng(1).normal(0, 25, (60, DIM))
    rng = np.random.default_rng(seed)
    found = kinds[rng.integers(len(kinds), size=count)] + rng.normal(0, 9, (count, DIM))
    return np.clip(np.rint(found), -127, 127).astype(np.int8)


def cells(prefix: str) -> list[str]:
    letters = grid.ALPHABET
    return [prefix + a + b for a in letters for b in letters]


def addition(store, prefixes, seed: int, space_id: str = "made-1", drawn=vectors) -> Addition:
    """Shards of some prefixes, a row a cell; drawn: their vectors, of a count and a seed."""
    put = lambda kind, data, prefix=None: _put(store, kind, data, prefix)  # noqa: E731
    simhash = fit_simhash(vectors(2000, 0), 64, 0)
    model = put("model", b"no weights")
    space = Space(
        space_id=space_id, encoder=put("model", b"encoder"), encoder_length=7, dim=DIM,
        metric="l2", scale=SCALE, simhash=simhash.to_json(),
    )  # fmt: skip
    found = []
    for number, prefix in enumerate(prefixes):
        q = drawn(ROWS, seed + number)
        fixed = {
            "model_id": [model] * ROWS,
            "source": [f"scene-{seed}"] * ROWS,
            "input_digest": [int(i).to_bytes(8, "big") for i in range(ROWS)],
            "valid_fraction": np.ones(ROWS),
        }
        when = [FIRST + timedelta(days=seed)] * ROWS
        table = rows.make_rows(np.array(cells(prefix)), when, q, simhash.encode(q), fixed)
        for shard in shards.write_shards(table, EMB):
            put("shard", shard.data, prefix)
            found.append(_shard_row(shard, prefix, space_id, put))
    return Addition(
        settings=replace(make_settings(3), precision=5, dim=DIM, bits=64), shards=tuple(found),
        spaces=(space,), scenes=1, places=ROWS * len(prefixes),
    )  # fmt: skip


def append(root, prefixes, seed: int, space_id: str = "made-1"):
    store = open_store(root)
    return add_to_archive(store, lambda _: addition(store, prefixes, seed, space_id))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("overview") / "made"
    append(root, PREFIXES, 100)
    make_overview.make(open_store(root), progress=QUIET)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


@pytest.fixture
def few(monkeypatch):
    """Four lists read of some two hundred, for boxes too."""
    monkeypatch.setattr(candidates, "PROBED", 4)
    monkeypatch.setattr(find, "LARGE", 1)


def entries(archive) -> list[tuple[str, bytes]]:
    """What the lists of an archive hold: cells and codes."""
    lists = archive.overview.lists(archive.space())
    found = archive.overview.read(lists, np.arange(len(lists.rows)))
    return sorted(
        (name, number.to_bytes(2, "big") + code.tobytes())
        for number, codes, own in found
        for name, code in zip(
            candidates.geohash.spell(own, archive.settings.precision).tolist(), codes.T, strict=True
        )
    )


def names(table) -> list[str]:
    return table["geohash"].to_pylist()


def test_all_rows_are_in_lists_once(root):
    archive = embarchive.open_archive(root)
    lists = archive.overview.lists(archive.space())
    assert lists.total == len(archive) == ROWS * len(PREFIXES)
    held = [name for name, _ in entries(archive)]
    assert held == sorted(names(archive.select(columns=["geohash"])))


def test_a_search_finds_what_reading_everything_finds(root, few):
    asked, found, read = vectors(40, 7), [], []
    archive = embarchive.open_archive(root)
    for one in asked:
        near, exact = archive.search(one, k=10), archive.search(one, k=10, exact=True)
        found.append(len(set(names(near)) & set(names(exact))) / 10)
        kept = exact.filter(pa.compute.is_in(exact["geohash"], near["geohash"]))
        both = near.filter(pa.compute.is_in(near["geohash"], exact["geohash"]))
        assert both.equals(kept)
        read.append(float(near.schema.metadata[b"share_read"]))
    assert np.mean(found) > 0.95
    assert max(read) < 0.25
    assert exact.schema.metadata[b"share_read"] == b"1.000000"


def test_the_same_hits_from_sql(root, few):
    from embarchive import sql

    archive = embarchive.open_archive(root)
    for asked in ({"like": "u09bc"}, {"like": ["u09bc", "gcp00"], "unlike": "u1hzz", "k": 7}):
        hits = archive.search(**asked)
        with archive.sql() as con:
            found = con.sql(sql.search_sql(archive, **asked)).to_arrow_table()
        for column in hits.column_names:
            assert hits[column].to_pylist() == found[column].to_pylist()


def test_exemplars_and_what_a_box_leaves_out_are_not_among_the_hits(root, few):
    archive = embarchive.open_archive(root)
    hits = archive.search(["u09bc", "gcp00"], k=20)
    assert len(hits) == 20 and not {"u09bc", "gcp00"} & set(names(hits))
    west, south, east, north = grid.bounds(np.array(["u0"]))[0]
    inside = archive.search("gcp00", k=20, bbox=(west, south, east, north))
    assert len(inside) == 20 and all(name.startswith("u0") for name in names(inside))
    assert float(inside.schema.metadata[b"share_read"]) < 0.5


@pytest.mark.parametrize(
    "options", [{"invert": True}, {"op": "xor"}, {"datetime": "2020-01-01/.."}, {"exact": True}]
)
def test_other_searches_read_the_rows(root, few, options):
    archive = embarchive.open_archive(root)
    hits = archive.search("gcp00", k=5, **options)
    assert hits.schema.metadata[b"share_read"] == b"1.000000"


def test_several_searches_at_once_are_those_alone(root, few):
    archive = embarchive.open_archive(root)
    asked = ["u09bc", "gcp00", vectors(1, 3)[0]]
    together = archive.search_many(asked, k=6)
    for one, table in zip(asked, together, strict=True):
        assert table.equals(archive.search(one, k=6))


def test_what_is_appended_is_found_without_touching_old_lists(root, few):
    before = embarchive.open_archive(root)
    files = set(before.overview.index["file"].to_pylist())
    append(root, ["u3b"], 900)
    archive = embarchive.open_archive(root)
    assert files < set(archive.overview.index["file"].to_pylist())
    assert archive.overview.lists(archive.space()).total == len(archive) == 5 * ROWS
    row = archive.select(geohash="u3bzz", columns=["embedding"])["embedding"][0].as_py()
    assert "u3bzz" in names(archive.search(np.array(row, np.int8), k=3))
    assert archive.info()["bytes"]["overview"] > before.info()["bytes"]["overview"]
    assert verify(open_store(root))["ok"]


def test_an_append_beyond_what_a_reader_takes_commits_nothing(root, monkeypatch):
    before = embarchive.open_archive(root)
    held = len(before.overview.index)
    monkeypatch.setattr(parts, "MAX_TABLE_ROWS", held)
    expected = f"^overview: expected at most {held} segments, found [0-9]+; run embarchive compact$"
    with pytest.raises(BadInput, match=expected):
        append(root, ["u3b"], 900)
    assert embarchive.open_archive(root).generation == before.generation
    assert verify(open_store(root))["ok"]


def test_the_same_rows_again_add_nothing(root):
    before = embarchive.open_archive(root)
    again = append(root, PREFIXES, 100)
    assert again.generation.number == before.generation
    append(root, ["u3b", "u09"], 900)
    mixed = append(root, ["u3b", "u3c"], 900)
    archive = embarchive.open_archive(root)
    assert mixed.generation.tiles == len(archive) == len(entries(archive))


def test_compact_merges_segments_and_keeps_what_is_in_them(root, few):
    append(root, ["u3b"], 900)
    before = embarchive.open_archive(root)
    held, hits = entries(before), before.search("gcp00", k=20)
    found = compact.compact(open_store(root), progress=QUIET)
    after = embarchive.open_archive(root)
    assert found["segments"] > 0 and found["generation"] == after.generation
    lists = after.overview.lists(after.space())
    assert len(lists.index) == np.count_nonzero(lists.rows)
    assert entries(after) == held
    assert after.search("gcp00", k=20).equals(hits)
    assert compact.compact(open_store(root), progress=QUIET)["segments"] == 0


def test_gc_keeps_what_an_overview_names_and_removes_what_none_does(root):
    first = set(embarchive.open_archive(root).overview.index["file"].to_pylist())
    make_overview.make(open_store(root), lists=20, progress=QUIET)
    store = open_store(root)
    collect(store, grace=0, delete=True, progress=QUIET)
    assert verify(store)["ok"]
    left = {path.stem for path in (root / "overview").iterdir()}
    second = embarchive.open_archive(root)
    assert set(second.overview.index["file"].to_pylist()) < left
    assert not first & left


def test_a_space_without_lists_is_searched_row_by_row(root, few):
    append(root, ["u3b"], 900, "other-2")
    archive = embarchive.open_archive(root)
    hits = archive.search(vectors(1, 2)[0], k=3)
    assert hits.schema.metadata[b"space_id"] == b"other-2"
    assert len(hits) == 3
    old = archive.search(vectors(1, 2)[0], k=3, space="made-1")
    assert float(old.schema.metadata[b"share_read"]) < 0.25


def test_a_flipped_bit_in_a_list_is_refused(root, few):
    archive = embarchive.open_archive(root)
    rows = archive.overview.index.to_pylist()
    path = root / "overview" / f"{rows[0]['file']}.parquet"
    data = bytearray(path.read_bytes())
    for row in rows:
        data[row["offset"]] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Damaged, match="list"):
        archive.search(vectors(1, 2)[0], k=3)
    assert not verify(open_store(root))["ok"]


def with_index(root, change):
    """The archive with another index, whose rows `change` made."""
    store, archive = open_store(root), embarchive.open_archive(root)
    data = inverted.dump_index(inverted.index_table(change(archive.overview.index.to_pylist())))
    sha = _put(store, "overview", data)

    def build(head):
        ref = replace(head.generation.overview, sha256=sha, length=len(data))
        return Draft(replace(head.generation, overview=ref))

    commit(store, build)


def test_lists_of_other_rows_than_a_space_has_are_found_by_verify(root):
    append(root, ["u3b"], 900, "other-1")
    with_index(root, lambda rows: [{**rows[0], "rows": rows[0]["rows"] + 1}, *rows[1:]])
    found = verify(open_store(root))
    said = [f"{bad['expected']}, {bad['found']}" for bad in found["bad"]]
    assert said == [f"{4 * ROWS} rows in space made-1, {4 * ROWS + 1}"]


@pytest.mark.parametrize("offset", [0, 1, -1])
def test_lists_that_share_bytes_are_refused(root, offset):
    rows = embarchive.open_archive(root).overview.index.to_pylist()
    rows = [row for row in rows if row["file"] == rows[0]["file"]]
    again = {**rows[3], "offset": rows[3]["offset"] + offset}
    table = inverted.index_table([*rows, again])
    said = "^overview: expected lists beside each other, found bytes [0-9]+-[0-9]+ and .* one file$"
    with pytest.raises(Damaged, match=said):
        inverted.parse_index(parts.dump_table(table, "overview"))
    with pytest.raises(BadInput, match=said):
        inverted.dump_index(table)


def test_an_index_that_misstates_a_list_is_found_by_verify(root):
    with_index(root, lambda rows: [{**rows[0], "digest": bytes(16)}, *rows[1:]])
    found = verify(open_store(root))
    assert not found["ok"] and "list" in found["bad"][0]["object"]


@pytest.mark.parametrize(("count", "lists"), [(1, 4), (2, 1), (3, 400), (500, 7), (900, 100)])
def test_few_rows_and_many_lists(count, lists):
    q = vectors(count, 5)
    coarse = fit_coarse.fit_coarse(q, lists)
    assert len(coarse.centroids) <= lists
    found = coarse.assign(q)
    assert found.min() >= 0 and found.max() < len(coarse.centroids)
    assert coarse.encode(q, found).shape == (count, DIM)


@pytest.mark.parametrize("step", [1, 2, 3, 50, 127])
def test_codes_decode_within_half_a_step_and_within_int8(step):
    rng = np.random.default_rng(step)
    q = rng.integers(-128, 128, (4000, 3)).astype(np.int8)
    centroids = np.array([[-128, 0, 127], [127, 5, -128]], np.int8)
    coarse = Coarse(centroids, np.array([0], np.int32), step)
    lists = np.arange(4000) % 2
    codes = coarse.encode(q, lists)
    for one in (0, 1):
        back = coarse.decode(np.ascontiguousarray(codes[lists == one].T), one).T
        gaps = np.abs(back.astype(int) - q[lists == one])
        # At the edges of int8 the nearest step may lie outside.
        edge = np.minimum(q[lists == one] + 128.0, 127.0 - q[lists == one]) < step / 2
        assert (gaps[~edge] <= step / 2).all() and gaps.max() < step
        assert step > 1 or not gaps.any()


def test_the_step_is_one_where_numbers_differ_little_and_more_where_much():
    rng = np.random.default_rng(2)
    narrow, wide = (rng.normal(0, spread, (5000, 8)).astype(np.int16) for spread in (3, 40))
    assert fit_coarse.fit_step(narrow) == 1
    step = fit_coarse.fit_step(wide)
    assert 5 < step < 20
    _, counts = np.unique(np.rint(wide / step), return_counts=True)
    shares = counts / wide.size
    assert 3.7 < -np.sum(shares * np.log2(shares)) <= 4


def test_wide_vectors_are_found_by_lists_of_several_steps(tmp_path):
    def wide(count, seed):
        rng = np.random.default_rng(seed)
        kinds = np.random.default_rng(1).normal(0, 40, (20, DIM))
        found = kinds[rng.integers(20, size=count)] + rng.normal(0, 25, (count, DIM))
        return np.clip(np.rint(found), -127, 127).astype(np.int8)

    store = open_store(tmp_path)
    add_to_archive(store, lambda _: addition(store, PREFIXES, 5, drawn=wide))
    make_overview.make(store, progress=QUIET)
    archive = embarchive.open_archive(tmp_path)
    lists = archive.overview.lists(archive.space())
    assert lists.coarse.step > 2
    # Four bits a number, and the cells.
    assert lists.width < DIM / 2 + 4
    asked = wide(30, 77)
    right = [
        len(
            set(names(archive.search(one, k=10)))
            & set(names(archive.search(one, exact=True, k=10)))
        )
        for one in asked
    ]
    assert np.mean(right) > 9.5


def test_lists_larger_than_what_is_kept_are_read_all_the_same(root, few):
    archive = embarchive.open_archive(root)
    hits = archive.search("gcp00", k=20)
    small = embarchive.open_archive(root)
    small.reader.cache = reader.Cache(100)
    assert small.search("gcp00", k=20).equals(hits)


@pytest.mark.parametrize("cells", [[0xFF, 0xFF, 0xFF, 0x7F], [0x80, 0x80], []])
def test_cells_that_are_none_are_refused(cells):
    whole = inverted.pack_segment(0, np.zeros((1, 2), np.int8), np.zeros(1, np.uint64)).data
    assert inverted.unpack_segment(whole, 1, 2, 1 << 25)[1].tolist() == [0]
    with pytest.raises(Damaged, match="cells"):
        inverted.unpack_segment(whole[:-1] + bytes(cells), 1, 2, 1 << 25)


def test_codes_that_are_none_are_refused():
    whole = inverted.pack_segment(0, np.ones((4, 2), np.int8), np.zeros(4, np.uint64)).data
    length = int.from_bytes(whole[:4], "little")
    frame = whole[4 : 4 + length]
    for wrong in (b"", b"no frame", frame[:-1], frame[:6] + bytes(len(frame) - 6)):
        with pytest.raises(Damaged, match="packed numbers"):
            inverted.unpack_segment(len(wrong).to_bytes(4, "little") + wrong + bytes(4), 4, 2)
    for count, dim in ((3, 2), (5, 2), (4, 3)):
        with pytest.raises(Damaged, match=r"packed numbers|cells"):
            inverted.unpack_segment(whole, count, dim)
    with pytest.raises(Damaged, match="at most"):
        inverted.unpack_segment(whole, 1 << 26, 5)
    with pytest.raises(Damaged, match="packed numbers"):
        inverted.unpack_segment(b"\xff\xff\xff\xff" + frame, 4, 3)
    with pytest.raises(Damaged, match="packed numbers"):
        inverted.unpack_segment(b"", 4, 2)


def test_what_cannot_have_an_overview_says_why(root, monkeypatch):
    with pytest.raises(BadInput, match="rows of numbers"):
        fit_coarse.fit_coarse(np.zeros((0, 4), np.int8), 3)
    store, base = open_store(root), embarchive.open_archive(root).head
    append(root, ["u3b"], 900)
    with pytest.raises(Conflict, match="run it again"):
        make_overview.put(store, base, b"", 0)
    monkeypatch.setattr(inverted, "MAX_CODES", 7)
    with pytest.raises(BadInput, match="more lists"):
        inverted.pack_segment(0, np.ones((4, 2), np.int8), np.zeros(4, np.uint64))


@pytest.mark.parametrize("k", [200, 500, 2000])
def test_there_are_as_many_hits_as_are_asked_for(root, monkeypatch, k):
    monkeypatch.setattr(candidates, "FOR_A_HIT", 0)
    archive = embarchive.open_archive(root)
    assert archive.overview.lists(archive.space()).total == 4096
    assert len(archive.search("gcp00", k=k)) == k


def test_a_narrow_box_reads_as_many_lists_as_its_few_cells_need(root, few):
    archive = embarchive.open_archive(root)
    west, south, east, north = grid.bounds(np.array(["u09"]))[0]
    right = []
    for at in range(12):
        across = south + (north - south) * (0.2 + at / 20)
        strip = {"bbox": (west, across, east, across + 1e-6)}
        hits = archive.search(vectors(1, at)[0], k=10, **strip)
        exact = archive.search(vectors(1, at)[0], k=10, exact=True, **strip)
        assert len(hits) == len(exact)
        right.append(len(set(names(hits)) & set(names(exact))) / len(exact))
    assert np.mean(right) > 0.95


def test_lists_too_long_for_a_segment_are_several(root, few, monkeypatch):
    before = embarchive.open_archive(root)
    hits, held = before.search("gcp00", k=20), entries(before)
    # Of forty lists, which have a hundred rows on average, each is several segments.
    monkeypatch.setattr(inverted, "MAX_CODES", 30 * DIM)
    make_overview.make(open_store(root), lists=40, progress=QUIET)
    archive = embarchive.open_archive(root)
    lists = archive.overview.lists(archive.space())
    assert len(lists.index) > 2 * len(lists.rows)
    assert max(lists.index["rows"].to_pylist()) == 30
    assert [name for name, _ in entries(archive)] == [name for name, _ in held]
    assert compact.compact(open_store(root), progress=QUIET)["segments"] == 0
    assert archive.search("gcp00", k=20)["geohash"][0] == hits["geohash"][0]
    assert verify(open_store(root))["ok"]
