"""The page before damaged, missing and hostile archives: a clear message, and nothing runs."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from archives import make_archive, make_cells, make_settings
from browser import until
from faults import ROOT, serving
from test_viewer import CARDS, after, again, visit

import embarchive
from embarchive import digests, serve
from embarchive.page import read_page
from embarchive.publish import publish

PAYLOADS = (
    "<script>document.body.dataset.ran = 1</script>",
    "<img src=x onerror='document.body.dataset.ran = 1'>",
    "<svg onload='document.body.dataset.ran = 1'>",
    '"><iframe srcdoc="<script>parent.document.body.dataset.ran = 1</script>">',
    "javascript:document.body.dataset.ran = 1",
    "<a href='javascript:document.body.dataset.ran = 1'>look</a>",
    "</title><script>document.body.dataset.ran = 1</script>",
    "${document.body.dataset.ran = 1}{{constructor.constructor('document.body.dataset.ran=1')()}}",
    "<style>@import 'http://127.0.0.1:1/x.css'</style><link rel=stylesheet href=http://127.0.0.1:1>",
    "<base href='http://127.0.0.1:1/'><input autofocus onfocus='document.body.dataset.ran = 1'>",
)

NARROW = f"like={make_cells(32_000)[0]}&bbox=13,52,13.05,52.05&k=12"


def load(server, root):
    """An archive of a folder and the page, on a server with faults; the archive's URL."""
    for path in Path(root).rglob("*"):
        if path.is_file():
            server.put(path.relative_to(root).as_posix(), path.read_bytes())
    for path, data in read_page().items():
        server.put(path, data)
    return f"{server.url}{ROOT.rstrip('/')}"


def said(page):
    return page.locator("#message").inner_text()


@pytest.fixture
def hurt(page):
    """The packaged archive on a server with faults: server, URL, and a geohash in it."""
    root = serve.demo_root()
    archive = embarchive.open_archive(root)
    with serving() as server:
        url = load(server, root)
        yield server, url, archive.select(columns=["geohash"])["geohash"][9].as_py()


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """50,000 tiles in shards of many sizes."""
    root = tmp_path_factory.mktemp("wide")
    make_archive(root, 50_000)
    publish(root)
    return root


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """32,000 tiles in one shard; for a small box it is read by ranges."""
    root = tmp_path_factory.mktemp("long")
    make_archive(root, 32_000, shard_prefix=1)
    return root


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("flip", "damaged", "expected"),
        ("short", "damaged", "expected"),
        ("long", "damaged", "expected"),
        ("status", "unreachable", "503"),
        ("reset", "unreachable", "embeddings/"),
        ("redirect", "unreachable", "embeddings/"),
    ],
)
def test_a_faulty_shard_is_named_and_nothing_is_shown(page, hurt, kind, state, words):
    server, url, query = hurt
    server.break_("GET", "embeddings/", kind, times=10_000)
    assert visit(page, url, f"like={query}") == state
    assert words in said(page)
    assert page.evaluate(CARDS) == []


def test_what_was_unreachable_for_a_moment_is_asked_again(page, hurt):
    server, url, query = hurt
    server.break_("GET", "embeddings/", "status", times=2)
    assert visit(page, url, f"like={query}&k=12") == "ready"


def test_a_shard_that_is_gone_says_that_the_generation_expired(page, hurt):
    server, url, query = hurt
    for path in [path for path in server.objects if "embeddings/" in path]:
        del server.objects[path]
    assert visit(page, url, f"like={query}") == "damaged"
    assert "generation expired" in said(page)
    assert page.get_by_role("button", name="Open the archive again").is_visible()


def test_a_folder_without_an_archive_is_said_to_be_none(page, hurt):
    server, url, _ = hurt
    del server.objects[f"{ROOT}embarchive.json"]
    assert visit(page, url) == "damaged"
    assert "embarchive.json" in said(page)


@pytest.mark.parametrize("what", ["pointer", "generation"])
def test_another_version_is_refused_by_name(page, hurt, what):
    server, url, _ = hurt
    pointer = json.loads(server.objects[f"{ROOT}embarchive.json"])
    if what == "pointer":
        pointer["version"] = 2
    else:
        path = f"{ROOT}manifests/{pointer['manifest']}.json"
        later = json.dumps(json.loads(server.objects[path]) | {"version": 7}, sort_keys=True)
        data = later.replace(": ", ":").replace(", ", ",").encode()
        pointer |= {"manifest": digests.sha256(data), "length": len(data)}
        server.put(f"manifests/{pointer['manifest']}.json", data)
    server.put(
        "embarchive.json", json.dumps(pointer, sort_keys=True, separators=(",", ":")).encode()
    )
    assert visit(page, url) == "damaged"
    assert "expected version 1" in said(page)


