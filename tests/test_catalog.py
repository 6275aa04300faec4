"""The collection of an archive, written beside its data."""

import json
import shutil

import pystac
import pytest
from archives import append_date, make_archive
from s3server import serving_s3
from stacschemas import EXTENSIONS, faults

from embarchive.catalog import refresh_catalog, write_catalog
from embarchive.cli import main
from embarchive.collect import collect
from embarchive.collection import EMBEDDINGS, MIRROR, Wishes
from embarchive.errors import BadInput, NotAnArchive
from embarchive.itemtable import parse
from embarchive.publish import publish
from embarchive.serve import demo_root
from embarchive.store import LocalStore, open_store
from embarchive.verify import verify

PAGE = {"viewer/index.html": b"<p>page"}


@pytest.fixture
def root(tmp_path):
    make_archive(tmp_path / "archive", 300, dates=2)
    return tmp_path / "archive"


def derived(root):
    files = [root / "collection.json", *(root / "items").glob("*")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_pystac_reads_it_walks_to_every_item_and_finds_all_valid(root):
    validator = pystac.validation.stac_validator.JsonSchemaSTACValidator()
    validator.schema_cache |= EXTENSIONS
    pystac.validation.set_validator(validator)
    write_catalog(LocalStore(root), Wishes("json"))
    found = pystac.Collection.from_file(str(root / "collection.json"))
    assert found.validate_all() > 1
    shards = sorted(path for path in (root / "embeddings").rglob("*.parquet"))
    assets = [item.assets["embeddings"].get_absolute_href() for item in found.get_items()]
    assert sorted(assets) == [str(path) for path in shards]
    for asset in found.assets.values():
        assert (root / asset.href).is_file()
    rels = {"emb:model", "emb:decoder", "emb:source-data"}
    links = [link for link in found.links if link.rel in rels]
    assert {link.rel for link in links} == rels
    assert all((root / link.href).is_file() for link in links)


def test_the_same_generation_gives_the_same_bytes(root):
    for wishes in (Wishes(), Wishes("json", "https://x.org/a"), Wishes("parquet")):
        write_catalog(LocalStore(root), wishes)
        first = derived(root)
        write_catalog(LocalStore(root), wishes)
        assert derived(root) == first


def test_items_of_an_earlier_collection_go_and_nothing_else_does(root):
    done = write_catalog(LocalStore(root), Wishes("json"))
    assert done["items"] == len(list((root / "items").glob("*.json"))) > 1
    (root / "items" / "mine.json").write_text("mine")
    parquet = write_catalog(LocalStore(root), Wishes("parquet"))
    assert len(parquet["removed"]) == done["items"]
    assert {path.name for path in (root / "items").iterdir()} == {"mine.json", "items.parquet"}
    plain = write_catalog(LocalStore(root))
    assert plain["removed"] == [MIRROR]
    assert [path.name for path in (root / "items").iterdir()] == ["mine.json"]


def test_the_one_file_of_items_says_what_the_many_say(root):
    write_catalog(LocalStore(root), Wishes("json"))
    many = [json.loads(path.read_text()) for path in (root / "items").glob("*.json")]
    write_catalog(LocalStore(root), Wishes("parquet"))
    one = parse((root / MIRROR).read_bytes(), MIRROR)
    assert {item["id"]: item["assets"] for item in one} == {
        item["id"]: item["assets"] for item in many
    }
    document = json.loads((root / "collection.json").read_bytes())
    assert document["assets"]["items"]["roles"] == ["collection-mirror"]


def test_without_items_nothing_is_listed(root, monkeypatch):
    store = LocalStore(root)
    monkeypatch.setattr(LocalStore, "list", lambda *_: pytest.fail("listed"))
    write_catalog(store)
    assert refresh_catalog(store)


def test_readers_gc_and_verify_heed_none_of_it(root):
    write_catalog(LocalStore(root), Wishes("json"))
    before = derived(root)
    collect(LocalStore(root), grace=0, delete=True, progress=lambda *_: None)
    assert derived(root) == before
    assert verify(LocalStore(root))["ok"]


def test_publish_writes_it_and_later_as_it_was_wished(root):
    done = publish(root, PAGE)
    assert done["kept"] == []
    plain = json.loads((root / "collection.json").read_bytes())
    assert faults(plain) == []
    write_catalog(LocalStore(root), Wishes("json", "https://x.org/a", source_data="https://y.org"))
    append_date(root, 40)
    assert publish(root, PAGE)["kept"] == []
    after = json.loads((root / "collection.json").read_bytes())
    assert after["embarchive:generation"] == plain["embarchive:generation"] + 1
    assert {"rel": "emb:source-data", "href": "https://y.org"} in after["links"]
    assert sum(link["rel"] == "item" for link in after["links"]) == len(derived(root)) - 1


@pytest.mark.parametrize(
    "text", [b'{"type":"Collection","id":"mine"}', b"not JSON", b"", b'{"a":NaN}',
             b'{"embarchive:generation":1,"links":[{"rel":"self","href":"https://a:b@c/"}]}'],
)  # fmt: skip
def test_publish_keeps_a_collection_of_somebody_else(root, text):
    (root / "collection.json").write_bytes(text)
    assert not refresh_catalog(LocalStore(root))
    assert publish(root, PAGE)["kept"] == ["collection.json"]
    with pytest.raises(BadInput, match="expected none or one of embarchive, found another"):
        write_catalog(LocalStore(root))
    assert (root / "collection.json").read_bytes() == text


def test_it_is_written_to_s3(root, monkeypatch):
    with serving_s3() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        make_archive("s3://bucket/a", 300, dates=2)
        store = open_store("s3://bucket/a")
        done = write_catalog(store, Wishes("json"))
        assert done["collection"] == "s3://bucket/a/collection.json"
        assert len(store.list("items")) == done["items"] > 1
        assert write_catalog(store)["removed"]
        assert store.list("items") == []


def test_the_command_says_what_it_wrote_and_what_it_lacks(root, capsys):
    assert main(["stac", str(root), "--items", "parquet", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["items"] > 1 and told["undated"] == 0 and told["lacks"] == []
    assert main(["stac", str(root), "--items", "json", "-q"]) == 0
    assert "Items, " in capsys.readouterr().out
    assert main(["stac", str(root), "--base-url", "ftp://x"]) == 2
    assert "expected a URL" in capsys.readouterr().err


def test_undated_shards_are_counted(tmp_path, capsys):
    shutil.copytree(demo_root(), tmp_path / "demo")
    told = write_catalog(LocalStore(tmp_path / "demo"), Wishes("parquet"))
    assert (told["items"], told["undated"]) == (0, 1)
    document = json.loads((tmp_path / "demo" / "collection.json").read_bytes())
    assert faults(document) == [] and EMBEDDINGS in document["stac_extensions"]
    assert main(["stac", str(tmp_path / "demo"), "--items", "json"]) == 0
    assert "without a date, which an Item must have: 1" in capsys.readouterr().out


def test_what_cannot_be_written_or_read_is_one_line(tmp_path):
    with pytest.raises(NotAnArchive):
        write_catalog(LocalStore(tmp_path))
    with pytest.raises(BadInput, match="read only"):
        write_catalog(open_store("http://127.0.0.1:9/a"))
