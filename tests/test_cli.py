"""The command line: what it passes on, what it prints, and with which status it ends."""

import errno
import importlib.abc
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from archives import make_archive, make_cells

import embarchive
from embarchive.cli import cli, main
from embarchive.engine import Engine
from embarchive.errors import BadInput
from embarchive.recipe import Recipe
from embarchive.search import OPS
from embarchive.terminal import columns

CELL = str(make_cells(400)[7])
MODULE = [sys.executable, "-m", "embarchive.cli"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "archive"
    make_archive(root, 400)
    return root


@pytest.fixture
def jobs(monkeypatch):
    """Stands in for the jobs: notes what it was asked, gives back what a build gives."""
    asked = {}

    def note(name):
        def job(*values, **named):
            asked[name] = (values, named)
            if name == "fails":
                raise BadInput("nothing to do")
            return {"generation": 1, "bytes": {"total": 1234}}

        return job

    names = ("build", "dry_run", "plan", "train", "encode", "commit")
    stand_in = SimpleNamespace(**{name: note(name) for name in names})
    monkeypatch.setattr(embarchive, "jobs", stand_in, raising=False)
    return asked


def run(capsys, *arguments):
    """(status, standard output, standard error)"""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_and_the_common_options(capsys, name):
    status, out, _ = run(capsys, name, "--help")
    assert status == 0
    assert all(option in out for option in ("--json", "--verbose", "--quiet", "--help"))


def test_the_commands_are_those_of_this_release():
    making, reading = (
        "build import plan reencode train encode commit size quantize gc compact overview pyramid",
        "info verify search decode export sql change view path evaluate stac",
    )
    assert set(cli.commands) == {*making.split(), *reading.split(), "serve", "publish"}


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys, embarchive.cli as c; c.main(['--help']); print(*sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 2  # 0.1 s on a quiet machine
    heavy = {"numpy", "pyarrow", "torch", "rasterio", "duckdb", "obstore", "starlette"}
    assert not heavy & set(done.stdout.split())


def test_build_passes_scenes_recipe_and_workers_on(capsys, jobs):
    status, out, _ = run(
        capsys, "build", "a.tif", "b", "--out", "A", "--precision", 6, "--bands", "B04, B08",
        "--codec", "full", "--seed", 3, "--engine", "process", "--workers", 2, "--json",
    )  # fmt: skip
    (scenes, target, recipe), named = jobs["build"]
    assert status == 0
    assert (scenes, target, named["engine"]) == (["a.tif", "b"], "A", Engine("process", 2))
    assert recipe == Recipe(precision=6, bands=("B04", "B08"), codec="full", seed=3)
    assert json.loads(out)["bytes"] == {"total": 1234}


def test_options_win_over_the_recipe_file(capsys, jobs, tmp_path):
    (tmp_path / "r.toml").write_text("[model]\nseed = 1\nsteps = 9\n")
    run(capsys, "build", "a", "--out", "A", "--recipe", tmp_path / "r.toml", "--seed", 5)
    assert jobs["build"][0][2] == Recipe(seed=5, steps=9)


def test_a_dry_run_builds_nothing(capsys, jobs):
    assert run(capsys, "build", "a", "--out", "A", "--dry-run")[0] == 0
    assert set(jobs) == {"dry_run"}


def test_the_steps_of_an_array_job_pass_plan_and_part_on(capsys, jobs):
    run(capsys, "plan", "a", "--out", "A", "--parts", 4)
    run(capsys, "train", "A", "--backbone")
    run(capsys, "encode", "A", "--plan", "p", "--part", "3/4")
    run(capsys, "commit", "A", "--plan", "p")
    assert jobs["plan"][1] == {"parts": 4}
    assert jobs["train"][1]["backbone"] is True
    assert jobs["encode"][1]["part"] == (3, 4)
    assert jobs["commit"][1]["plan"] == "p"


@pytest.mark.parametrize(
    "line",
    [
        "build a",
        "build --out A",
        "build a --out A --engine serial --workers 2",
        "build a --out A --engine process --ray-address auto",
        "build a --out A --gpus-per-worker 1",
        "build a --out A --codec none",
        "build a --out A --bands B1,B1",
        "build a --out A --recipe none.toml",
        "size",
        "size a",
        "size a --error 0",
        "size a --error many",
        "encode A --part 4/4",
        "encode A --part 1",
        "search A --like 1,2 --bbox 1,2,3",
        "search A --like 1,2 --bbox a,b,c,d",
        "search A --like 1,2 --out hits.xls",
        "search A --like 1,2 --queries likes.txt",
        "search A --queries no-such-file.txt",
        "search A --like 1,2",
        "decode A --geohash u33 --out a.jpg",
        "sql A",
        "sql A select --print",
        "sql A select --bbox 1,2,3,4",
        "sql A select --datetime 2023",
        "sql A select --unlike 1,2",
        "sql A select -k 50",
        "sql A select --not",
        "sql A select --exact",
        "sql A select --space s",
        "sql A --print -k 5",
        "sql A --print --unlike 1,2",
        "serve",
        "serve A --demo",
        "serve A",
        "info A",
        "verify A",
        "nonsense",
        "info A --nonsense",
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, jobs, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *line.split())
    assert status == 2
    assert out == ""
    assert err.startswith("embarchive: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(capsys, monkeypatch):
    class Without(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "embarchive.jobs":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.delitem(sys.modules, "embarchive.jobs", raising=False)
    monkeypatch.delattr(embarchive, "jobs", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(), *sys.meta_path])
    status, _, err = run(capsys, "build", "a", "--out", "A")
    wanted = "embarchive: build needs the encode extra: pip install 'embarchive[encode]'\n"
    assert (status, err) == (2, wanted)


def test_an_interrupt_ends_with_130(capsys, jobs, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(embarchive.jobs, "build", stopped)
    status, _, err = run(capsys, "build", "a", "--out", "A")
    assert (status, err) == (130, "embarchive: interrupted\n")


def test_a_full_disk_is_one_line(capsys, jobs, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")

    monkeypatch.setattr(embarchive.jobs, "build", full)
    status, _, err = run(capsys, "build", "a", "--out", "A")
    assert (status, err) == (2, "embarchive: shard: No space left on device\n")


def test_a_reader_that_goes_away_is_not_an_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run([*MODULE, "--help"], stdout=gone, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 141
    assert done.stderr == b""


def test_info_prints_the_keys_of_the_design(capsys, root):
    status, out, _ = run(capsys, "info", root, "--json")
    assert status == 0
    assert {
        "generation", "tiles", "shards", "regions", "embedding_dim", "bits", "bounds",
        "datetime", "bytes", "codec", "decoders", "saturation", "bands", "spaces",
    } <= set(json.loads(out))  # fmt: skip
    assert "tiles: 400" in run(capsys, "info", root)[1]


def test_search_gives_the_hits_of_the_library(capsys, root):
    status, out, _ = run(capsys, "search", root, "--like", CELL, "-k", 5, "--json")
    document = json.loads(out)
    hits = embarchive.open_archive(root).search(like=[CELL], k=5)
    assert status == 0
    assert {"hits", "seconds", "requests", "bytes_read"} <= set(document)
    for name in ("geohash", "score", "model_id", "source"):
        assert [hit[name] for hit in document["hits"]] == hits[name].to_pylist()


def test_negative_coordinates_parse(capsys, root):
    status, _, err = run(capsys, "search", root, "--like", "-122.4,37.7")
    assert status == 2
    assert "no tile in the archive" in err


@pytest.mark.parametrize("suffix", ["parquet", "geojson", "csv", "json"])
def test_hits_are_written_by_suffix(capsys, root, tmp_path, suffix):
    target = tmp_path / f"hits.{suffix}"
    assert run(capsys, "search", root, "--like", CELL, "-k", 3, "--out", target)[0] == 0
    assert list(tmp_path.iterdir()) == [target]


def test_many_searches_are_read_from_a_file(capsys, root, tmp_path):
    (tmp_path / "likes.txt").write_text(f"{CELL}\n\n  13.05,52.05 \n", encoding="utf-8")
    many = ["search", root, "--queries", tmp_path / "likes.txt", "-k", 4, "--op", "and"]
    status, out, _ = run(capsys, *many, "--json", "--out", tmp_path / "hits.csv")
    hits = json.loads(out)["hits"]
    assert status == 0 and [hit["like"] for hit in hits] == [CELL] * 4 + ["13.05,52.05"] * 4
    alone = embarchive.open_archive(root).search(CELL, k=4, op="and")
    assert [hit["geohash"] for hit in hits[:4]] == alone["geohash"].to_pylist()
    assert (tmp_path / "hits.csv").read_text(encoding="utf-8").count("\n") == 9
    assert f"like {CELL}" in run(capsys, *many)[1].splitlines()


def test_a_file_of_searches_that_says_nothing_is_refused(capsys, root, tmp_path):
    for text, said in ((b"\n", "an exemplar a line"), (b"\xff", "lines of text")):
        (tmp_path / "likes.txt").write_bytes(text)
        status, _, err = run(capsys, "search", root, "--queries", tmp_path / "likes.txt")
        assert status == 2 and said in err


def test_the_ops_of_the_command_are_those_of_the_library():
    (option,) = [one for one in cli.commands["search"].params if one.name == "op"]
    assert tuple(option.type.choices) == OPS


def test_sql_gives_columns_and_rows(capsys, root):
    pytest.importorskip("duckdb")
    status, out, _ = run(capsys, "sql", root, "SELECT count(*) AS n FROM tiles", "--json")
    assert (status, json.loads(out)) == (0, {"columns": ["n"], "rows": [[400]]})
    script = run(capsys, "sql", root, "--print", "--like", CELL)[1]
    assert "read_parquet" in script
    assert "CREATE TEMP VIEW tiles" in run(capsys, "sql", root, "--print")[1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["SELECT 1", "--bbox", "1,2,3,4"], "sql: --bbox goes with --print"),
        (["SELECT 1", "-k", "50"], "sql: -k goes with --print"),
        (["--print", "--unlike", CELL], "sql: --unlike goes with --like"),
        (["--print", "--per-place", "0"], "sql: --per-place goes with --like"),
        (["SELECT 1; SELECT 2"], "sql: expected one statement, found 2"),
    ],
)
def test_sql_refuses_what_it_would_not_heed(capsys, root, asked, said):
    assert run(capsys, "sql", root, *asked) == (2, "", f"embarchive: {said}\n")


def test_scripts_are_printed_without_duckdb_and_statements_name_the_extra(root):
    code = (
        "import sys; sys.modules['duckdb'] = None; import embarchive.cli as c; sys.exit(c.main())"
    )

    def line(*asked):
        command = [sys.executable, "-c", code, "sql", str(root), *asked]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "read_parquet" in line("--print", "--like", CELL).stdout
    done = line("SELECT 1")
    wanted = "embarchive: sql: needs duckdb, install embarchive[sql]\n"
    assert (done.returncode, done.stderr) == (2, wanted)


def test_the_printed_view_runs_in_plain_duckdb(capsys, root):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as con:
        con.execute(run(capsys, "sql", root, "--print")[1])
        assert con.execute("SELECT count(*) FROM tiles").fetchall() == [(400,)]


def test_verify_ends_with_0_when_whole_and_1_when_damaged(capsys, tmp_path):
    make_archive(tmp_path / "A", 50)
    assert run(capsys, "verify", tmp_path / "A")[0] == 0
    shard = next((tmp_path / "A" / "embeddings").rglob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    status, out, _ = run(capsys, "verify", tmp_path / "A", "--json")
    assert status == 1
    assert shard.stem in json.loads(out)["bad"][0]["object"]


def test_serve_says_its_address_and_stops_when_interrupted(root):
    command = [*MODULE, "serve", str(root), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        lines = [server.stdout.readline() for _ in range(3)]
        url = json.loads("".join(lines))["url"]
        assert embarchive.open_archive(url).generation == 1
        server.send_signal(2)
        assert server.wait(timeout=20) == 0


def test_columns_of_one_name_are_all_shown(capsys, root):
    pytest.importorskip("duckdb")
    statement = "SELECT 1 AS n, 2 AS n"
    document = json.loads(run(capsys, "sql", root, statement, "--json")[1])
    assert document == {"columns": ["n", "n"], "rows": [[1, 2]]}
    assert run(capsys, "sql", root, statement)[1] == "n  n\n1  2\n"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["search", "ROOT", "--like", CELL, "--space", ""], "search: --space: expected text"),
        (["search", "ROOT", "--like", CELL, "--datetime", " "], "search: --datetime: expected"),
        (["search", "ROOT", "--like", ""], "search: --like: expected text, found none"),
        (["search", "ROOT", "--queries", ""], "search: --queries: expected text, found none"),
        (["export", "ROOT", "--out", ""], "export: --out: expected text, found none"),
        (["import", "v.parquet", "--out", ""], "import: --out: expected text, found none"),
        (["change", "ROOT", "--windows", "2023,"], "change: --windows: expected text"),
        (["info", ""], "info: ARCHIVE: expected text, found none"),
        (["search", "ROOT", "--like", CELL, "--datetime", "/"], "Invalid value for '--datetime'"),
    ],
)
def test_options_without_text_are_refused(capsys, root, asked, said):
    line = [root if word == "ROOT" else word for word in asked]
    status, out, err = run(capsys, *line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"embarchive: {said}")


def test_bytes_that_are_no_text_are_refused_before_anything_is_written(root, tmp_path):
    target = os.fsencode(tmp_path / "x") + b"\xff.csv"
    line = [*MODULE, "search", str(root), "--like", CELL, "--out", target, "--json"]
    done = subprocess.run(line, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"command line: expected text in UTF-8, found" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["search", "--like", CELL, "-k", 2**31], "'-k': 2147483648 is not in the range"),
        (["evaluate", "--seed", -1], "'--seed': -1 is not in the range"),
        (["view", "--kind", "outlier", "--seed", -1], "'--seed': -1 is not in the range"),
        (["view", "--kind", "surprise", "--seed", 1], "view: --seed goes with --kind outlier"),
        (["evaluate", "--column", "x"], "evaluate: --column goes with --labels"),
        (["sql", "--print", "--bbox", "-60,-50,-59,-49"], "sql: no shard of the archive can match"),
    ],
)
def test_numbers_and_options_that_nothing_heeds_are_refused(capsys, root, asked, said):
    name, *options = asked
    status, out, err = run(capsys, name, root, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_file_of_queries_may_begin_with_a_mark_of_its_encoding(capsys, root, tmp_path):
    (tmp_path / "q.txt").write_text(CELL, encoding="utf-8-sig")
    status, out, _ = run(capsys, "search", root, "--queries", tmp_path / "q.txt", "-k", 1)
    assert (status, out.splitlines()[0]) == (0, f"like {CELL}")


def test_text_of_an_archive_does_not_steer_the_terminal():
    (line,) = columns([["a\0b\nc\x1b[2J", "é"]])
    assert line == "a\\x00b\\nc\\x1b[2J  é"
