import hashlib
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import digests, manifest
from embarchive.digests import BLOCK
from embarchive.errors import BadInput, Damaged, Missing
from embarchive.store import LocalStore, VerifiedObject, coalesce, open_store

BIG = hashlib.shake_256(b"big").digest(1_000_000)


@pytest.fixture
def big(tmp_path):
    """A megabyte with its outboard, and its store."""
    store, outboard = open_store(tmp_path), digests.block_digests(BIG)
    sha, blocks = digests.sha256(BIG), digests.sha256(outboard)
    store.put_new(manifest.object_path("model", sha), BIG)
    store.put_new(manifest.object_path("blocks", blocks), outboard)
    return store, manifest.object_path("model", sha), sha, blocks


def opened(big):
    store, path, sha, blocks = big
    return VerifiedObject(store, path, sha, len(BIG), blocks)


@given(st.lists(st.tuples(st.integers(0, 999_999), st.integers(0, 400_000)), max_size=6))
def test_coalesced_ranges_cover_what_is_asked_in_whole_blocks(asked):
    ranges = [(a, min(a + n, 1_000_000)) for a, n in asked if n]
    spans = coalesce(ranges, 1_000_000)
    assert all(any(s <= a and b <= e for s, e in spans) for a, b in ranges)
    assert all(s % BLOCK == 0 and (e % BLOCK == 0 or e == 1_000_000) for s, e in spans)
    assert all(after[0] - before[1] > 128 << 10 for before, after in pairwise(spans))


def test_ranges_read_what_slices_read(big):
    verified = opened(big)
    ranges = [(5, 9), (700_000, 700_001), (10, 40_000), (0, 0), (999_999, 1_000_000)]
    assert verified.read(ranges) == [BIG[a:b] for a, b in ranges]


def test_two_far_ranges_cost_two_requests_and_one_outboard_once(big):
    verified, store = opened(big), big[0]
    verified.read([(0, 1), (900_000, 900_001)])
    assert store.requests == 3
    assert store.bytes_read == 2 * BLOCK + 16 * digests.block_count(len(BIG))
    verified.read([(500_000, 500_001)])
    assert store.requests == 4


def test_more_than_half_is_read_whole_in_one_request(big):
    verified, store = opened(big), big[0]
    assert verified.read([(0, 600_000)]) == [BIG[:600_000]]
    assert (store.requests, store.bytes_read) == (1, len(BIG))


@pytest.mark.parametrize("at", [3, 17_000, 999_999])
def test_a_flipped_bit_is_found_in_ranges_and_whole(big, tmp_path, at):
    wrong = bytearray(BIG)
    wrong[at] ^= 16
    (tmp_path / big[1]).write_bytes(wrong)
    with pytest.raises(Damaged, match="digest"):
        opened(big).read([(at, at + 1)])
    with pytest.raises(Damaged, match="sha256"):
        opened(big).whole()


def test_a_flipped_bit_in_the_outboard_is_found(big, tmp_path):
    path = tmp_path / manifest.object_path("blocks", big[3])
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(Damaged, match="blocks/"):
        opened(big).read([(0, 1)])


def test_a_truncated_object_is_found(big, tmp_path):
    (tmp_path / big[1]).write_bytes(BIG[:-1])
    for read in (opened(big).whole, lambda: opened(big).read([(999_000, 1_000_000)])):
        with pytest.raises(Damaged, match="expected"):
            read()


def test_an_object_without_outboard_is_read_whole(big):
    store, path, sha, _ = big
    assert VerifiedObject(store, path, sha, len(BIG)).read([(7, 8)]) == [BIG[7:8]]
    with pytest.raises(BadInput, match="outboard"):
        VerifiedObject(store, path, sha, len(BIG)).outboard()


def test_a_range_outside_the_object_is_refused_before_reading(big):
    with pytest.raises(BadInput, match="range in 0-1000000"):
        opened(big).read([(0, 1_000_001)])
    assert big[0].requests == 0


def test_a_missing_object_is_named(tmp_path):
    with pytest.raises(Missing, match="models/x"):
        VerifiedObject(open_store(tmp_path), "models/x", "a" * 64, 5).whole()


def test_paths_and_file_urls_are_local(tmp_path):
    assert isinstance(open_store(tmp_path), LocalStore)
    assert open_store(f"file://{tmp_path}").root == open_store(str(tmp_path)).root == str(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "https://user:CANARY@host/x",
        "https://host/x?sig=CANARY",
        "s3://",
        "http:///x",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url):
    with pytest.raises(BadInput) as caught:
        open_store(url, env={})
    assert "CANARY" not in str(caught.value)


def test_a_deadline_of_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="deadline"):
        open_store(tmp_path, deadline=0)


def test_a_store_with_credentials_is_never_pickled():
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "CANARY"}
    store = open_store("s3://bucket/x", env=env)
    assert "CANARY" not in repr(store)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(store)
