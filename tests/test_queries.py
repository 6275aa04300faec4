"""The search as SQL text gives the hits of `search.rank`, in the same order."""

import duckdb
import numpy as np
import pytest
from archives import EMB, SCALE, make_cells, make_simhash, make_table, make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import grid, queries, search, shards
from embarchive.errors import BadInput
from embarchive.filters import make_filter, row_mask

SIMHASH = make_simhash()
NAMES = ("geohash", "datetime", "source", "score", "hamming", "model_id", "valid_fraction", "bbox")


@pytest.fixture(scope="module")
def table():
    return make_table(3000, dates=2, nulls=True)


@pytest.fixture(scope="module")
def con(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("queries") / "shard.parquet"
    path.write_bytes(shards.write_shard(table, EMB).data)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for statement in queries.macro_statements():
        con.execute(statement)
    con.execute(f"CREATE VIEW tiles AS SELECT * FROM read_parquet('{path}')")
    return con


@pytest.mark.parametrize("op", search.OPS)
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("far", [0, 2])
@pytest.mark.parametrize("per_place", [0, 1])
@pytest.mark.parametrize("exact", [False, True])
def test_sql_and_python_give_the_same_hits(table, con, op, invert, far, per_place, exact):
    wanted = make_filter((13.05, 52.0, 13.4, 52.1), None, None, "2023-05-01/2023-05-20")
    found = make_vectors(8, seed=77)
    query = search.Query(
        found[:2],
        found[2 : 2 + far],
        15,
        op,
        invert,
        exact,
        per_place,
        make_cells(1500)[40:44].tolist(),
    )
    text = queries.search_query("tiles", query, SIMHASH, 0.0137, queries.conditions(wanted))
    ours = search.rank(table.filter(row_mask(table, wanted)), query, SIMHASH, 0.0137)
    theirs = con.sql(text).to_arrow_table()
    assert len(ours) == 15
    for name in NAMES:
        assert theirs[name].to_pylist() == ours[name].to_pylist(), name


def test_sql_without_bits_is_exact_and_hamming_is_null(table, con):
    query = search.Query(make_vectors(1, seed=7), make_vectors(0), 5)
    text = queries.search_query("tiles", query, None, SCALE, [])
    ours = search.rank(table, query, None, SCALE)
    theirs = con.sql(text).to_arrow_table()
    assert theirs["score"].to_pylist() == ours["score"].to_pylist()
    assert theirs["hamming"].null_count == 5


def test_sql_of_an_op_on_bits_needs_bits():
    query = search.Query(make_vectors(1), make_vectors(0), op="or")
    with pytest.raises(BadInput, match="needs bits"):
        queries.search_query("tiles", query, None, SCALE, [])


@settings(max_examples=30)
@given(st.lists(st.text(grid.ALPHABET, min_size=1, max_size=12), min_size=1, max_size=20))
def test_cell_bounds_in_sql_are_the_exact_doubles(con, names):
    rows = con.execute(
        "SELECT cell_west(g), cell_south(g), cell_west(g) + cell_width(g),"
        " cell_south(g) + cell_height(g) FROM (SELECT unnest(?::VARCHAR[]) AS g)",
        [names],
    ).fetchall()
    assert np.array_equal(np.array(rows), grid.bounds(np.array(names)))


@pytest.mark.parametrize(
    "bbox",
    [
        (13.1, 52.01, 13.2, 52.1),
        (13.2, 52.0, 13.1, 52.1),
        (-180, -90, 180, 90),
        (13.0078125, 52.0, 13.0078125, 52.0),
    ],
)
def test_boxes_in_sql_keep_the_rows_of_the_reader(table, con, bbox):
    wanted = make_filter(bbox)
    where = " AND ".join(queries.conditions(wanted))
    count = con.execute(f"SELECT count(*) FROM tiles WHERE {where}").fetchall()[0][0]
    assert count == row_mask(table, wanted).sum()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_sql_to_the_last_bit(con, value):
    assert con.execute(f"SELECT {queries._number(value)}").fetchall()[0][0] == value


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_quotes_in_text_stay_text(con, value):
    assert con.execute(f"SELECT {queries._text(value)}").fetchall()[0][0] == value
