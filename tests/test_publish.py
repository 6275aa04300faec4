import gzip
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import faults
import pytest
from archives import make_archive
from test_serve import ask

import embarchive
from embarchive import serve
from embarchive.answers import OPEN_TO_ALL
from embarchive.cli import main
from embarchive.errors import BadInput, Damaged, NotAnArchive, StoreUnreachable
from embarchive.page import policy_of
from embarchive.publish import plan, publish
from embarchive.store import LocalStore
from embarchive.verify import verify

PAGE = {
    "viewer/app.js": b"1;" * 500,
    "viewer/decode.wasm": b"\0asm",
    "viewer/index.html": b"<p>page" * 50,
    "viewer/vendor/old.js": b"2;",
}
NEWER = {"viewer/app.js": b"3;", "viewer/index.html": b"<p>newer"}


@pytest.fixture
def root(tmp_path):
    make_archive(tmp_path / "archive", 30)
    return tmp_path / "archive"


def page_below(root):
    files = [path for path in (root / "viewer").rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_the_entry_is_written_after_all_it_names():
    changes = plan(PAGE, ["viewer/gone.js", "viewer/app.js"])
    assert changes.write[-1] == "viewer/index.html"
    assert set(changes.write) == set(PAGE)
    assert changes.remove == ("viewer/gone.js",)


def test_the_page_lies_beside_the_data_and_the_root_leads_to_it(root):
    done = publish(root, PAGE)
    held = page_below(root)
    assert json.loads(held.pop("viewer/files.json")) == {"files": sorted(PAGE)}
    assert held == PAGE
    front = (root / "index.html").read_text()
    assert re.search(r'http-equiv="refresh" content="0; url=viewer/index.html"', front)
    assert "default-src 'none'" in front and "<script" not in front
    assert done["page"] == f"{root}/viewer/index.html"
    assert done["files"] == [*sorted(set(PAGE) - {"viewer/index.html"}), "viewer/index.html",
                             "index.html"]  # fmt: skip
    assert done["bytes"] == sum(map(len, PAGE.values())) + len(front)
    assert verify(LocalStore(root))["ok"]


def test_publishing_again_changes_nothing(root):
    first, before = publish(root, PAGE), page_below(root)
    stamps = {path: (root / path).stat().st_ino for path in before}
    assert publish(root, PAGE) == first
    assert page_below(root) == before
    assert {path: (root / path).stat().st_ino for path in before} == stamps


def test_a_newer_page_takes_away_what_the_older_one_wrote_and_nothing_else(root):
    publish(root, PAGE)
    (root / "viewer" / "mine.txt").write_text("mine")
    done = publish(root, NEWER)
    assert done["removed"] == ["viewer/decode.wasm", "viewer/vendor/old.js"]
    assert set(page_below(root)) == {*NEWER, "viewer/files.json", "viewer/mine.txt"}
    assert not (root / "viewer" / "vendor").exists()


@pytest.mark.parametrize("verb", ["put_file", "delete"])
def test_a_publish_that_was_stopped_anywhere_is_made_good_by_the_next(root, monkeypatch, verb):
    real, wanted = getattr(LocalStore, verb), {**NEWER, "viewer/files.json": None}
    for turn in range(5):
        publish(root, PAGE)
        calls = iter(range(99))

        def stops(self, *given, last=turn, calls=calls):
            if next(calls) >= last:
                raise StoreUnreachable("pulled out")
            real(self, *given)

        with monkeypatch.context() as patch, pytest.raises(StoreUnreachable):
            patch.setattr(LocalStore, verb, stops)
            publish(root, {**NEWER, f"viewer/only-{turn}.js": b""})
            raise StoreUnreachable("it had no more to do")
        publish(root, NEWER)
        assert set(page_below(root)) == set(wanted)


def test_an_index_of_somebody_else_is_kept(root):
    (root / "index.html").write_text("<h1>my own site")
    assert publish(root, PAGE)["kept"] == ["index.html"]
    assert (root / "index.html").read_text() == "<h1>my own site"
    assert (root / "viewer" / "index.html").read_bytes() == PAGE["viewer/index.html"]


@pytest.mark.parametrize(
    "name", ["embarchive.json", "viewer/../embarchive.json", "viewer/", "/viewer/a", 5,
             "viewer/files.json"],
)  # fmt: skip
def test_a_list_that_names_anything_but_the_page_is_refused(root, name):
    (root / "viewer").mkdir()
    (root / "viewer" / "files.json").write_text(json.dumps({"files": ["viewer/a.js", name]}))
    with pytest.raises(Damaged, match=r"viewer/files.json: expected the files of the page"):
        publish(root, PAGE)
    assert (root / "embarchive.json").exists()


def test_a_viewer_that_is_a_link_is_not_followed(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "viewer").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((BadInput, Damaged)):
        publish(root, PAGE)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_is_no_archive_is_left_alone(tmp_path):
    with pytest.raises(NotAnArchive):
        publish(tmp_path, PAGE)
    with pytest.raises(NotAnArchive):
        publish(tmp_path / "none", PAGE)
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    for target, said in ((str(tmp_path), "embarchive.json"), ("http://127.0.0.1:1/a", "read only")):
        assert main(["publish", target]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_the_command_says_what_it_wrote(root, capsys, monkeypatch):
    monkeypatch.setattr("embarchive.publish.read_page", lambda: PAGE)
    assert main(["publish", str(root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("wrote 5 files, ") and said[-1].endswith("/viewer/index.html")
    assert main(["publish", str(root), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "page", "files", "bytes", "removed", "kept"
    }  # fmt: skip


# ------------------------------------------------------------ in a bucket


@pytest.fixture
def bucket(root, monkeypatch):
    with faults.serving() as server:
        for path in root.rglob("*"):
            if path.is_file():
                server.put(path.relative_to(root).as_posix(), path.read_bytes())
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def sent(bucket, path):
    return bucket.sent[faults.ROOT + path]


def test_a_bucket_is_told_what_its_answers_shall_say(bucket):
    publish("s3://bucket/archive", PAGE)
    script = sent(bucket, "viewer/app.js")
    assert gzip.decompress(bucket.objects[faults.ROOT + "viewer/app.js"]) == PAGE["viewer/app.js"]
    assert script["content-encoding"] == "gzip"
    assert script["content-type"] == "text/javascript; charset=utf-8"
    assert {sent(bucket, path)["cache-control"] for path in PAGE} == {"no-cache"}
    assert sent(bucket, "viewer/decode.wasm")["content-type"] == "application/wasm"
    assert "content-encoding" not in sent(bucket, "viewer/decode.wasm")
    assert "content-encoding" not in sent(bucket, "index.html")


def test_a_page_in_a_bucket_is_brought_up_to_date(bucket):
    for page in (PAGE, NEWER, NEWER):
        done = publish("s3://bucket/archive", page)
        held = {path for path in bucket.objects if "/viewer/" in path}
        assert held == {faults.ROOT + path for path in {*page, "viewer/files.json"}}
    assert done["page"] == "s3://bucket/archive/viewer/index.html"
    assert done["removed"] == done["kept"] == []


def test_what_a_build_writes_may_be_cached_but_the_pointer(bucket):
    bucket.objects.clear()
    make_archive("s3://bucket/archive", 30)
    headers = {path.removeprefix(faults.ROOT): said for path, said in bucket.sent.items()}
    assert headers["embarchive.json"]["cache-control"] == "no-cache"
    assert headers["embarchive.json"]["content-type"] == "application/json"
    named = [
        path for path in headers if path.split("/")[0] in ("embeddings", "manifests", "blocks")
    ]
    assert len(named) > 3
    for path in named:
        assert headers[path]["cache-control"] == "public, max-age=31536000, immutable"
        assert "content-encoding" not in headers[path]


def test_what_was_published_is_what_is_served(root):
    publish(root, PAGE)
    with serve.running(root) as url:
        status, _, body = ask(url, "/viewer/app.js", accept_encoding="identity")
        assert (status, body) == (200, PAGE["viewer/app.js"])


# ------------------------------------------------------------ docs/publishing.md

DOCS = Path(__file__).parent.parent / "docs" / "publishing.md"


def block(language):
    return re.search(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_policy_in_the_docs_is_the_pages():
    entry = (Path(__file__).parent.parent / "web" / "viewer" / "index.html").read_bytes()
    assert f'"{policy_of(entry)}"' in block("nginx")


def test_the_rules_for_other_origins_are_those_of_serve():
    rule = json.loads(block("json"))["CORSRules"][0]
    assert ", ".join(rule["AllowedHeaders"]) == OPEN_TO_ALL["access-control-allow-headers"]
    assert ", ".join(rule["ExposeHeaders"]) == OPEN_TO_ALL["access-control-expose-headers"]


@pytest.fixture
def nginx(root, tmp_path):
    """The docs' block, serving an archive with a page, its paths and port made this test's."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    publish(root, PAGE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = block("nginx").replace("/srv/archive", str(root)).replace("8080", f"127.0.0.1:{port}")
    owner = "user root;" if os.getuid() == 0 else ""
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"{owner} daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {site} }}"
    )
    server = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(config)])
    try:
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_the_nginx_of_the_docs_says_what_serve_says(root, nginx):
    shard = next((root / "embeddings").rglob("*.parquet")).relative_to(root).as_posix()
    paths = [shard, "embarchive.json", "viewer/", "viewer/app.js", "viewer/decode.wasm", ".x/y"]
    asked = [{}, {"range": "bytes=2-5"}, {"accept_encoding": "gzip"}]
    same = ("content-type", "cache-control", "content-range", "content-encoding",
            "x-content-type-options", *OPEN_TO_ALL.keys() - {"access-control-max-age"})  # fmt: skip
    with serve.running(root) as ours:
        for path, headers in itertools.product(paths, asked):
            one, other = (ask(url, f"/{path}", **headers) for url in (nginx, ours))
            if other[0] == 404:
                assert one[0] in (403, 404)
                continue
            assert one[0] == other[0], (path, headers)
            if "content-encoding" not in other[1]:
                assert one[2] == other[2]
            for name in same:
                assert one[1][name] == other[1][name], (path, headers, name)
        assert ask(nginx, f"/{shard}", "OPTIONS")[0] == 204
    assert len(embarchive.open_archive(nginx).select()) == 30
