"""Changes, views and paths of an archive, against its rows in memory."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from archives import FIRST, SCALE, make_archive, make_cells

import embarchive
from embarchive import grid, views
from embarchive.errors import BadInput

DAYS = ("2023-05-01", "2023-05-11", "2023-05-21")
CELLS = make_cells(200)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("asked") / "A"
    make_archive(root, 600, dates=3, shard_prefix=4)
    return root


@pytest.fixture
def archive(root):
    return embarchive.open_archive(root)


@pytest.fixture(scope="module")
def rows(root):
    columns = ["geohash", "datetime", "source", "valid_fraction", "embedding"]
    return embarchive.open_archive(root).select(columns=columns).to_pylist()


def clear(rows, *days, least=0.8):
    """Vectors of the good rows of days by place, of places that have all."""
    found = {}
    for row in rows:
        day = f"{row['datetime']:%Y-%m-%d}"
        if day in days and row["valid_fraction"] >= np.float32(least):
            found.setdefault(row["geohash"], {})[day] = row["embedding"]
    return {name: [of[day] for day in days] for name, of in found.items() if len(of) == len(days)}


def changes_of(vectors):
    return [
        y - x for before, after in pairwise(vectors) for x, y in zip(before, after, strict=True)
    ]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(float(sum(x * x for x in a)) * float(sum(x * x for x in b)))


@pytest.mark.parametrize("days", [DAYS[:2], DAYS[::-1], DAYS])
def test_plain_change_is_that_of_brute_force(archive, rows, days):
    found = archive.change(*days, k=30, plain=True, valid=0.5)
    dz = {name: changes_of(v) for name, v in clear(rows, *days, least=0.5).items()}
    size = {name: sum(x * x for x in of) for name, of in dz.items()}
    best = sorted(size, key=lambda name: (-size[name], name))[:30]
    assert found["geohash"].to_pylist() == best
    assert found["score"].to_pylist() == [size[name] * SCALE**2 for name in best]
    assert found["change"].to_pylist() == found["score"].to_pylist()
    assert found.schema.metadata[b"places"] == str(len(dz)).encode()


def test_plain_changes_alike_are_those_of_brute_force(archive, rows):
    dz = {name: changes_of(v) for name, v in clear(rows, *DAYS[:2]).items()}
    like, unlike = list(dz)[3], list(dz)[5]
    found = archive.change(*DAYS[:2], like=like, unlike=[unlike], k=9, floor=0.5, plain=True)
    size = sorted(sum(x * x for x in of) for of in dz.values())
    floor = size[math.ceil(len(size) / 2)]
    kept = [n for n in dz if sum(x * x for x in dz[n]) >= floor and n not in (like, unlike)]
    score = {n: cosine(dz[n], dz[like]) - cosine(dz[n], dz[unlike]) for n in kept}
    best = sorted(kept, key=lambda name: (-score[name], name))[:9]
    assert found["geohash"].to_pylist() == best
    assert found["score"].to_pylist() == [score[name] for name in best]
    assert json.loads(found.schema.metadata[b"floor"]) == floor * SCALE**2


def test_hits_say_both_windows_and_decode_as_the_later(archive):
    hits = archive.change(DAYS[0], (DAYS[1], DAYS[2]), k=5)
    assert hits.column_names[:6] == [
        "geohash", "datetime", "source", "score", "change", "model_id",
    ]  # fmt: skip
    for row in hits.to_pylist():
        assert row["datetime_before"] == FIRST
        assert row["datetime"] > FIRST
        assert row["source_before"] == "scene-0-0"
        assert min(row["valid_fraction"], row["valid_fraction_before"]) >= np.float32(0.8)
        assert list(row["bbox"].values()) == grid.bounds([row["geohash"]])[0].tolist()
    three = archive.change(*DAYS, k=1)
    assert {"datetime_1", "source_2", "valid_fraction_2", "datetime"} <= set(three.column_names)
    assert len(archive.rows_of(hits)) == 5


def test_a_score_of_one_is_the_median_place(archive):
    found = archive.change(*DAYS[:2], k=1000, valid=0)
    assert len(found) == 200
    score = found["score"].to_numpy()
    assert (np.diff(score) <= 0).all()
    assert np.sort(score)[99] == 1


def test_an_example_of_other_windows_and_outside_of_the_box(archive, rows):
    box = tuple(grid.bounds([str(CELLS[0])])[0])
    names = sorted(set(clear(rows, *DAYS[:2])) & set(clear(rows, *DAYS[1:])))
    here = {name: changes_of(v) for name, v in clear(rows, *DAYS[:2]).items()}
    there = changes_of(clear(rows, *DAYS[1:])[names[-1]])
    asked = {"like": f"{names[-1]}@{DAYS[1]}..{DAYS[2]}", "plain": True, "floor": 0}
    found = archive.change(*DAYS[:2], bbox=box, **asked)
    assert names[-1] not in found["geohash"].to_pylist()
    for row in found.to_pylist():
        assert row["score"] == cosine(here[row["geohash"]], there)
    # Beside the usual it is its own windows' usual that is taken away.
    same = f"{names[-1]}@{DAYS[0]}..{DAYS[1]}"
    pair = [archive.change(*DAYS[:2], like=one, k=7) for one in (same, names[-1])]
    assert pair[0]["score"].to_pylist() == pair[1]["score"].to_pylist()


def test_the_documented_statement_gives_the_same(archive, rows):
    pytest.importorskip("duckdb")
    text = (Path(__file__).parent.parent / "docs" / "commands.md").read_text(encoding="utf-8")
    statement = re.search(r"^## change\n.*?```sql\n(.*?)```", text, re.DOTALL | re.MULTILINE)[1]
    like = list(clear(rows, *DAYS[:2]))[3]
    found = archive.sql().execute(statement.replace("u336d0", like)).fetchall()
    hits = archive.change(*DAYS[:2], like=like, k=1000, floor=0, plain=True)
    expected = zip(
        *(hits[name].to_pylist() for name in ("geohash", "change", "score")), strict=True
    )
    assert [(name, steps * SCALE**2, score) for name, steps, score in found] == list(expected)


def test_shards_in_any_cut_give_the_same(archive, tmp_path, monkeypatch):
    from embarchive import questions

    make_archive(tmp_path / "B", 600, dates=3, shard_prefix=2)
    other, like = embarchive.open_archive(tmp_path / "B"), str(CELLS[11])
    monkeypatch.setattr(questions, "THREADS", 1)

    def asked(one):
        return [
            one.change(*DAYS[:2], k=20, valid=0.3),
            one.view("gradient", like, datetime="2023-05-02/.."),
            one.view("outlier", seed=4),
            one.path(like, str(CELLS[150]), 6).drop_columns("model_id"),
        ]

    for here, there in zip(asked(archive), asked(other), strict=True):
        names = [name for name in here.column_names if name != "model_id"]
        assert here.select(names).to_pylist() == there.select(names).to_pylist()


@pytest.mark.parametrize("kind", ["heat", "threshold"])
def test_heat_is_the_exact_search_of_all_places(archive, kind):
    like, unlike = str(CELLS[7]), str(CELLS[9])
    limit = {"threshold": -20.0} if kind == "threshold" else {}
    found = archive.view(kind, like, unlike, **limit)
    hits = archive.search(like, unlike, k=1000, exact=True)
    own = pa.compute.is_in(found["geohash"], value_set=pa.array([like, unlike]))
    rest = found.filter(pa.compute.invert(own))
    kept = hits.filter(pa.compute.less_equal(hits["score"], limit.get("threshold", math.inf)))
    for name in ("geohash", "datetime", "source", "score", "bbox"):
        assert rest[name].to_pylist() == kept[name].to_pylist()
    assert found["geohash"][0].as_py() == like
    assert 10 < len(kept) < len(hits) or kind == "heat"
    spread = json.loads(found.schema.metadata[b"histogram"])
    assert sum(spread["counts"]) == 200
    assert spread["edges"][0] == found["score"][0].as_py()


@pytest.mark.parametrize("kind", ["outlier", "surprise"])
def test_odd_places_are_those_of_brute_force(archive, rows, kind):
    standing = {}
    for row in rows:
        good = row["valid_fraction"] >= np.float32(0.8)
        key = (good, row["datetime"] if good else row["valid_fraction"])
        if row["geohash"] not in standing or key > standing[row["geohash"]][0]:
            standing[row["geohash"]] = (key, row)
    names = sorted(standing)
    vectors = np.array([standing[name][1]["embedding"] for name in names])
    if kind == "outlier":
        near = [np.setdiff1d(views.draw(200, 5), i) for i in range(200)]
    else:
        near = views.neighbours(np.array(names), 8)
    score = [((vectors[i] - vectors[near[i]]) ** 2).sum() / len(near[i]) for i in range(200)]
    best = sorted(range(200), key=lambda i: (-score[i], i))
    found = archive.view(kind, seed=5)
    assert found["geohash"].to_pylist() == [names[i] for i in best]
    assert found["score"].to_pylist() == [score[i] * SCALE**2 for i in best]
    dates = [standing[names[i]][1]["datetime"] for i in best]
    assert found["datetime"].to_pylist() == dates


def test_gradient_is_that_of_the_heat(archive):
    heat = archive.view("heat", str(CELLS[3])).sort_by("geohash")
    score = heat["score"].to_numpy()
    near = views.neighbours(np.array(heat["geohash"].to_pylist()), 6)
    found = archive.view("gradient", str(CELLS[3])).sort_by("geohash")
    assert found["score"].to_pylist() == views.gradient(score, near).tolist()
    assert archive.view("gradient", str(CELLS[3]))["score"].to_pylist() == sorted(
        found["score"].to_pylist(), reverse=True
    )


def test_a_path_takes_the_nearest_place_at_each_step(archive, rows):
    a, b = str(CELLS[5]), str(CELLS[120])
    found = archive.path(a, b, 7)
    names = found["geohash"].to_pylist()
    assert (names[0], names[-1]) == (a, b)
    assert found["score"].to_pylist()[:: len(names) - 1] == [0, 0]
    assert len(set(names)) == 7
    assert found["step"].to_pylist() == list(range(7))
    taken = {a, b}
    for row in found.to_pylist()[1:-1]:
        away = [
            (sum((x - y) ** 2 for x, y in zip(one["embedding"], row["point"], strict=True)), at)
            for at, one in enumerate(rows)
            if one["geohash"] not in taken
        ]
        least, at = min(away)
        assert (row["geohash"], row["score"]) == (rows[at]["geohash"], least * SCALE**2)
        taken.add(row["geohash"])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda a: a.change(DAYS[0]), "expected 2 to 16 windows"),
        (
            lambda a: a.change(*DAYS[:2], unlike=str(CELLS[1])),
            "expected like where unlike is given",
        ),
        (
            lambda a: a.change(*DAYS[:2], like="u33d8k"),
            "u33d8k has no tile in the archive; nearest",
        ),
        (
            lambda a: a.change(*DAYS[:2], like=f"{CELLS[1]}@2020-01-01..{DAYS[0]}"),
            "has no tile on that date; it has 2023-05-01",
        ),
        (
            lambda a: a.change(*DAYS[:2], like=str(CELLS[1]), valid=1),
            "has no tile of valid_fraction >= 1 in a window",
        ),
        (
            lambda a: a.change(DAYS[0], DAYS[0], like=str(CELLS[1]), valid=0),
            "has not changed, there is nothing to compare",
        ),
        (lambda a: a.change(*DAYS[:2], datetime=DAYS[0]), "dates as windows, found datetime"),
        (lambda a: a.change(*DAYS[:2], band="B04"), "band: expected a single band"),
        (lambda a: a.view("odd"), "kind must be one of"),
        (lambda a: a.view("heat"), "at least one exemplar in like for heat"),
        (lambda a: a.view("surprise", bbox=(0, 0, 1, 1)), "at least two places, found 0"),
        (lambda a: a.path(str(CELLS[0]), str(CELLS[1]), 1), "expected 2 to 256 steps, found 1"),
        (
            lambda a: a.path(
                str(CELLS[0]),
                str(CELLS[1]),
                bbox=grid.bounds([CELLS[0]])[0] + [2e-4, 2e-4, -2e-4, -2e-4],
            ),
            "expected at least 8 places, found 1",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line(archive, ask, said):
    with pytest.raises(BadInput, match=said) as caught:
        ask(archive)
    assert "\n" not in str(caught.value)


def test_nothing_to_compare_gives_no_hits(archive):
    for plain in (False, True):
        hits = archive.change(*DAYS[:2], bbox=(0, 0, 1, 1), plain=plain)
        assert len(hits) == 0
        assert "valid_fraction_before" in hits.column_names
    assert len(archive.view("heat", str(CELLS[0]), bbox=(0, 0, 1, 1))) == 0


def test_packed_embeddings_answer_as_what_they_decode_to(tmp_path):
    from embarchive.requantize import requantize
    from embarchive.serve import demo_root

    requantize(str(demo_root()), str(tmp_path / "P"), "pca16+int4", progress=lambda *_: None)
    archive = embarchive.open_archive(tmp_path / "P")
    names = archive.select(columns=["geohash"])["geohash"].unique().to_pylist()
    path = archive.path(names[0], names[-1], 3)
    assert [path["geohash"][i].as_py() for i in (0, 2)] == [names[0], names[-1]]
    points, tiles = archive.decode_points(path), archive.decode(path)
    assert points.shape == tiles.shape
    assert np.allclose(points[[0, -1]], tiles[[0, -1]])
    assert len(archive.view("surprise")) == len(names)


@pytest.mark.parametrize(
    ("ask", "known"),
    [
        (lambda a: a.change(*DAYS, boxx=1), "change"),
        (lambda a: a.view("outlier", boxx=1), "view"),
        (lambda a: a.path(str(CELLS[0]), str(CELLS[9]), boxx=1), "path"),
        (lambda a: a.search_many([str(CELLS[0])], boxx=1), "search_many"),
    ],
)
def test_an_option_that_is_none_is_refused_in_the_methods_name(archive, ask, known):
    with pytest.raises(TypeError, match=rf"^Archive\.{known}\(\) has no option 'boxx', expected "):
        ask(archive)


def test_steps_are_decoded_from_the_table_of_a_path_alone(archive):
    hits = archive.search(str(CELLS[0]), k=3)
    with pytest.raises(BadInput, match=r"expected the table of a path, missing .*point"):
        archive.decode_points(hits)
