import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import faults
import pytest

from embarchive.errors import BadInput, Damaged, StoreUnreachable
from embarchive.store import open_store

MODEL, BIG = "models/" + "a" * 64 + ".safetensors", bytes(range(256)) * 2000


@pytest.fixture
def server():
    with faults.serving() as one:
        one.put(MODEL, BIG)
        one.put("embarchive.json", b"one")
        yield one


@pytest.fixture
def http(server):
    return open_store(f"{server.url}/bucket/archive", env={}, deadline=2)


def test_a_server_without_ranges_is_named(server, http):
    server.break_("GET", "models/", "full", times=99)
    with pytest.raises(StoreUnreachable, match="without range requests"):
        http.get_ranges(MODEL, [(5, 9)])


def test_a_slow_drip_ends_with_the_deadline(server):
    store = open_store(f"{server.url}/bucket/archive", env={}, deadline=0.6)
    server.break_("GET", "models/", "drip", times=9)
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match=r"within 0\.6 s"):
        store.get(MODEL)
    assert time.monotonic() - began < 0.8


def test_nobody_listening_is_an_error_within_the_deadline():
    store = open_store("http://127.0.0.1:9/x", env={}, deadline=0.5)
    with pytest.raises(StoreUnreachable, match=r"http://127\.0\.0\.1:9/x/embarchive\.json"):
        store.read_pointer()


def test_a_redirect_is_not_followed(server, http):
    server.elsewhere = f"{server.url}{faults.ROOT}{MODEL}"
    server.objects[faults.ROOT + "from"] = b""
    for path, part in ((MODEL, "models/"), ("embarchive.json", "embarchive.json")):
        server.break_("GET", part, "redirect", times=1)
        with pytest.raises(StoreUnreachable, match=r"a redirect \(HTTP 302\)"):
            http.get(path)
    assert len(server.seen) == 2


def test_http_is_read_only(http):
    writes = [lambda: http.put_new("a", b""), lambda: http.swap_pointer(b"", None)]
    writes += [http.check_writable, lambda: http.delete("a"), lambda: http.list("")]
    for write in writes:
        with pytest.raises(BadInput, match="read only"):
            write()


@pytest.mark.parametrize("kind", ["drip_head", "drip"])
def test_dripping_headers_end_with_the_deadline_too(server, kind):
    store = open_store(f"{server.url}/bucket/archive", env={}, deadline=0.6)
    server.break_("GET", "models/", kind, times=9)
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="a time-out"):
        store.get_ranges(MODEL, [(0, 100)])
    assert time.monotonic() - began < 0.8


def test_a_range_that_is_labelled_otherwise_is_refused(server, http):
    server.break_("GET", "models/", "mislabelled", times=9)
    with pytest.raises(Damaged, match="expected bytes 10-19, found 'bytes 11-20/"):
        http.get_ranges(MODEL, [(10, 20)])


def test_a_body_without_length_is_read_up_to_what_is_expected(server, http):
    server.break_("GET", "models/", "chunked", times=9)
    assert http.get(MODEL) == http.get(MODEL, length=len(BIG)) == BIG
    assert http.get(MODEL, limit=len(BIG)) == BIG
    with pytest.raises(Damaged, match=f"body of {len(BIG) - 1} bytes, found"):
        http.get(MODEL, length=len(BIG) - 1)


def test_one_connection_serves_many_requests_and_an_idle_one_may_be_gone(server, http):
    for turn in range(5):
        assert http.get_ranges(MODEL, [(turn, turn + 9)]) == [BIG[turn : turn + 9]]
    assert server.connections == 1
    server.break_("GET", "models/", "reset", times=1)
    assert http.get(MODEL) == BIG
    assert http.requests == 6  # the second connection is no second attempt


def test_a_server_that_closes_after_each_answer_is_read(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / MODEL).write_bytes(BIG * 4)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = open_store(f"http://127.0.0.1:{server.server_port}", env={}, deadline=5)
        assert store.get(MODEL) == BIG * 4
        with pytest.raises(StoreUnreachable, match="without range requests"):
            store.get_ranges(MODEL, [(5, 9)])
        server.shutdown()


def test_many_threads_share_a_store(http):
    wrong = []

    def read(seed):
        for turn in range(40):
            start = (seed * 7919 + turn * 104_729) % 400_000
            if http.get_ranges(MODEL, [(start, start + 999)]) != [BIG[start : start + 999]]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and http.requests == 240


def test_a_child_process_does_not_share_its_parents_connection(server, http):
    http.get(MODEL)
    http._line._owner = os.getpid() + 1  # as a child sees it
    assert http.get(MODEL) == BIG and server.connections == 2


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    store = open_store("http://archive.invalid/bucket/archive", env={}, deadline=1)
    assert store.read_pointer()[0] == b"one"
    assert server.seen[0][1] == "http://archive.invalid:80/bucket/archive/embarchive.json"


def test_a_port_that_is_none_is_refused():
    with pytest.raises(BadInput, match="port"):
        open_store("http://host:99999/x", env={})
