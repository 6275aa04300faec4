"""An archive as a STAC Collection and Items."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from archives import append_date, make_archive, make_settings
from stacschemas import faults

from embarchive.archive import open_archive
from embarchive.collection import (
    EMBEDDINGS,
    Wishes,
    collection,
    collection_id,
    extent_of,
    items,
    of_space,
    wishes_of,
)
from embarchive.errors import BadInput

FULL = replace(
    make_settings(), title="Wien & Umland, 2023", licence="CC-BY-4.0", attribution="City of X"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("stac") / "archive"
    make_archive(root, 300, dates=2, nulls=True, settings=FULL)
    return open_archive(root)


def parts_of(archive, **changes):
    generation = replace(archive.head.generation, **changes)
    return generation, of_space(generation, archive.shards())


def document_of(archive, wishes=Wishes(), **changes):  # noqa: B008
    generation, shards = parts_of(archive, **changes)
    return collection(archive.head.pointer, generation, shards, None, wishes)


def test_it_is_a_collection_by_the_schemas_of_stac_and_its_extensions(archive):
    for kind in ("", "json", "parquet"):
        document = document_of(archive, Wishes(items=kind), attribution="City of X")
        assert EMBEDDINGS in document["stac_extensions"]
        assert faults(document) == []


@pytest.mark.parametrize("key", ["emb:type", "emb:dimensions", "data_type", "license", "extent"])
def test_the_schemas_miss_what_is_taken_away(archive, key):
    document = document_of(archive)
    del document[key]
    assert faults(document)


def test_the_schemas_miss_links_and_refuse_fields_that_are_not_the_extensions(archive):
    document = document_of(archive)
    for rel in ("emb:model", "emb:source-data"):
        links = [link for link in document["links"] if link["rel"] != rel]
        assert faults({**document, "links": links})
    assert faults({**document, "emb:kind": "chip"})
    assert faults({**document, "emb:chip_layout": {"layout_type": "geohash"}})


def test_every_item_is_one_by_the_schemas_and_says_how_to_read_its_shard(archive):
    generation, shards = parts_of(archive)
    found = items(generation, shards, None)
    assert len(found) == len(shards) > 1
    for (path, item), shard in zip(found, shards, strict=True):
        assert faults(item) == []
        assert path == f"items/{item['id']}.json"
        asset = item["assets"]["embeddings"]
        assert asset["href"] == f"../embeddings/gh={shard.prefix}/{shard.sha256}.parquet"
        assert asset["file:checksum"] == "1220" + shard.sha256
        assert item["bbox"] == list(shard.bbox)
        quantised = item["properties"]["emb:quantization"]
        assert quantised["scale"] == [archive.spaces[-1].scale]
        without = {**item, "assets": {"data": asset}}
        assert faults(without), "the extension wants the asset embeddings"


def test_what_it_says_is_what_the_archive_says(archive):
    document = document_of(archive)
    info = archive.info()
    assert document["extent"]["spatial"]["bbox"] == [info["bounds"]]
    dates = [datetime.fromisoformat(day) for day in document["extent"]["temporal"]["interval"][0]]
    assert dates == [datetime.fromisoformat(day) for day in info["datetime"]]
    assert document["table:row_count"] == len(archive)
    assert document["license"] == "CC-BY-4.0"
    assert document["title"] == FULL.title
    assert document["id"] == "wien-umland-2023-synthetic-1"
    sums = [asset.get("file:checksum") for asset in document["assets"].values()]
    wanted = [archive.head.pointer.manifest, *(part.sha256 for part in archive.parts)]
    assert set(sums) > {f"1220{sha}" for sha in wanted}


def test_no_licence_or_attribution_is_made_up(archive):
    plain = replace(FULL, licence="", attribution="", title="")
    document = document_of(archive, settings=plain, attribution="")
    assert document["license"] == "proprietary"
    assert "No licence is stated" in document["description"]
    assert not {"attribution", "providers", "title"} & set(document)
    assert document["id"] == "embarchive-synthetic-1"
    text = document_of(archive, settings=replace(plain, licence="Copernicus Sentinel data terms"))
    assert text["license"] == "proprietary"
    assert "Copernicus Sentinel data terms" in text["description"]
    url = document_of(archive, settings=replace(plain, licence="https://x.org/terms"))
    assert {"rel": "license", "href": "https://x.org/terms"} in url["links"]
    assert faults(document) == faults(text) == faults(url) == []


def test_without_an_encoder_the_extension_waits_for_a_link(archive):
    space = replace(archive.spaces[-1], encoder=None, encoder_length=0, backbone=None, onnx=None)
    document = document_of(archive, spaces=(space,))
    assert EMBEDDINGS not in document["stac_extensions"]
    assert faults(document) == []
    named = document_of(archive, Wishes(model="https://x.org/clay"), spaces=(space,))
    assert EMBEDDINGS in named["stac_extensions"]
    assert faults(named) == []


def test_it_is_of_the_newest_space_alone(tmp_path):
    make_archive(tmp_path, 60)
    append_date(tmp_path, 3, 30, space_id="other-2")
    archive = open_archive(tmp_path)
    document = document_of(archive)
    assert document["id"] == "embarchive-other-2"
    assert document["table:row_count"] == 30
    assert "the newest of 2" in document["description"]
    days = document["extent"]["temporal"]["interval"][0]
    assert days == ["2023-05-04T10:30:00Z", "2023-05-04T10:30:00Z"]


def test_shards_without_a_date_are_no_items_and_leave_the_interval_open(archive):
    generation, shards = parts_of(archive)
    bare = [replace(one, datetime_min=None, datetime_max=None) for one in shards]
    assert items(generation, bare, None) == []
    for kind in ("json", "parquet"):
        document = collection(archive.head.pointer, generation, bare, None, Wishes(items=kind))
        assert document["extent"]["temporal"]["interval"] == [[None, None]]
        assert "items" not in document["assets"]
        assert faults(document) == []


def test_a_shard_of_one_moment_has_it_and_others_their_span(archive):
    generation, (shard, *_) = parts_of(archive)
    day = datetime(2023, 5, 1, tzinfo=UTC)
    one = replace(shard, datetime_min=day, datetime_max=day)
    two = replace(one, datetime_max=day.replace(day=2))
    ((_, first), (_, second)) = items(generation, [one, two], None)
    assert first["properties"]["datetime"] == "2023-05-01T00:00:00Z"
    assert "start_datetime" not in first["properties"]
    assert second["properties"]["datetime"] is None
    assert second["properties"]["end_datetime"] == "2023-05-02T00:00:00Z"
    assert faults(first) == faults(second) == []


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(10, 1, 11, 2), (12, 0, 13, 1)], [10, 0, 13, 2]),
        ([(177, -18, 180, -17), (-180, -18, -178, -16)], [177, -18, -178, -16]),
        ([(-180, 0, -90, 1), (-90, 0, 0, 1), (0, 0, 90, 1), (90, 0, 180, 1)], [-180, 0, 180, 1]),
        ([(-5, 0, 20, 1), (0, 0, 1, 1), (25, 0, 30, 1)], [-5, 0, 30, 1]),
    ],
)
def test_the_box_of_boxes_is_the_least_one_also_across_the_antimeridian(boxes, expected):
    assert extent_of(boxes) == expected


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(),
        Wishes("json", "https://x.org/a"),
        Wishes("parquet", model="https://x.org/m", source_data="http://y.org/s2"),
    ],
)
def test_a_collection_tells_with_what_it_was_written(archive, wishes):
    assert wishes_of(json.loads(json.dumps(document_of(archive, wishes)))) == wishes


def test_another_collection_is_not_ours():
    for other in ([], {}, {"type": "Collection", "links": []}, None):
        assert wishes_of(other) is None


@pytest.mark.parametrize(
    "url",
    ["ftp://x.org/a", "x.org", "https://user:secret@x.org/a", "https://x.org/a?key=secret",
     "https://x.org/ a", "https://", "file:///etc/passwd", "https://[x/a"],
)  # fmt: skip
def test_a_url_that_is_none_or_has_credentials_is_refused_without_showing_it(url):
    for name in ("base_url", "model", "source_data"):
        with pytest.raises(BadInput, match="expected a URL https://HOST/PATH") as error:
            Wishes(**{name: url})
        assert "secret" not in str(error.value)


def test_items_are_of_a_known_kind(archive):
    with pytest.raises(BadInput, match="json or parquet, found 'csv'"):
        Wishes(items="csv")
    with pytest.raises(BadInput, match="an archive with tiles"):
        collection(archive.head.pointer, archive.head.generation, [], None, Wishes())
    with pytest.raises(BadInput, match="an embedding space"):
        collection_id(replace(archive.head.generation, spaces=()))
