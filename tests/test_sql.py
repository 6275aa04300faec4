"""DuckDB over an archive: the same hits, verified bytes, and nothing else within reach."""

import importlib.util
from pathlib import Path

import duckdb
import pytest
from archives import make_archive, make_cells

import embarchive
from embarchive import sql
from embarchive.errors import BadInput, Damaged
from embarchive.serve import running

CELLS = [str(name) for name in make_cells(12_000)]
ASKED = [
    {"like": [CELLS[100], CELLS[5000]], "k": 20, "bbox": (13.1, 52.1, 13.6, 52.4)},
    {"like": CELLS[7], "unlike": CELLS[70], "k": 9, "datetime": "2023-05-11", "per_place": 0},
    {"like": CELLS[7], "k": 5, "invert": True, "exact": True, "op": "min"},
    {"like": CELLS[7], "k": 30},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sql")
    make_archive(root, 24_000, dates=2, nulls=True, shard_prefix=4)
    return root


@pytest.fixture(scope="module")
def archive(root):
    return embarchive.open_archive(root)


@pytest.fixture
def con(archive):
    with archive.sql() as con:
        yield con


def same(hits, found):
    return len(hits) > 0 and all(
        hits[name].to_pylist() == found[name].to_pylist() for name in hits.column_names
    )


@pytest.mark.parametrize("asked", ASKED)
def test_sql_over_verified_bytes_gives_the_hits_of_search(archive, con, asked):
    text = sql.search_sql(archive, **asked)
    assert same(archive.search(**asked), con.sql(text).to_arrow_table())


@pytest.mark.parametrize(("name", "k"), [(CELLS[7], 5), (CELLS[9000], 50)])
def test_the_macro_tiles_like_gives_the_hits_of_search(archive, con, name, k):
    found = con.sql(f"SELECT * FROM tiles_like('{name}', k := {k})").to_arrow_table()
    assert same(archive.search(name, k=k), found) and len(found) == k


def test_the_macro_tiles_like_takes_values_and_knows_no_place_elsewhere(con):
    count = "SELECT count(*) FROM tiles_like(?, k := ?)"
    assert con.execute(count, [CELLS[7], 3]).fetchall() == [(3,)]
    assert con.execute("SELECT count(*) FROM tiles_like(?)", [CELLS[7]]).fetchall() == [(50,)]
    assert con.execute(count, ["zzzzzz", 3]).fetchall() == [(0,)]


def test_times_are_fetched_as_python_values(con):
    (when,) = con.execute("SELECT max(datetime) FROM tiles").fetchall()[0]
    assert when.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("asked", ASKED)
def test_the_plain_client_gives_the_hits_of_search(archive, asked):
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        found = con.sql(sql.plain_sql(archive, **asked)).to_arrow_table()
    assert same(archive.search(**asked), found)


def test_the_plain_client_over_http_opens_only_the_shards_it_needs(root):
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    if spec is None or not duckdb.__version__.startswith("1.5.5"):
        pytest.skip("the httpfs extension of this DuckDB is not installed")
    extension = next(Path(spec.origin).parent.rglob("httpfs.duckdb_extension"))
    with running(root) as url, duckdb.connect() as con:
        archive = embarchive.open_archive(url)
        con.execute(f"LOAD '{extension}'")
        found = con.sql(sql.plain_sql(archive, **ASKED[0])).to_arrow_table()
        files = con.execute("SELECT len(getvariable('files'))").fetchall()[0][0]
        assert same(archive.search(**ASKED[0]), found)
        assert files == len(archive.plan(sql.make_filter(ASKED[0]["bbox"])).reads)
        assert (
            files
            < con.execute("SELECT count(*) FROM read_parquet(getvariable('parts'))").fetchall()[0][
                0
            ]
        )


def test_the_views_hold_every_row_shard_and_model(archive, con):
    def count(view):
        return con.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0]

    assert count("tiles") == len(archive)
    assert count("shards") == archive.info()["shards"]
    assert count("models") == len(archive.models())
    row = con.execute("SELECT typeof(embedding), typeof(bits) FROM tiles LIMIT 1").fetchall()
    assert row == [("TINYINT[]", "BLOB")]


def test_a_condition_on_the_geohash_opens_one_shard(root):
    archive = embarchive.open_archive(root)
    with archive.sql() as con:
        before = archive.store.requests
        query = "SELECT count(*) FROM tiles WHERE geohash = ?"
        assert con.execute(query, [CELLS[0]]).fetchall() == [(2,)]
        assert archive.store.requests - before <= 4


def test_a_connection_can_be_limited_to_a_box(archive):
    with archive.sql(bbox=(13.1, 52.0, 13.15, 52.05)) as con:
        some = con.execute("SELECT count(*) FROM shards").fetchall()[0][0]
        assert 0 < some < archive.info()["shards"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/hostname')",
        "COPY tiles TO '/tmp/embarchive-leak.parquet'",
        "ATTACH '/tmp/embarchive-leak.db'",
        "SET enable_external_access = true",
        "SET memory_limit = '1GB'",
        "INSTALL httpfs",
    ],
)
def test_sql_reaches_nothing_outside_the_archive(con, statement):
    with pytest.raises(duckdb.Error):
        con.execute(statement)
    assert not list(Path("/tmp").glob("embarchive-leak*"))


def test_a_flipped_bit_is_an_error_in_sql_too(tmp_path):
    make_archive(tmp_path, 300)
    path = next(tmp_path.glob("embeddings/*/*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    text = "SELECT sum(len(embedding)), min(bits) FROM tiles"
    with embarchive.open_archive(tmp_path).sql() as con:
        with pytest.raises(duckdb.Error, match=path.stem):
            con.execute(text).fetchall()
        with pytest.raises(Damaged) as caught:
            sql.run(con, text)
    assert path.stem[:12] in str(caught.value) and "\n" not in str(caught.value)


def test_run_gives_a_table_and_one_line_for_a_mistake(con):
    table = sql.run(
        con, "SELECT count(*) AS n, min(datetime) AS first FROM tiles WHERE geohash = ?", [CELLS[0]]
    )
    assert table["n"].to_pylist() == [2] and table["first"][0].as_py().tzinfo is not None
    for text in ("SELEC", "SELECT nothing FROM tiles", "SELECT 1/'a'"):
        with pytest.raises(BadInput, match=r"^sql: [^\n]*$"):
            sql.run(con, text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("SELECT 1; SELECT 2", 2),
        ("CREATE TABLE t AS SELECT 1; FROM t", 2),
        ("PIVOT tiles ON source USING count(*); SELECT 2", 2),
        ("-- nothing", 0),
        (";", 0),
    ],
)
def test_run_takes_one_statement(con, text, count):
    with pytest.raises(BadInput, match=f"expected one statement, found {count}"):
        sql.run(con, text)


def test_a_semicolon_or_a_pivot_is_one_statement(con):
    assert sql.run(con, "SELECT ';' AS s; -- done")["s"].to_pylist() == [";"]
    table = sql.run(con, "PIVOT (SELECT source FROM tiles) ON source USING count(*)")
    assert [column.to_pylist() for column in table.columns] == [[12_000], [12_000]]


def test_a_box_without_shards_has_no_plain_script(archive):
    with pytest.raises(BadInput, match="nothing to read"):
        sql.plain_sql(archive, CELLS[0], bbox=(0, 0, 1, 1))


def test_macros_compute_the_distances(con):
    rows = con.execute(
        "SELECT hamming('\\xFF\\x00'::BLOB, '\\x0F\\x01'::BLOB), sq_l2([1, -2], [4, 2])"
    ).fetchall()
    assert rows == [(5, 25)]
