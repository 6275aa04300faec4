import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import fakes
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import manifest
from embarchive.errors import BadInput, Damaged, NotAnArchive, UnknownVersion
from embarchive.manifest import Pointer, PyramidRef, TableRef

SCHEMAS = Path(__file__).parent.parent / "manifests"
POINTER = Pointer(7, fakes.sha("m"), 4321, "0123456789abcdef" * 2)


def full_generation():
    ((ref, _),) = manifest.dump_parts(manifest.part_table([fakes.shard_row()]))
    return fakes.generation(
        parts=(ref,), tiles=10, models=TableRef(fakes.sha("models"), 900, 1), parent=fakes.sha(0),
        pyramid=PyramidRef(fakes.sha("pyramid"), 900, 99, 5, 3, fakes.sha("blocks")),
    )  # fmt: skip


def changed(data, **values):
    return json.dumps({**json.loads(data), **values}).encode()


def test_a_pointer_round_trips_in_less_than_a_kilobyte():
    data = manifest.dump_pointer(POINTER)
    assert manifest.parse_pointer(data) == POINTER
    assert len(data) < 1024


def test_a_generation_round_trips_to_the_same_bytes():
    generation = full_generation()
    data = manifest.dump_generation(generation)
    assert manifest.parse_generation(data) == generation
    assert manifest.dump_generation(manifest.parse_generation(data)) == data


@pytest.mark.parametrize("name", ["pointer", "generation"])
def test_what_is_written_fits_its_published_schema(name):
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    data = {"pointer": lambda: manifest.dump_pointer(POINTER),
            "generation": lambda: manifest.dump_generation(full_generation())}[name]()  # fmt: skip
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(data))
    assert not validator.is_valid({**json.loads(data), "version": 2})
    assert not validator.is_valid({**json.loads(data), "path": "x"})


def test_parts_of_older_archives_are_objects_and_are_written_as_columns():
    schema = json.loads((SCHEMAS / "generation.schema.json").read_text())
    (older,) = (SCHEMAS.parent / "src/embarchive/demo/manifests").glob("*.json")
    values = json.loads(older.read_bytes())
    assert [part["prefix"] for part in values["parts"]] == ["d"]
    generation = manifest.parse_generation(older.read_bytes())
    data = manifest.dump_generation(generation)
    assert json.loads(data)["parts"]["sha256"] == [values["parts"][0]["sha256"]]
    assert manifest.parse_generation(data) == generation
    for found in (values, json.loads(data)):
        jsonschema.validate(found, schema)
    columns = json.loads(data)["parts"]
    for wrong in ({**columns, "prefix": ["d"]}, {**columns, "rows": 5}, {**columns, "rows": [-1]},
                  [{**values["parts"][0], "more": 1}], 5):  # fmt: skip
        odd = {**values, "parts": wrong}
        assert not jsonschema.Draft202012Validator(schema).is_valid(odd)


def test_a_space_may_have_no_encoder_and_then_no_length_of_one():
    schema = json.loads((SCHEMAS / "generation.schema.json").read_text())
    bare = replace(fakes.space(), encoder=None, encoder_length=0)
    data = manifest.dump_generation(fakes.generation(spaces=(bare,)))
    assert manifest.parse_generation(data).spaces == (bare,)
    assert bare.objects() == []
    jsonschema.validate(json.loads(data), schema)
    odd = json.loads(data)
    odd["spaces"][0]["encoder_length"] = 7
    assert not jsonschema.Draft202012Validator(schema).is_valid(odd)
    with pytest.raises(Damaged, match="expected no encoder_length without an encoder"):
        manifest.parse_generation(json.dumps(odd, sort_keys=True).encode())


@pytest.mark.parametrize("parse", ["pointer", "generation"])
def test_another_version_is_refused_by_name(parse):
    data = getattr(manifest, f"dump_{parse}")(POINTER if parse == "pointer" else full_generation())
    with pytest.raises(UnknownVersion, match="expected version 1, found 2"):
        getattr(manifest, f"parse_{parse}")(changed(data, version=2))


@pytest.mark.parametrize("data", [b"{}", b"[]", b"<html>", b'{"format":"icechunk","version":1}'])
def test_another_document_is_not_a_pointer(data):
    with pytest.raises(NotAnArchive, match=r"embarchive\.json"):
        manifest.parse_pointer(data)


