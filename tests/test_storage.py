"""What every store is: paths, counts, and its verbs on each kind of store."""

import os
import secrets
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import objectstore
from embarchive.errors import BadInput, Conflict, Damaged, Missing, NotAnArchive
from embarchive.headers import headers_of
from embarchive.storage import MAX_POINTER, POINTER, Counters, Store, check_path, check_ranges
from embarchive.store import open_store

MODEL = "models/" + "a" * 64 + ".safetensors"
Opener = Callable[[], Store]


@given(st.text(max_size=30))
def test_a_path_that_passes_has_only_plain_names(text: str) -> None:
    try:
        parts = check_path(text)
    except BadInput:
        return
    assert "/".join(parts) == text
    assert not {"", ".", ".."} & set(parts)
    assert all(letter.isascii() and (letter.isalnum() or letter in "._=-/") for letter in text)


def test_paths_of_an_archive_pass() -> None:
    assert check_path("embeddings/gh=u33/ab.parquet") == ["embeddings", "gh=u33", "ab.parquet"]


@pytest.mark.parametrize("span", [(-1, 5), (5, 5), (6, 5)])
def test_a_range_that_is_none_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="0 <= start < end"):
        check_ranges("x", [(0, 1), span])


def test_counts_from_many_threads_add_up() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(2000):
            counters.add(1, 3)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counters.requests, counters.bytes_read) == (8000, 24_000)


# ------------------------------------------------------------ the verbs of all stores


