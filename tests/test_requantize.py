"""An archive with codes for embeddings: the same rows, found as what codes decode to."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from archives import SCALE, make_archive, make_cells, make_settings

import embarchive
from embarchive import additions, digests, find, manifest, search, shards, sql
from embarchive.cli import main
from embarchive.commit import read_head
from embarchive.errors import BadInput, Conflict, Damaged
from embarchive.filters import Filter, make_filter, row_mask
from embarchive.reads import read_plan
from embarchive.recipe import Recipe
from embarchive.requantize import requantize
from embarchive.rows import binary, embeddings, vectors
from embarchive.step_plan import decide
from embarchive.store import open_store
from embarchive.verify import verify

DEMO = Path(embarchive.__file__).parent / "demo"
CELLS = [str(name) for name in make_cells(1500)]
METHODS = ("int4", "pq8", "pca16+pq8", "bits", "turboquant2", "simhash64", "pca5+int2")
ASKED = [
    {"like": [CELLS[100], CELLS[1400]], "k": 20, "bbox": (13.0, 52.0, 13.3, 52.2)},
    {"like": CELLS[7], "unlike": CELLS[70], "k": 9, "per_place": 0},
    {"like": CELLS[7], "k": 5, "invert": True, "exact": True, "op": "min"},
]


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    make_archive(root, 3000, dates=2, nulls=True, shard_prefix=4)
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """The same archive quantised by each method: its folder and what was said."""
    found = {}
    for name in METHODS:
        to = tmp_path_factory.mktemp("packed") / name.replace("+", "-")
        bits = 0 if name == "bits" else None
        found[name] = to, requantize(str(root), str(to), name, bits=bits, progress=quiet)
    return found


def rows_of(archive, *columns):
    return archive.reader.rows(archive.plan(Filter()), Filter(), columns)


@pytest.mark.parametrize("name", METHODS)
def test_rows_stay_and_vectors_are_what_codes_decode_to(root, made, name):
    plain, packed = embarchive.open_archive(root), embarchive.open_archive(made[name][0])
    held = [one for one in plain.reader.names if one not in ("bits", "embedding", "mse")]
    assert packed.select(columns=held).equals(plain.select(columns=held))
    assert packed.select(columns=["mse"])["mse"].null_count == 3000
    quantiser = packed.quantiser(packed.space())
    mu = embeddings(rows_of(plain, "embedding")) * np.float32(SCALE)
    got = embeddings(rows_of(packed, "embedding"))
    assert np.array_equal(got, quantiser.decode(quantiser.encode(mu)))
    assert got.shape[1] == quantiser.dim and packed.info()["packed"] == quantiser.bytes
    assert packed.info()["bytes"]["shards"] < plain.info()["bytes"]["shards"]


def with_decoded(table, archive):
    """Rows of the plain archive with the vectors and bits of the packed one."""
    q = embeddings(rows_of(archive, "embedding"))
    simhash = archive.simhash(archive.space())
    columns = {"embedding": vectors(q)}
    if simhash is not None:
        columns["bits"] = binary(simhash.encode(q))
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.chunked_array([values]))
    return table, simhash


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("asked", ASKED)
def test_hits_are_those_of_the_decoded_vectors_in_python_and_sql(root, made, name, asked):
    plain, packed = embarchive.open_archive(root), embarchive.open_archive(made[name][0])
    hits, space = packed.search(**asked), packed.space()
    table, simhash = with_decoded(rows_of(plain, *search.NEEDS, "bits", "bbox"), packed)
    options = {key: asked[key] for key in asked if key not in ("like", "unlike", "bbox")}
    wanted = make_filter(asked.get("bbox"), None, None, None)
    (one,) = find.queries(
        packed, [asked["like"]], asked.get("unlike", ()), wanted, space, **options
    )
    table = table.filter(pa.array(row_mask(table, wanted)))
    oracle = search.rank(table, one.query, simhash, space.scale)
    assert len(hits) and hits.equals(oracle)
    with packed.sql() as con:
        found = con.sql(sql.search_sql(packed, **asked)).to_arrow_table()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        plainly = con.sql(sql.plain_sql(packed, **asked)).to_arrow_table()
    for column in hits.column_names:
        assert hits[column].to_pylist() == found[column].to_pylist() == plainly[column].to_pylist()


def test_the_views_show_vectors_and_a_printed_script_does_too(made, capsys):
    to = made["pca16+pq8"][0]
    archive = embarchive.open_archive(to)
    with archive.sql() as con:
        kinds = dict(con.sql("SELECT column_name, column_type FROM (DESCRIBE tiles)").fetchall())
        got = con.sql("SELECT embedding FROM tiles ORDER BY ALL").to_arrow_table()
        some = con.sql("SELECT geohash, embedding FROM tiles LIMIT 3").fetchall()
    assert kinds["embedding"] == "TINYINT[]" and "packed" not in kinds
    assert list(kinds) == [*archive.reader.names, "space_id", "shard"]
    assert len(got) == 3000 and all(len(one) == 16 for _, one in some)
    assert main(["sql", str(to), "--print"]) == 0
    with duckdb.connect() as con:
        con.execute(capsys.readouterr().out)
        again = con.sql("SELECT embedding FROM tiles ORDER BY ALL").to_arrow_table()
    assert again["embedding"].to_pylist() == got["embedding"].to_pylist()


def test_recall_rises_with_bytes_and_is_the_share_of_the_nearest_rows(root, made):
    said = {name: found["recall"]["synthetic-1"] for name, (_, found) in made.items()}
    assert said["bits"] < said["int4"] and said["pca5+int2"] < said["pca16+pq8"] < said["int4"]
    plain, packed = embarchive.open_archive(root), embarchive.open_archive(made["int4"][0])
    names = np.array(rows_of(plain, "geohash")["geohash"].to_pylist())
    first, then = (embeddings(rows_of(one, "embedding")).astype(float) for one in (plain, packed))
    shares = []
    for i in range(0, len(names), 12):
        near = []
        for q in (first, then):
            gaps = ((q - q[i]) ** 2).sum(axis=1)
            gaps[names == names[i]] = np.inf
            near.append(np.argsort(gaps, kind="stable")[:10])
        shares.append(len(np.intersect1d(*near)) / 10)
    assert said["int4"] == pytest.approx(np.mean(shares), abs=0.04)


def test_what_was_said_is_what_is_stored(root, made):
    to, said = made["pq8"]
    before, after = said["before"], said["after"]
    assert (before["vector"], after["vector"], said["bits"]) == (80, 24, 128)
    held, got = embarchive.open_archive(root), embarchive.open_archive(to)
    assert after["shards"] == round(got.info()["bytes"]["shards"] / 3000, 1) < before["shards"]
    assert got.space().trained["quantised"] == {
        "with": "pq8",
        "recall": said["recall"]["synthetic-1"],
    }
    assert got.models().equals(held.models()) and len(got) == len(held) == said["tiles"]
    assert got.info()["places"] == held.info()["places"]
    assert verify(open_store(str(to)))["ok"]


def test_the_same_archive_gives_the_same_objects(root, made, tmp_path):
    requantize(str(root), str(tmp_path / "again"), "pq8", progress=quiet)
    first, again = (
        sorted(path.name for kind in ("models", "embeddings") for path in (to / kind).rglob("*.*"))
        for to in (made["pq8"][0], tmp_path / "again")
    )
    assert first == again


def test_floats_are_mapped_and_not_put_through_the_codebooks(root, made):
    packed = embarchive.open_archive(made["pca16+pq8"][0])
    plain = embarchive.open_archive(root)
    mu = embeddings(rows_of(plain, "embedding"))[40] * np.float32(SCALE)
    quantiser = packed.quantiser(packed.space())
    given = packed.search(mu.astype(np.float64), k=5, exact=True)
    whole = packed.search(quantiser.query(mu[None])[0], k=5, exact=True)
    assert given.equals(whole) and given["score"][0].as_py() < given["score"][4].as_py()
    for bad in (np.zeros(16), np.zeros(64, np.int8), np.full(64, np.nan)):
        with pytest.raises(BadInput, match="expected"):
            packed.search(bad)


def test_a_search_of_nothing_has_no_hits(made):
    packed = embarchive.open_archive(made["pca16+pq8"][0])
    assert len(packed.search(CELLS[3], bbox=(50, 10, 51, 11))) == 0
    assert packed.select(bbox=(50, 10, 51, 11), columns=["embedding"]).num_rows == 0


@pytest.mark.parametrize("name, most", [("int8", 0.02), ("int4", 0.5), ("pca24+int8", 0.7)])
def test_images_are_those_of_the_vectors_near_the_old_ones(tmp_path, name, most):
    requantize(str(DEMO), str(tmp_path / "B"), name, progress=quiet)
    plain, packed = embarchive.open_archive(DEMO), embarchive.open_archive(tmp_path / "B")
    some = plain.select().slice(0, 40)["geohash"].to_pylist()
    first, again = plain.decode(some), packed.decode(some)
    spread = np.var(first, axis=0).mean()
    assert ((first - again) ** 2).mean() < most * spread


def test_feeds_give_floats_of_the_encoder(made):
    pytest.importorskip("torch")
    packed = embarchive.open_archive(made["pca16+pq8"][0])
    item = next(iter(embarchive.TileDataset(packed)))
    assert len(item["embedding"]) == 64


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"method": "int3"}, "turboquant"),
        ({"method": "pq7"}, "divide"),
        ({"method": "pca65+int8"}, "at most 64"),
        ({"method": "int4", "bits": 12}, "multiple of 8, at most 4096, found 12"),
        ({"method": "int4", "bits": -8}, "multiple of 8"),
        ({"method": "int4", "bits": 4104}, "at most 4096, found 4104"),
        ({"method": "simhash1024", "bits": 2056}, "at most 2048, found 2056"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(root, tmp_path, asked, said):
    with pytest.raises(BadInput, match=said):
        requantize(str(root), str(tmp_path / "new"), **asked, progress=quiet)
    assert not (tmp_path / "new").exists()


def test_an_archive_is_quantised_once_and_never_over_another(root, made, tmp_path, capsys):
    to = str(made["int4"][0])
    with pytest.raises(BadInput, match="quantised already"):
        requantize(to, str(tmp_path / "new"), "pq8", progress=quiet)
    for taken in (to, str(root)):
        with pytest.raises(BadInput, match="no archive there yet"):
            requantize(str(root), taken, "pq8", progress=quiet)
    assert main(["quantize", str(root), "--to", to, "--with", "int4"]) == 2
    assert "no archive there yet" in capsys.readouterr().err


def test_nothing_is_added_to_a_quantised_archive(made, tmp_path):
    store = open_store(str(made["int4"][0]))
    with pytest.raises(BadInput, match="quantize that again"):
        decide(store, ["nowhere"], Recipe())
    with pytest.raises(BadInput, match="quantize that again"):
        additions.add_to_archive(store, lambda _: additions.Addition(make_settings()))


def test_of_two_writers_at_once_the_later_is_refused(root, tmp_path, monkeypatch):
    to = str(tmp_path / "new")

    def late(archive, store):
        make_archive(to, 50)

    monkeypatch.setattr("embarchive.requantize._copy", late)
    with pytest.raises(Conflict, match="another writer"):
        requantize(str(root), to, "pq8", progress=quiet)
    assert len(embarchive.open_archive(to)) == 50


def test_the_command_says_what_it_cost(root, tmp_path, capsys):
    asked = ["quantize", str(root), "--to", str(tmp_path / "new"), "--with", "pq32", "--bits", "0"]
    assert main([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["after"]["vector"] == 32 and 0.5 < said["recall"]["synthetic-1"] <= 1


def test_an_archive_may_have_the_bits_that_an_import_may(root, tmp_path):
    said = requantize(str(root), str(tmp_path / "new"), "pca8+int8", bits=2048, progress=quiet)
    assert said["bits"] == 2048
    archive = embarchive.open_archive(tmp_path / "new")
    assert archive.simhash(archive.space()).bits == 2048
    assert len(archive.search(CELLS[3], k=5)) == 5


def changed(to, folder, **values):
    """The archive at `to` with other values in its space, as a hostile writer would make it."""
    shutil.copytree(to, folder)
    store = open_store(str(folder))
    head = read_head(store)
    space = replace(head.generation.spaces[0], **values)
    body = manifest.dump_generation(replace(head.generation, spaces=(space,)))
    sha = digests.sha256(body)
    store.put_new(manifest.object_path("manifest-json", sha), body)
    pointer = replace(head.pointer, manifest=sha, length=len(body))
    (folder / "embarchive.json").write_bytes(manifest.dump_pointer(pointer))
    return embarchive.open_archive(folder)


def test_a_file_that_is_no_quantiser_is_damaged(made, tmp_path):
    data = b"nothing of the kind"
    sha = digests.sha256(data)
    archive = changed(made["int4"][0], tmp_path / "B", quantiser=sha, quantiser_length=len(data))
    (tmp_path / "B" / manifest.object_path("model", sha)).write_bytes(data)
    assert len(archive.select()) == 3000
    for fails in (lambda: archive.search(CELLS[3]), archive.sql):
        with pytest.raises(Damaged, match="quantiser"):
            fails()


def test_a_quantiser_of_other_bytes_is_damaged(made, tmp_path):
    other = read_head(open_store(str(made["pq8"][0]))).generation.spaces[0]
    name = manifest.object_path("model", other.quantiser)
    values = {"quantiser": other.quantiser, "quantiser_length": other.quantiser_length}
    archive = changed(made["int4"][0], tmp_path / "B", **values)
    (tmp_path / "B" / name).write_bytes((made["pq8"][0] / name).read_bytes())
    with pytest.raises(Damaged, match="in 32 bytes"):
        archive.search(CELLS[3])


def test_a_packed_generation_fits_the_published_schema(made):
    schema = Path(__file__).parent.parent / "manifests" / "generation.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
    for to, _ in made.values():
        body = manifest.dump_generation(read_head(open_store(str(to))).generation)
        validator.validate(json.loads(body))


def test_a_generation_names_a_quantiser_if_and_only_if_it_is_packed(root, made):
    for folder, values in ((root, {"packed": 8}), (made["pq8"][0], {"packed": 0})):
        generation = read_head(open_store(str(folder))).generation
        settings = replace(generation.settings, **values)
        with pytest.raises(BadInput, match="quantiser"):
            manifest.dump_generation(replace(generation, settings=settings))


def test_a_shard_of_other_bytes_is_damaged(made):
    to = made["pq8"][0]
    data = next(Path(to).rglob("embeddings/*/*.parquet")).read_bytes()
    assert shards.parse_footer(data[-65536:], 64, 128, packed=8).num_rows
    for width in (0, 9):
        with pytest.raises(Damaged, match="expected columns"):
            shards.parse_footer(data[-65536:], 64, 128, packed=width)


def test_two_spaces_have_each_a_quantiser_of_their_own(root, tmp_path):
    shutil.copytree(root, tmp_path / "A")
    plain = embarchive.open_archive(tmp_path / "A")
    store, space = open_store(str(tmp_path / "A")), plain.space()
    rows, held = [], plain.shards()
    for shard in held:
        whole = plain.reader.rows(read_plan([shard], Filter()), Filter(), plain.reader.names)
        q = vectors((embeddings(whole) // 2).astype(np.int8))
        other = whole.set_column(4, whole.schema.field(4), pa.chunked_array([q]))
        new = shards.write_shard(other, {})
        blocks = digests.sha256(new.outboard)
        store.put_new(manifest.object_path("blocks", blocks), new.outboard)
        store.put_new(manifest.object_path("shard", new.sha256, shard.prefix), new.data)
        rows.append(
            replace(shard, sha256=new.sha256, length=new.length, footer_length=new.footer_length,
                    blocks=blocks, space_id="synthetic-2")
        )  # fmt: skip
    both = additions.Addition(
        plain.settings, tuple(rows), spaces=(replace(space, space_id="synthetic-2"),)
    )
    additions.add_to_archive(store, lambda _: both)
    said = requantize(str(tmp_path / "A"), str(tmp_path / "B"), "pq8", progress=quiet)
    assert set(said["recall"]) == {"synthetic-1", "synthetic-2"} and said["tiles"] == 6000
    packed = embarchive.open_archive(tmp_path / "B")
    first, second = packed.spaces
    assert first.quantiser != second.quantiser and first.scale > 1.5 * second.scale
    for space in packed.spaces:
        hits = packed.search(CELLS[9], k=4, space=space.space_id)
        with packed.sql(space=space.space_id) as con:
            found = con.sql(sql.search_sql(packed, CELLS[9], k=4, space=space.space_id))
            assert found.to_arrow_table()["score"].to_pylist() == hits["score"].to_pylist()