def test_damaged_weights_leave_the_search_and_say_why_no_picture(page, hurt):
    server, url, query = hurt
    server.break_("GET", "models/", "flip", times=10_000)
    assert visit(page, url, f"like={query}&k=12") == "ready"
    assert len(page.evaluate(CARDS)) == 12
    assert page.locator("canvas.failed").count() == 12
    assert "models/" in page.locator("#undecoded").inner_text()
    server.faults.clear()
    page.get_by_role("button", name="Try again").click()
    until(page, "document.querySelectorAll('.card canvas.decoded').length === 12")
    assert page.locator("#undecoded").is_hidden()


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("full", "unreachable", "range"),
        ("mislabelled", "damaged", "expected bytes"),
        ("flip", "damaged", "block"),
        ("shifted", "damaged", "expected"),
        ("truncated", "unreachable", "embeddings/"),
    ],
)
def test_faulty_ranges_are_never_used(page, long, kind, state, words):
    with serving() as server:
        url = load(server, long)
        server.break_("GET", "embeddings/", kind, times=10_000)
        assert visit(page, url, NARROW) == state
        assert words in said(page).lower()
        assert page.evaluate(CARDS) == []


def test_python_s_own_server_ignores_ranges_and_the_page_says_so(page, long):
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    publish(long)
    with subprocess.Popen(
        [*command, "--directory", str(long)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        url = re.search(r"http://[\d.:]+", server.stdout.readline())[0]
        state = visit(page, url, NARROW)
        server.kill()
    assert state == "unreachable" and "range" in said(page).lower()


def test_a_search_in_50k_tiles_takes_under_12_requests(page, wide):
    with serve.running(wide) as url:
        assert visit(page, url) == "ready"
        before = len(page.seen.requests)
        if again(page, f"like={make_cells(50_000)[100]}&k=24") == "asking":
            after(page, page.locator("#again").click)
        asked = [one for one in page.seen.requests[before:] if "/models/" not in one]
        assert 0 < len(asked) < 12
        archive = embarchive.open_archive(wide)
        expected = archive.search(like=[str(make_cells(50_000)[100])], k=24)
        assert page.evaluate(CARDS) == expected["geohash"].to_pylist()


def test_offline_is_said_and_mended_when_the_line_is_back(page, wide):
    with serve.running(wide) as url:
        assert visit(page, url) == "ready"
        page.context.set_offline(True)
        assert again(page, f"like={make_cells(50_000)[100]}&k=12") == "offline"
        assert "You are offline" in said(page)
        page.context.set_offline(False)
        until(page, f"{CARDS}.length === 12")


def test_what_was_read_can_be_searched_offline(page):
    with serve.running(serve.demo_root()) as url:
        archive = embarchive.open_archive(serve.demo_root())
        first, second = archive.select(columns=["geohash"])["geohash"].to_pylist()[8:10]
        assert visit(page, url, f"like={first}&k=12") == "ready"
        page.context.set_offline(True)
        assert again(page, f"like={second}&k=12") == "ready"
        assert page.evaluate(CARDS) == archive.search(like=[second], k=12)["geohash"].to_pylist()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_script_in_names_and_attribution_stays_text(page, tmp_path, payload):
    settings = replace(
        make_settings(), title=payload, attribution=payload, licence=payload, units=payload[:20]
    )
    make_archive(tmp_path, 30, settings=settings, named=payload)
    with serve.running(tmp_path) as url:
        assert visit(page, url, f"like={make_cells(30)[4]}&k=12") == "ready"
        assert page.locator("#title").inner_text().split() == payload.split()
        until(page, f"{CARDS}.length === 12")
        page.wait_for_timeout(100)
        assert page.evaluate("document.body.dataset.ran") is None
        assert (
            page.locator("#panel :is(img, script, iframe, a, svg, style, link, base)").count() == 0
        )
        assert page.seen.violations == [] and page.seen.errors == []
        assert all(one.startswith(url) for one in page.seen.requests)