@pytest.fixture(params=["local", "moto", "weed"])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens a store that is empty at first, again and again."""
    kind, name = request.param, secrets.token_hex(4)
    if kind == "local":
        folder = request.getfixturevalue("tmp_path") / name
        return lambda: open_store(folder)
    server = request.getfixturevalue(kind)
    env = server if kind == "moto" else server.environment()
    return lambda: open_store(f"s3://bucket/{name}/in", env=env, deadline=20)


@pytest.fixture
def place(s3: dict[str, str]) -> tuple[dict[str, str], str]:
    """AWS_* variables of a server, and a prefix of its own in the bucket."""
    return s3, secrets.token_hex(4)


def test_what_is_written_is_read_whole_and_in_ranges(opener: Opener) -> None:
    data = os.urandom(300_000)
    opener().put_new(MODEL, data)
    store = opener()
    assert store.get(MODEL) == store.get(MODEL, length=len(data), limit=len(data)) == data
    spans = [(0, 1), (100_000, 250_001), (299_999, 300_000)]
    assert store.get_ranges(MODEL, spans) == [data[start:end] for start, end in spans]
    assert (store.requests > 2) and store.bytes_read == 2 * len(data) + 150_003


def test_other_lengths_and_missing_objects_are_named(opener: Opener) -> None:
    store = opener()
    for read in (lambda: store.get(MODEL), lambda: store.get_ranges(MODEL, [(0, 1)])):
        with pytest.raises(Missing, match=MODEL):
            read()
    store.put_new(MODEL, b"12345")
    wrong: tuple[Callable[[], Any], ...] = (
        lambda: store.get(MODEL, length=4),
        lambda: store.get(MODEL, limit=4),
        lambda: store.get_ranges(MODEL, [(0, 6)]),
    )
    for read in wrong:
        with pytest.raises(Damaged, match=MODEL):
            read()


def test_writing_again_is_harmless_and_a_file_of_the_page_is_replaced(opener: Opener) -> None:
    store = opener()
    for _ in range(2):
        store.put_new(MODEL, b"same")
    store.put_file("index.html", b"old")
    store.put_file("index.html", b"new")
    assert (store.get(MODEL), store.get("index.html")) == (b"same", b"new")


def test_a_pointer_is_created_and_replaced_only_from_what_was_read(opener: Opener) -> None:
    one, two = opener(), opener()
    one.check_writable()
    assert one.read_pointer() is None and not one.list("")
    one.swap_pointer(b"1", None)
    with pytest.raises(Conflict):
        two.swap_pointer(b"x", None)
    data, token = two.read_pointer() or (b"", "")
    assert data == b"1"
    two.swap_pointer(b"2", token)
    with pytest.raises(Conflict):
        one.swap_pointer(b"x", token)
    with pytest.raises(BadInput, match="at most 1024 bytes"):
        one.swap_pointer(b"x" * (MAX_POINTER + 1), token)
    assert (one.read_pointer() or (b"", ""))[0] == b"2"


def test_a_pointer_that_is_too_long_is_none(opener: Opener) -> None:
    store = opener()
    store.put_file(POINTER, b" " * (MAX_POINTER + 1))
    with pytest.raises(NotAnArchive, match="at most 1024 bytes"):
        store.read_pointer()


def test_of_many_who_create_or_replace_the_pointer_one_succeeds(opener: Opener) -> None:
    stores = [opener() for _ in range(6)]

    def swaps(token: str | None) -> int:
        def swap(store: Store) -> int:
            try:
                store.swap_pointer(secrets.token_bytes(20), token)
                return 1
            except Conflict:
                return 0

        with ThreadPoolExecutor(len(stores)) as pool:
            return sum(pool.map(swap, stores))

    assert swaps(None) == 1
    for _ in range(5):
        assert swaps((stores[0].read_pointer() or (b"", ""))[1]) == 1


def test_a_listing_has_all_below_a_folder_and_nothing_beside_it(opener: Opener) -> None:
    store, began = opener(), datetime.now(UTC)
    names = sorted(f"models/{number:04x}" for number in range(1003))  # S3 lists 1000 at once
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.put_new(name, name.encode()), names))
    store.put_new("models-of-others", b"")
    store.put_new("staging/p/x", b"123")
    found = store.list("models")
    assert [entry.path for entry in found] == names
    assert {entry.length for entry in found} == {11}
    assert all(abs(entry.modified - began) < timedelta(minutes=2) for entry in found)
    assert [(entry.path, entry.length) for entry in store.list("staging")] == [("staging/p/x", 3)]
    assert len(store.list("")) == len(names) + 2 and store.list("embeddings") == []


def test_what_is_deleted_is_gone_and_what_is_young_stays(opener: Opener) -> None:
    store, now = opener(), datetime.now(UTC)
    for name in ("models/a", "models/b", "models/c"):
        store.put_new(name, b"1")
    store.delete("models/a")
    store.delete("models/a")
    assert not store.delete_older("models/b", now - timedelta(hours=1))
    assert store.delete_older("models/c", now + timedelta(hours=1))
    assert store.delete_older("models/c", now - timedelta(hours=1))  # gone is gone
    assert [entry.path for entry in store.list("")] == ["models/b"]
    with pytest.raises(Missing):
        store.get("models/c")


def test_a_large_object_goes_up_in_parts(place: tuple[dict[str, str], str]) -> None:
    env, name = place
    store = open_store(f"s3://bucket/{name}", env=env, deadline=60)
    for size, parts in ((objectstore.PART, 0), (2 * objectstore.PART + 5, 3)):
        data = os.urandom(size)
        for _ in range(2):
            store.put_new(MODEL, data)
        tag = client(env).head_object(Bucket="bucket", Key=f"{name}/{MODEL}")["ETag"]
        assert tag.strip('"').endswith(f"-{parts}") == bool(parts) == ("-" in tag)
        assert store.get(MODEL, length=size) == data
        assert store.get_ranges(MODEL, [(size - 9, size)]) == [data[-9:]]
        assert headers(env, f"{name}/{MODEL}").items() >= headers_of(MODEL).items()


def test_a_large_object_that_breaks_off_is_not_seen(
    place: tuple[dict[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, name = place
    amazon, at = client(env), {"Bucket": "bucket", "Key": f"{name}/{MODEL}"}
    begun = amazon.create_multipart_upload(**at)["UploadId"]
    amazon.upload_part(**at, UploadId=begun, PartNumber=1, Body=b"x" * (5 << 20))
    store = open_store(f"s3://bucket/{name}", env=env)
    assert store.list("") == []
    with pytest.raises(Missing):
        store.get(MODEL)
    monkeypatch.setattr(objectstore, "PART", 5 << 20)
    data = os.urandom(6 << 20)
    store.put_new(MODEL, data)
    assert store.get(MODEL) == data and len(store.list("")) == 1


def test_objects_say_their_type_and_how_long_they_may_be_kept(
    place: tuple[dict[str, str], str],
) -> None:
    env, name = place
    store = open_store(f"s3://bucket/{name}", env=env)
    store.put_new(MODEL, b"1")
    store.put_file("viewer/page.js", b"text")
    store.swap_pointer(b"{}", None)
    for path in (MODEL, "viewer/page.js", POINTER):
        assert headers(env, f"{name}/{path}").items() >= headers_of(path).items()
    assert headers(env, f"{name}/viewer/page.js")["content-encoding"] == "gzip"


def client(env: dict[str, str]) -> Any:
    """Amazon's own client."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def headers(env: dict[str, str], key: str) -> dict[str, str]:
    """What a browser would be told."""
    asked = {"Bucket": "bucket", "Key": key}
    url = client(env).generate_presigned_url("get_object", Params=asked)
    with urllib.request.urlopen(url) as answer:
        return {name.lower(): said for name, said in answer.headers.items()}