@pytest.mark.parametrize(
    "values",
    [
        {"manifest": "../" * 10}, {"manifest": "A" * 64}, {"length": "5"}, {"length": -1},
        {"generation": True}, {"commit_id": "x" * 32}, {"extra": 1}, {"length": 1.5},
    ],
)  # fmt: skip
def test_a_pointer_with_a_wrong_value_is_damaged(values):
    with pytest.raises(Damaged):
        manifest.parse_pointer(changed(manifest.dump_pointer(POINTER), **values))


@given(st.integers(0, 8 * len(manifest.dump_pointer(POINTER)) - 1))
def test_a_flipped_bit_in_a_pointer_is_never_the_same_pointer(bit):
    data = bytearray(manifest.dump_pointer(POINTER))
    data[bit // 8] ^= 1 << bit % 8
    with suppress(NotAnArchive, Damaged, UnknownVersion):
        assert manifest.parse_pointer(bytes(data)) != POINTER


def test_a_pointer_must_agree_with_its_generation():
    generation = replace(full_generation(), number=7, commit_id=POINTER.commit_id)
    manifest.check_pair(POINTER, generation)
    with pytest.raises(Damaged, match="expected generation 8, found 7"):
        manifest.check_pair(POINTER, replace(generation, number=8))
    with pytest.raises(Damaged, match="expected commit_id"):
        manifest.check_pair(POINTER, replace(generation, commit_id="0" * 32))


def test_a_hostile_generation_is_damaged():
    data = manifest.dump_generation(full_generation())
    values = json.loads(data)
    parts, settings = values["parts"], values["settings"]
    for wrong in (
        {"tiles": 11}, {"parts": 5}, {"parts": [5]}, {"parts": {**parts, "rows": [-10]}},
        {"parts": {**parts, "sha256": ["../../etc/passwd"]}}, {"settings": {}},
        {"parts": {**parts, "bbox": [0, 0, 1e9, 1]}}, {"parts": {**parts, "datetime_min": ["x"]}},
        {"parts": {**parts, "rows": [10, 0]}}, {"parts": {**parts, "prefix": ["u"]}},
        {"settings": {**settings, "packed": 8}}, {"settings": {**settings, "packed": "8"}},
        {"settings": {**settings, "packed": 0}}, {"settings": {**settings, "packed": 10**9}},
        {"settings": {**settings, "dim": 10**9}}, {"settings": {**settings, "dim": "64"}},
        {"settings": {**settings, "indices": {"ndvi": 3}}}, {"bytes": {"shards": "many"}},
        {"spaces": [{**values["spaces"][0], "scale": None}]}, {"models": {"sha256": "x"}},
    ):  # fmt: skip
        with pytest.raises(Damaged, match="generation"):
            manifest.parse_generation(changed(data, **wrong))


def test_a_generation_above_its_cap_is_refused_before_parsing():
    with pytest.raises(Damaged, match="expected at most 4194304 bytes"):
        manifest.parse_generation(b" " * (4 << 20) + b"{}")


def test_an_ordinary_generation_is_small():
    shards = [
        fakes.shard_row(f"u3{a}", f"{a}{i}".encode() * 9000) for a in "0123" for i in range(9)
    ]
    parts = tuple(ref for ref, _ in manifest.dump_parts(manifest.part_table(shards)))
    planes = {"planes": "A" * 11_000, "offsets": [0] * 128}
    one = fakes.generation(parts=parts, tiles=360, spaces=(fakes.space(simhash=planes),))
    assert len(manifest.dump_generation(one)) < 64 << 10


def test_paths_are_derived_from_hashes_alone():
    sha = fakes.sha("x")
    assert manifest.object_path("shard", sha, "u33") == f"embeddings/gh=u33/{sha}.parquet"
    assert manifest.object_path("manifest-json", sha) == f"manifests/{sha}.json"
    assert manifest.object_path("model-onnx", sha) == f"models/{sha}.onnx"
    assert manifest.object_path("blocks", sha) == f"blocks/{sha}"


@pytest.mark.parametrize("sha", ["", "..", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63])
def test_what_is_no_hash_makes_no_path(sha):
    with pytest.raises(Damaged, match="sha256"):
        manifest.object_path("model", sha)


@pytest.mark.parametrize("prefix", ["", None, "..", "u3/", "ail", "u33\n", "u" * 13])
def test_what_is_no_geohash_makes_no_shard_path(prefix):
    with pytest.raises(Damaged, match="geohash prefix"):
        manifest.object_path("shard", "a" * 64, prefix)


def test_an_unknown_kind_of_object_is_refused():
    with pytest.raises(BadInput, match="object kind"):
        manifest.object_path("pickle", "a" * 64)
