import pytest

from embarchive.headers import FILE_LIST, content_digest, headers_of, is_compressed
from embarchive.manifest import object_path

SHA = "0f" * 32


@pytest.mark.parametrize("kind", ["model", "model-card", "blocks", "manifest-json"])
def test_what_is_named_by_its_hash_may_be_kept_for_ever(kind):
    path = object_path(kind, SHA)
    assert content_digest(path) == SHA
    assert headers_of(path)["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", ["embarchive.json", "viewer/index.html", "viewer/a.js", "x"])
def test_what_may_change_is_asked_for_again(path):
    assert headers_of(path)["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("embarchive.json", "application/json"), ("viewer/a.wasm", "application/wasm"),
     ("viewer/a.js", "text/javascript; charset=utf-8"), ("blocks/x", "application/octet-stream"),
     ("models/x.safetensors", "application/octet-stream")],
)  # fmt: skip
def test_a_type_follows_from_the_name(path, kind):
    assert headers_of(path)["content-type"] == kind


@pytest.mark.parametrize("path", ["viewer/a.js", "viewer/vendor/a.css", "viewer/land.json"])
def test_text_of_the_page_travels_compressed(path):
    assert is_compressed(path)


@pytest.mark.parametrize(
    "path",
    [f"manifests/{SHA}.json", "embarchive.json", "viewer/a.wasm", "index.html", FILE_LIST,
     object_path("shard", SHA, "u33")],
)  # fmt: skip
def test_data_and_what_publish_reads_back_never_do(path):
    assert not is_compressed(path)
