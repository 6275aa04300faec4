"""The evaluation of an archive, by the library and by the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archives import make_archive, make_settings

import embarchive
from embarchive import cli, evaluate, report
from embarchive.archive import Archive
from embarchive.errors import BadInput
from embarchive.oneband import ANY
from embarchive.questions import scope
from embarchive.requantize import requantize

pytest.importorskip("sklearn")
METHODS = ("int8", "bits", "pq8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "archive"
    make_archive(str(folder), 1500, dates=2)
    return folder


@pytest.fixture(scope="module")
def labels(root, tmp_path_factory):
    """A class that the first number of the vector decides."""
    archive = embarchive.open_archive(root)
    table = archive.select(columns=["geohash", "embedding", "valid_fraction", "datetime", "source"])
    from embarchive.exemplars import best_of_places
    from embarchive.rows import embeddings

    best = best_of_places(table)
    first = embeddings(best)[:, 0]
    lines = ["geohash,class"]
    for name, one in zip(best["geohash"].to_pylist(), first.tolist(), strict=True):
        lines.append(f"{name},{'high' if one > 0 else 'low'}")
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def document(root, labels):
    archive = embarchive.open_archive(root)
    return evaluate.evaluate(archive, methods=METHODS, labels=labels, column="class")


def test_finer_codes_keep_more(document):
    by = {row["name"]: row for row in document["quantisers"]}
    assert by["int8"]["recall10"] > 0.95 > by["pq8"]["recall10"] > 0.1
    assert by["int8"]["bytes"] == 64 and by["pq8"]["bytes"] == by["bits"]["bytes"] == 8
    for row in by.values():
        assert row["recall10_low"] <= row["recall10"] <= row["recall10_high"]
        assert row["recall10_rerank"] >= row["recall10"]
        assert 0 < row["spearman"] <= 1


def test_dates_of_the_querys_own_place_do_not_count(root, monkeypatch):
    archive = embarchive.open_archive(root)
    about = scope(archive)
    table, shard = evaluate.read_sample(about)
    assert len(table) == 1500 and shard.max() > 0 and (np.diff(shard) >= 0).all()
    monkeypatch.setattr(evaluate, "MOST_ROWS", 400)
    fewer, _ = evaluate.read_sample(about)
    names = table["geohash"].to_pylist()
    assert 300 < len(fewer) <= 400
    assert fewer["geohash"].to_pylist() == names[:: -(-1500 // 400)]


def test_dimensions_are_those_of_noise_in_many_numbers(document):
    whole = document["dimension"]["whole"]
    assert all(10 < value <= 64 for value in whole.values())
    for row in document["dimension"]["shards"]:
        assert row["geohash_min"] < row["geohash_max"] and row["rows"] >= 200


def test_probes_tell_the_class_and_what_a_code_takes(document):
    told = document["labels"]
    assert told["tiles"] == 750 and set(told["classes"]) == {"high", "low"}
    stored, *others = told["probes"]
    assert stored["name"] == "stored" and stored["linear_acc"] > 0.9
    assert stored["linear_mcnemar_p"] == 1 and set(stored["f1_drop"].values()) == {0.0}
    by = {row["name"]: row for row in others}
    assert by["int8"]["linear_acc"] > by["pq8"]["linear_acc"] - 0.02
    for row in others:
        assert set(row["f1_drop"]) == {"high", "low"} and 0 <= row["linear_mcnemar_p"] <= 1


def test_the_command_writes_a_report(root, labels, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    line = ["evaluate", str(root), "--with", "int8", "--labels", str(labels), "--column", "class"]
    assert cli.main([*line, "--out", str(tmp_path / "report"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in said["quantisers"]] == ["int8"]
    found = {path.name: path for path in (tmp_path / "report").iterdir()}
    assert set(found) == {"report.md", "report.json", "recall.png", "f1_drop.png"}
    text = found["report.md"].read_text()
    assert "| int8 | 64 |" in text and "| high |" in text
    assert found["recall.png"].read_bytes()[:4] == b"\x89PNG"
    assert json.loads(found["report.json"].read_text())["rows"] == 1500
    assert cli.main([*line, "--out", str(tmp_path / "report")]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err


def test_what_cannot_be_evaluated_is_said(root, tmp_path, labels):
    archive = embarchive.open_archive(root)
    with pytest.raises(BadInput, match="expected one of int8"):
        evaluate.evaluate(archive, methods=["int9"])
    bad = tmp_path / "far.csv"
    bad.write_text("geohash,label\nzzz,a\n")
    with pytest.raises(BadInput, match="found none of them"):
        evaluate.evaluate(archive, labels=bad)
    one = tmp_path / "one.csv"
    one.write_text("\n".join(["geohash,class", "u,a"]))
    with pytest.raises(BadInput, match="at least 2 classes"):
        evaluate.evaluate(archive, labels=one, column="class")
    make_archive(str(tmp_path / "small"), 40)
    with pytest.raises(BadInput, match="more than 100 tiles, found 40"):
        evaluate.evaluate(embarchive.open_archive(tmp_path / "small"))


def test_methods_by_default_are_those_that_suit_the_vectors(root, tmp_path):
    requantize(str(root), str(tmp_path / "few"), "pca16+pq8", progress=lambda *_: None)
    archive = embarchive.open_archive(tmp_path / "few")
    found = evaluate.evaluate(archive)
    names = [row["name"] for row in found["quantisers"]]
    assert found["dim"] == 16
    assert names == [one for one in evaluate.METHODS if one not in ("pq16", "pca32+int8")]
    with pytest.raises(BadInput, match=r"pca32\+int8: expected at most 16 numbers"):
        evaluate.evaluate(archive, methods=["pca32+int8"], labels=tmp_path / "nothere")


def test_recall_is_that_of_the_quantised_archive(root, tmp_path):
    for name in ("bits", "pq16"):
        said = requantize(str(root), str(tmp_path / name), name, progress=lambda *_: None)
        (row,) = evaluate.evaluate(embarchive.open_archive(root), methods=[name])["quantisers"]
        assert row["recall10"] == pytest.approx(said["recall"]["synthetic-1"], abs=0.03)


def test_bands_are_told_of_one_at_a_time(tmp_path, monkeypatch):
    settings = replace(make_settings(), bands=(ANY,))
    make_archive(str(tmp_path / "A"), 600, dates=2, settings=settings)
    archive = embarchive.open_archive(tmp_path / "A")
    monkeypatch.setattr(Archive, "bands", ["scene-0-0", "scene-1-1"])
    with pytest.raises(BadInput, match="band: expected one of scene-0-0, scene-1-1, found none"):
        evaluate.evaluate(archive, methods=["int8"])
    assert evaluate.evaluate(archive, methods=["int8"], band="scene-0-0")["rows"] == 300


def test_a_report_without_labels_has_no_probes(document):
    plain = {**document, "labels": None}
    text = report.markdown(plain, ["recall.png"])
    assert "Probes" not in text and "![recall.png](recall.png)" in text


def test_classes_of_few_places_are_left_out_and_named(root, labels, tmp_path, recwarn):
    lines = Path(labels).read_text().splitlines()
    lines[1:4] = [f"{line.split(',')[0]},rare" for line in lines[1:4]]
    (tmp_path / "rare.csv").write_text("\n".join(lines))
    archive = embarchive.open_archive(root)
    asked = {"methods": ["int8"], "labels": tmp_path / "rare.csv", "column": "class"}
    found = evaluate.evaluate(archive, **asked)
    told = found["labels"]
    assert (told["left_out"], sorted(told["classes"])) == ({"rare": 3}, ["high", "low"])
    assert "Classes of fewer than 5 places, left out: 1 (rare)." in report.markdown(found)
    lines[1:] = [f"{line.split(',')[0]},{at}" for at, line in enumerate(lines[1:])]
    (tmp_path / "rare.csv").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"at least 2 classes of 5 places .* found none, and"):
        evaluate.evaluate(archive, **asked)
    assert not [one for one in recwarn if "sklearn" in str(one.filename)]
