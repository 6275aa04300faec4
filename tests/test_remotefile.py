"""Files on the network, read by ranges."""

import io
import os

import numpy as np
import pytest
from faults import serving

from embarchive import remotefile
from embarchive.errors import BadInput, Damaged, StoreUnreachable
from embarchive.product import Url, remote_url
from embarchive.remotefile import BLOCK, begin, open_remote

DATA = np.random.default_rng(0).bytes(10 * BLOCK + 77)
NAME = "a scene+1.tif"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remotefile, "DEADLINE", 1.0)
    monkeypatch.setattr(remotefile, "_servers", {})
    with serving() as one:
        one.objects[f"/bucket/x/{NAME}"] = DATA
        for name, value in one.environment().items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture(params=["http", "s3"])
def url(request, server):
    if request.param == "s3":
        return remote_url(f"s3://bucket/x/{NAME}")
    return remote_url(f"{server.url}/bucket/x/{NAME.replace(' ', '%20')}")


def test_it_reads_as_the_file_does(url):
    ours, theirs = open_remote(url).handle(), io.BytesIO(DATA)
    rng = np.random.default_rng(1)
    for _ in range(60):
        at, size = rng.integers(0, len(DATA) + 100), int(rng.integers(0, 3 * BLOCK))
        assert ours.seek(at) == theirs.seek(at)
        assert ours.read(size) == theirs.read(size)
    assert ours.seek(-9, os.SEEK_END) == theirs.seek(-9, os.SEEK_END)
    assert ours.read() == theirs.read() and ours.read(5) == b""


def test_what_is_at_hand_is_not_asked_for_again(url, server):
    file = open_remote(url)
    assert file.length == len(DATA)
    one, two = file.handle(), file.handle()
    assert one.read(16) == DATA[:16]
    asked = len(server.seen)
    assert two.read(BLOCK) == DATA[:BLOCK]
    assert len(server.seen) == asked
    one.seek(5 * BLOCK - 1)
    assert one.read(2) == DATA[5 * BLOCK - 1 : 5 * BLOCK + 1]
    assert len(server.seen) == asked + 1


def test_old_blocks_are_given_up(url, monkeypatch):
    monkeypatch.setattr(remotefile, "KEPT", 3 * BLOCK)
    file = open_remote(url)
    assert file.range(0, len(DATA)) == DATA
    assert len(file._blocks) == 3
    assert file.range(100, 9 * BLOCK) == DATA[100 : 9 * BLOCK]


def test_a_file_smaller_than_the_first_look_is_read(server):
    for size in (1, BLOCK, BLOCK + 1):
        server.objects["/small"] = DATA[:size]
        assert open_remote(Url(f"{server.url}/small")).handle().read(99_999) == DATA[:size]


def test_a_file_that_is_not_there_is_bad_input(server):
    for url in (f"{server.url}/bucket/none.tif", "s3://bucket/none.tif"):
        with pytest.raises(BadInput, match="expected a raster file, found no such file"):
            open_remote(Url(url))


@pytest.mark.parametrize("kind", ["redirect", "full"])
def test_a_redirect_or_a_server_without_ranges_is_refused(server, kind):
    server.elsewhere = f"{server.url}/bucket/x/elsewhere"
    server.objects["/bucket/x/other"] = DATA
    server.break_("GET", "/x/", kind, times=9)
    found = "a redirect" if kind == "redirect" else "without range requests"
    with pytest.raises(StoreUnreachable, match=found):
        open_remote(Url(f"{server.url}/bucket/x/other"))
    assert len(server.seen) == 1


@pytest.mark.parametrize("kind", ["status", "reset", "truncated", "short", "mislabelled", "drip"])
def test_a_fault_ends_within_the_deadline_and_stays_as_trouble(url, server, kind):
    file = open_remote(url)
    server.break_("GET", "/x/", kind, times=99)
    handle = file.handle()
    assert handle.read(10) == b""
    assert isinstance(file.trouble, StoreUnreachable | Damaged)
    told = str(file.trouble)
    assert "CANARY" not in told and "\n" not in told
    server.faults.clear()
    assert file.handle().read(10) == b"", "half a file is none"


@pytest.mark.parametrize("kind", ["status", "reset", "truncated"])
def test_a_fault_that_passes_is_tried_again(url, server, kind):
    file = open_remote(url)
    server.break_("GET", "/x/", kind, times=1)
    assert file.handle().read(10) == DATA[:10] and file.trouble is None


def test_a_file_that_changes_while_it_is_read_is_refused(url, server):
    file = open_remote(url)
    server.objects[f"/bucket/x/{NAME}"] = DATA[::-1]
    with pytest.raises(Damaged, match="the same file all along, found another version"):
        file.range(0, 5)


def test_what_will_be_read_is_brought_in_few_requests(url, server, monkeypatch):
    monkeypatch.setattr(remotefile, "LONGEST", 3)
    file = open_remote(url)
    asked = len(server.seen)
    file.bring([(0, 10), (4 * BLOCK, 8 * BLOCK), (9 * BLOCK, len(DATA))])
    brought = len(server.seen)
    assert brought - asked == 4
    for start, end in ((0, 10), (5 * BLOCK, 8 * BLOCK), (9 * BLOCK, len(DATA))):
        assert file.range(start, end) == DATA[start:end]
    assert len(server.seen) == brought
    file.bring([(0, 10)])
    assert len(server.seen) == brought


def test_what_a_file_says_of_its_blocks_costs_no_more_than_is_kept(url, monkeypatch):
    file = open_remote(url)
    file.bring([(0, 1 << 62), (-1 << 62, -1), (1 << 61, 1 << 62), (-9, 6)] * 9)
    assert file.range(0, len(DATA)) == DATA
    monkeypatch.setattr(remotefile, "KEPT", 4 * BLOCK)
    other = open_remote(url)
    other.bring([(0, 1 << 62)])
    assert len(other._blocks) == 4
    monkeypatch.setattr(remotefile, "MOST", 100)
    with pytest.raises(Damaged, match="reads of at most 100 bytes, found 101"):
        file.range(0, 101)


def test_a_fault_while_bringing_is_trouble(url, server):
    file = open_remote(url)
    server.break_("GET", "/x/", "status", times=99)
    file.bring([(0, 10), (5 * BLOCK, 6 * BLOCK)])
    assert isinstance(file.trouble, StoreUnreachable)
    assert file.handle().read(5) == b""


def test_files_begun_together_are_opened_without_another_request(url, server):
    begin([url, Url(f"{server.url}/bucket/none")])
    asked = len(server.seen)
    assert open_remote(url).handle().read(10) == DATA[:10]
    assert len(server.seen) == asked
    assert open_remote(url).length == len(DATA)
    assert len(server.seen) == asked + 1
    with pytest.raises(BadInput, match="no such file"):
        open_remote(Url(f"{server.url}/bucket/none"))
