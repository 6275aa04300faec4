"""The range server, asked over a real socket by a client that adds nothing of its own."""

import http.client
import json
import os
import socket
from urllib.parse import urlsplit

import pytest
from archives import make_archive
from hypothesis import given
from hypothesis import strategies as st

from embarchive import serve
from embarchive.errors import BadInput, NotAnArchive

NAME = "models/" + "a" * 64 + ".safetensors"
DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "archive"
    make_archive(root, 60)
    (root / "models").mkdir(exist_ok=True)
    (root / NAME).write_bytes(DATA)
    (root / "big.bin").write_bytes(DATA * 600)
    (root / ".hidden").write_text("no")
    (root.parent / "secret").write_text("no")
    (root / "link").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture(scope="module")
def url(root):
    with serve.running(root) as url:
        yield url


def ask(url, path, method="GET", **headers):
    """(status, headers, body); header names with underscores for dashes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_a_whole_file_has_its_length_its_type_and_no_encoding(url):
    status, headers, body = ask(url, f"/{NAME}", accept_encoding="gzip")
    assert status == 200
    assert body == DATA
    assert headers["content-length"] == str(len(DATA))
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-encoding"] is None


def test_a_range_is_206_with_exactly_its_bytes(url):
    status, headers, body = ask(url, f"/{NAME}", range="bytes=100-299")
    assert status == 206
    assert body == DATA[100:300]
    assert headers["content-range"] == f"bytes 100-299/{len(DATA)}"
    assert headers["content-length"] == "200"


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=10200-99999", slice(10200, None)), ("bytes=-7", slice(-7, None)),
     ("bytes=5-", slice(5, None)), ("bytes=-99999", slice(None)), ("bytes=0-0", slice(1))],
)  # fmt: skip
def test_ranges_that_are_open_or_too_long_are_cut_to_the_file(url, asked, part):
    status, _, body = ask(url, f"/{NAME}", range=asked)
    assert status == 206
    assert body == DATA[part]


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=99999-99999999", "bytes=-0"])
def test_a_range_outside_the_file_is_416_with_its_size(url, asked):
    status, headers, body = ask(url, f"/{NAME}", range=asked)
    assert status == 416
    assert headers["content-range"] == f"bytes */{len(DATA)}"
    assert body == b""


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "x"])
def test_a_range_that_is_not_one_gives_the_whole_file(url, asked):
    status, _, body = ask(url, f"/{NAME}", range=asked)
    assert status == 200
    assert body == DATA


def test_head_tells_the_whole_length_and_sends_nothing(url):
    status, headers, body = ask(url, f"/{NAME}", "HEAD", range="bytes=0-9")
    assert status == 200
    assert headers["content-length"] == str(len(DATA))
    assert body == b""


def test_content_named_objects_stay_in_caches_and_the_pointer_does_not(url):
    _, named, _ = ask(url, f"/{NAME}", "HEAD")
    _, pointer, _ = ask(url, "/embarchive.json", "HEAD")
    assert named["etag"] == f'"{"a" * 64}"'
    assert "immutable" in named["cache-control"]
    assert pointer["cache-control"] == "no-cache"
    assert pointer["content-type"] == "application/json"


def test_if_none_match_with_the_tag_is_304(url):
    tag = ask(url, "/embarchive.json")[1]["etag"]
    status, headers, body = ask(url, "/embarchive.json", if_none_match=tag)
    assert (status, headers["etag"], body) == (304, tag, b"")


def test_if_range_with_another_tag_gives_the_whole_file(url):
    tag = ask(url, f"/{NAME}", "HEAD")[1]["etag"]
    assert ask(url, f"/{NAME}", range="bytes=0-9", if_range=tag)[0] == 206
    assert ask(url, f"/{NAME}", range="bytes=0-9", if_range='"other"')[0] == 200


def test_the_pointers_tag_changes_when_it_is_replaced_within_a_tick(url, root):
    before = ask(url, "/embarchive.json", "HEAD")[1]["etag"]
    stamp = os.stat(root / "embarchive.json")
    new = root / "new"
    new.write_bytes((root / "embarchive.json").read_bytes())
    os.utime(new, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    new.replace(root / "embarchive.json")
    assert ask(url, "/embarchive.json", "HEAD")[1]["etag"] != before


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/models/../../secret", "/link", "//secret",
     "/folder/secret", "/.hidden", "/pipe", "/models", "/models/", "/none", "/a%00b",
     "/..%5csecret"],
)  # fmt: skip
def test_nothing_outside_the_archive_is_served(url, path):
    status, _, body = ask(url, path)
    assert status == 404
    assert body == b"not found\n"


def test_every_answer_may_be_read_by_other_origins(url):
    for status, headers, _ in (
        ask(url, "/embarchive.json"),
        ask(url, "/none"),
        ask(url, f"/{NAME}", range="bytes=99999-"),
        ask(url, "/embarchive.json", "OPTIONS", origin="null"),
    ):
        assert status in (200, 204, 404, 416)
        assert headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in headers["access-control-expose-headers"]


def test_writing_is_refused(url):
    assert ask(url, "/embarchive.json", "PUT")[0] == 405


def test_a_large_file_comes_in_pieces_and_whole(url):
    status, headers, body = ask(url, "/big.bin", range="bytes=1-")
    assert status == 206
    assert headers["content-length"] == str(len(body))
    assert body == (DATA * 600)[1:]


def test_the_front_page_says_what_the_archive_is_and_runs_nothing(url):
    status, headers, body = ask(url, "/")
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert url.encode() in body
    assert b"<script" not in body


def test_a_viewer_beside_the_data_is_the_front_page(url, root):
    (root / "viewer").mkdir()
    (root / "viewer" / "index.html").write_text("<p>viewer")
    try:
        status, headers, _ = ask(url, "/")
        assert (status, headers["location"]) == (307, "viewer/index.html")
        assert ask(url, "/viewer/")[2] == b"<p>viewer"
    finally:
        (root / "viewer" / "index.html").unlink()
        (root / "viewer").rmdir()


def test_a_folder_that_is_no_archive_is_refused(tmp_path):
    with pytest.raises(NotAnArchive):
        serve.app(tmp_path)


def test_a_port_in_use_is_one_clear_line():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BadInput, match=r"serve: cannot listen on 127.0.0.1 port \d+: .*in use"),
    ):
        serve.listen("127.0.0.1", taken.getsockname()[1])


def test_the_reader_opens_what_the_server_serves(url, root):
    import embarchive

    served, local = embarchive.open_archive(url), embarchive.open_archive(root)
    assert served.info() == local.info()
    assert served.select(geohash="u").equals(local.select(geohash="u"))
    assert json.loads(ask(url, "/embarchive.json")[2])["format"] == "embarchive"


@given(st.integers(0, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
def test_ranges_agree_with_slices(size, first, last):
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    data = bytes(size)
    if first is None:
        expected = data[max(0, size - last) :] if last is not None else None
    else:
        expected = data[first : None if last is None else last + 1]
    ignored = expected is None or (None not in (first, last) and last < first)
    if ignored:
        assert serve.parse_range(header, size) is None
    elif not expected:
        with pytest.raises(serve.RangeError):
            serve.parse_range(header, size)
    else:
        start, end = serve.parse_range(header, size)
        assert end - start == len(expected)
        assert end <= size
