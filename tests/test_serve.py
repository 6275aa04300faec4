"""The range server, asked over a real socket by a client that adds nothing of its own."""

import gzip
import http.client
import json
import os
import socket
from urllib.parse import urlsplit

import pytest
from archives import make_archive
from browser import until
from hypothesis import given
from hypothesis import strategies as st

from embarchive import answers, serve
from embarchive.errors import BadInput, NotAnArchive

NAME = "models/" + "a" * 64 + ".safetensors"
DATA = bytes(range(256)) * 40
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; worker-src 'self'; "
    "img-src 'self' data:"
)
ENTRY = f"""<!doctype html><meta charset="utf-8"><title>page</title>
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,"><script type="module" src="app.js"></script>
""".encode()
APP = b"""
const drawing = document.createElement("canvas").getContext("webgl2");
const worker = new Worker("worker.js", { type: "module" });
worker.onmessage = ({ data }) => {
  document.title = `${drawing.getParameter(drawing.VERSION).slice(0, 9)}, worker: ${data}`;
};
"""
WORKER = b"""
fetch("../embarchive.json").then((answer) => answer.json()).then((one) => postMessage(one.format));
"""


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
def place(tmp_path_factory):
    """A page small enough to see through."""
    place = tmp_path_factory.mktemp("page")
    (place / "viewer").mkdir()
    texts = {"index.html": ENTRY, "app.js": APP, "worker.js": WORKER, "style.css": b"p {}"}
    for name, text in texts.items():
        (place / "viewer" / name).write_bytes(text)
    return place


@pytest.fixture(scope="module")
def url(root, place):
    with serve.running(root, page=place) as url:
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


def test_without_a_page_the_front_says_what_the_archive_is_and_runs_nothing(root, monkeypatch):
    monkeypatch.setattr(serve, "find_page", lambda: None)
    with serve.running(root) as url:
        status, headers, body = ask(url, "/")
        assert ask(url, "/viewer/index.html")[0] == 404
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert url.encode() in body
    assert b"<script" not in body


# ------------------------------------------------------------ the page


@pytest.mark.parametrize("path", ["/", "/viewer"])
def test_the_front_leads_to_the_page(url, path):
    status, headers, _ = ask(url, path)
    assert (status, headers["location"]) == (307, "viewer/index.html")


def test_the_page_comes_with_the_package_and_its_policy_is_a_header_too(url):
    status, headers, body = ask(url, "/viewer/index.html")
    assert (status, body) == (200, ENTRY)
    assert headers["content-security-policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-cache"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert ask(url, "/viewer/")[2] == ENTRY


def test_workers_get_the_policy_from_their_own_headers(url):
    assert ask(url, "/viewer/app.js")[1]["content-security-policy"].startswith(POLICY)
    assert ask(url, f"/{NAME}")[1]["content-security-policy"] is None


def test_text_of_the_page_is_gzipped_for_who_accepts_it(url):
    plain = ask(url, "/viewer/app.js", accept_encoding="gzip;q=0, br")
    packed = ask(url, "/viewer/app.js", accept_encoding="br, gzip")
    assert plain[2] == APP
    assert gzip.decompress(packed[2]) == APP
    assert packed[1]["content-encoding"] == "gzip"
    assert packed[1]["content-length"] == str(len(packed[2]))
    assert [a[1]["vary"] for a in (plain, packed)] == ["Accept-Encoding"] * 2
    assert plain[1]["etag"] != packed[1]["etag"]


def test_each_representation_of_the_page_has_its_own_304(url):
    for coding, other in (("gzip", "identity"), ("identity", "gzip")):
        tag = ask(url, "/viewer/app.js", accept_encoding=coding)[1]["etag"]
        again = ask(url, "/viewer/app.js", accept_encoding=coding, if_none_match=f'"x", {tag}')
        assert (again[0], again[1]["etag"], again[2]) == (304, tag, b"")
        assert ask(url, "/viewer/app.js", accept_encoding=other, if_none_match=tag)[0] == 200


def test_a_range_of_the_page_is_of_the_plain_text(url):
    status, headers, body = ask(url, "/viewer/app.js", accept_encoding="gzip", range="bytes=2-5")
    assert (status, body, headers["content-encoding"]) == (206, APP[2:6], None)


def test_head_tells_the_length_of_what_get_would_send(url):
    whole = ask(url, "/viewer/app.js", accept_encoding="gzip")
    head = ask(url, "/viewer/app.js", "HEAD", accept_encoding="gzip")
    assert head[1]["content-length"] == str(len(whole[2]))
    assert head[2] == b""


def test_a_changed_page_is_served_at_once(url, place):
    before = ask(url, "/viewer/style.css", accept_encoding="gzip")
    (place / "viewer" / "style.css").write_bytes(b"p { color: red }")
    after = ask(url, "/viewer/style.css", accept_encoding="gzip")
    assert gzip.decompress(after[2]) == b"p { color: red }"
    assert before[1]["etag"] != after[1]["etag"]


def test_an_archives_own_page_comes_first(url, root):
    (root / "viewer").mkdir()
    (root / "viewer" / "index.html").write_text("<p>viewer")
    try:
        assert ask(url, "/viewer/")[2] == b"<p>viewer"
        assert ask(url, "/viewer/app.js")[0] == 404
        policy = ask(url, "/viewer/")[1]["content-security-policy"]
        assert policy.startswith("default-src 'self'")
    finally:
        (root / "viewer" / "index.html").unlink()
        (root / "viewer").rmdir()


def test_a_page_behind_a_link_is_not_the_archives(url, root, tmp_path):
    (tmp_path / "index.html").write_text("elsewhere")
    (root / "viewer").symlink_to(tmp_path)
    try:
        assert ask(url, "/viewer/index.html")[2] == ENTRY
    finally:
        (root / "viewer").unlink()


@pytest.mark.parametrize("path", ["/viewer/../secret", "/viewer/%2e%2e/secret", "/viewer/.hidden"])
def test_nothing_outside_the_page_is_served(url, path):
    assert ask(url, path)[0] == 404


def test_a_browser_runs_the_page_under_its_policy_with_webgl(url, page):
    page.goto(url)
    until(page, "document.title != 'page'")
    assert page.title() == "WebGL 2.0, worker: embarchive"
    assert page.url == f"{url}/viewer/index.html"
    assert page.seen.faults == []
    assert {name.removeprefix(url) for name in page.seen.requests} >= {
        "/", "/viewer/app.js", "/viewer/worker.js", "/embarchive.json"
    }  # fmt: skip


def test_a_browser_refuses_what_the_policy_does(url, page):
    page.goto(f"{url}/viewer/index.html")
    until(page, "document.title != 'page'")
    page.evaluate("fetch('http://localhost:1/x').catch(() => 0)")
    page.evaluate("setTimeout(() => { throw new Error('nobody caught this') })")
    page.wait_for_timeout(100)
    assert any("connect-src" in said for said in page.seen.violations)
    assert any("nobody caught this" in said for said in page.seen.errors)
    assert not any("localhost" in name for name in page.seen.requests)


# ------------------------------------------------------------ the rest


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
        assert answers.parse_range(header, size) is None
    elif not expected:
        with pytest.raises(answers.RangeError):
            answers.parse_range(header, size)
    else:
        start, end = answers.parse_range(header, size)
        assert end - start == len(expected)
        assert end <= size
