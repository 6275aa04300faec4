"""Searches of archives larger than a portion, and several searches at once."""

import numpy as np
import pytest
from archives import make_archive, make_cells, make_vectors

import embarchive
from embarchive import reader
from embarchive.errors import BadInput
from embarchive.find import together
from embarchive.search import OPS

CELLS = [str(name) for name in make_cells(5000)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("find")
    make_archive(root, 10_000, dates=2, nulls=True, shard_prefix=5)
    return root


@pytest.fixture
def small(monkeypatch):
    """Portions of a few shards."""
    monkeypatch.setattr(reader, "MAX_ROWS", 700)
    monkeypatch.setattr(reader, "PORTION_BYTES", 1)


def asked(op="mean", **options):
    return {"like": [CELLS[100], CELLS[4000]], "unlike": CELLS[40], "op": op, "k": 12, **options}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("per_place", [0, 1])
@pytest.mark.parametrize("exact", [False, True])
def test_portions_give_the_hits_of_all_rows_at_once(root, request, op, per_place, exact):
    options = asked(op, per_place=per_place, exact=exact, columns=["mse"])
    whole = embarchive.open_archive(root).search(**options)
    request.getfixturevalue("small")
    archive = embarchive.open_archive(root)
    assert len(archive.plan(embarchive.filters.Filter()).turns(archive.reader.portion)) > 8
    assert archive.search(**options).equals(whole) and len(whole) == 12


def test_a_filter_holds_in_both_passes(root, request):
    options = asked(bbox=(13.1, 52.05, 13.4, 52.2), datetime="2023-05-11")
    hits = embarchive.open_archive(root).search(**options)
    request.getfixturevalue("small")
    assert embarchive.open_archive(root).search(**options).equals(hits) and len(hits) == 12
    assert {str(moment)[:10] for moment in hits["datetime"].to_pylist()} == {"2023-05-11"}


def test_a_filter_that_nothing_meets_gives_no_hits(root, small):
    hits = embarchive.open_archive(root).search(**asked(datetime="1999-01-01"))
    same = embarchive.open_archive(root).search(**asked())
    assert len(hits) == 0 and hits.schema.equals(same.schema)


@pytest.mark.parametrize("op", ["mean", "majority"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("portions", ["one", "many"])
def test_many_searches_are_the_same_as_one_after_another(root, request, op, exact, portions):
    if portions == "many":
        request.getfixturevalue("small")
    archive = embarchive.open_archive(root)
    likes = [CELLS[7], [CELLS[900], CELLS[30]], make_vectors(1)[0], "13.2,52.1"]
    options = {"unlike": CELLS[70], "k": 9, "op": op, "exact": exact}
    found = archive.search_many(likes, **options)
    assert len(found) == 4
    for like, hits in zip(likes, found, strict=True):
        assert hits.equals(archive.search(like, **options))
        assert not {CELLS[70]} & set(hits["geohash"].to_pylist())


def test_many_searches_read_every_byte_once(root):
    cost = []
    for count in (1, 20):
        archive = embarchive.open_archive(root)
        likes = [make_vectors(1, seed=n)[0] for n in range(count)]
        spent = archive.search_many(likes, k=3)[0].schema.metadata
        cost.append((spent[b"requests"], spent[b"bytes_read"]))
    assert cost[0] == cost[1] and int(cost[0][0]) > 0


@pytest.mark.parametrize("likes", [[], [[]], [CELLS[1], []]])
def test_a_search_without_an_exemplar_is_refused(root, likes):
    with pytest.raises(BadInput, match="at least one exemplar in like"):
        embarchive.open_archive(root).search_many(likes)


def test_vectors_of_their_own_leave_no_cell_out(root):
    archive = embarchive.open_archive(root)
    vector = np.asarray(
        archive.select(geohash=CELLS[5], columns=["embedding"])["embedding"][0].as_py()
    )
    assert archive.search(vector.astype(np.int8), k=1)["geohash"].to_pylist() == [CELLS[5]]


def test_hits_of_many_searches_become_one_table(root):
    archive = embarchive.open_archive(root)
    likes = CELLS[3:5]
    found = together(likes, archive.search_many(likes, k=2))
    assert found["like"].to_pylist() == [likes[0]] * 2 + [likes[1]] * 2
