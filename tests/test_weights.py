"""Models are fetched by hash, once, and put together by kind."""

from dataclasses import replace

import numpy as np
import pytest
from archives import make_archive

import embarchive
from embarchive import manifest, weights
from embarchive.errors import BadInput, Damaged


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    make_archive(root, 40)
    return root


@pytest.fixture
def archive(root, monkeypatch):
    """Weights whose only number is the length of their bytes."""
    monkeypatch.setattr(weights.model.Architecture, "from_json", lambda values: "architecture")
    monkeypatch.setattr(
        weights.tensors,
        "load_weights",
        lambda data, architecture, kind: {kind: np.float32(len(data)), "encoder.step": np.ones(1)},
    )
    return embarchive.open_archive(root)


def only_model(archive, **changes):
    row = archive.models().to_pylist()[0]
    archive.weights._table = manifest.models_table([{**row, **changes}])
    return row["model_id"]


def test_a_whole_network_is_its_own_backbone(archive):
    decoder = archive.weights.decoder(only_model(archive, kind="full"))
    assert decoder.backbone["full"] == 18 and decoder.adapter is None
    assert decoder.code_scale == 1
    assert decoder.scale == archive.space().scale


def test_an_adapter_stands_on_its_backbone(archive):
    space = archive.space()
    name = only_model(
        archive, kind="adapter", backbone=space.encoder, backbone_length=space.encoder_length
    )
    decoder = archive.weights.decoder(name)
    assert decoder.backbone["backbone"] == 7 and decoder.adapter["adapter"] == 18
    assert decoder.code_scale is None


def test_embeddings_alone_decode_without_codes_by_what_their_space_shares(archive, monkeypatch):
    name = only_model(archive, kind="full")
    space = archive.space()
    shared = replace(space, backbone=space.encoder, backbone_length=space.encoder_length)
    monkeypatch.setattr(archive.weights, "_space", lambda space_id: shared)
    plain = archive.weights.plain_decoder(name)
    assert plain.backbone["backbone"] == 7
    assert (plain.code_scale, plain.codes, plain.adapter) == (None, None, None)
    alone = replace(space, backbone=None, backbone_length=0)
    monkeypatch.setattr(archive.weights, "_space", lambda space_id: alone)
    with pytest.raises(BadInput, match="expected a shared decoder, space synthetic-1 has none"):
        archive.weights.plain_decoder(name)


def test_a_model_is_fetched_once(archive):
    name = archive.models()["model_id"][0].as_py()
    first = archive.weights.decoder(name)
    before = archive.store.requests
    assert archive.weights.decoder(name) is first and archive.store.requests == before


def test_the_encoder_is_that_of_the_space(archive):
    assert archive.weights.encoder(archive.space())[1]["encoder"] == 7


def test_a_model_or_space_that_the_manifest_lacks_is_damage(archive):
    with pytest.raises(Damaged, match="expected a row in the models table"):
        archive.weights.decoder("f" * 64)
    with pytest.raises(Damaged, match="expected it in the generation"):
        archive.weights.decoder(only_model(archive, space_id="gone"))


def test_weights_that_were_changed_are_refused(root, archive):
    name = archive.models()["model_id"][0].as_py()
    path = root / "models" / f"{name}.safetensors"
    clean = path.read_bytes()
    path.write_bytes(clean[:-1] + b"?")
    try:
        with pytest.raises(Damaged, match="expected sha256"):
            archive.weights.decoder(name)
    finally:
        path.write_bytes(clean)


def test_rows_without_a_decoder_say_so(archive):
    with pytest.raises(BadInput, match="decode: expected rows that have a decoder"):
        archive.weights.decoder("")


def test_an_archive_without_models_has_a_table_of_none(archive):
    held = replace(archive.head.generation, models=None)
    table = weights.Models(archive.reader, held).table()
    assert (len(table), table.schema) == (0, manifest.MODEL_SCHEMA)


def test_a_space_without_an_encoder_says_so(archive):
    space = replace(archive.space(), encoder=None, encoder_length=0)
    with pytest.raises(BadInput, match="found an image: space synthetic-1 has no encoder"):
        archive.weights.encoder(space)
