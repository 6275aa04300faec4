import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive import digests
from embarchive.digests import BLOCK
from embarchive.errors import Damaged

DATA = hashlib.shake_256(b"data").digest(3 * BLOCK + 100)


def test_sha256_is_that_of_hashlib_for_every_kind_of_bytes():
    for kind in (bytes, bytearray, memoryview):
        assert digests.sha256(kind(DATA)) == hashlib.sha256(DATA).hexdigest()


@given(st.integers(0, 3 * BLOCK + 100))
def test_an_outboard_has_sixteen_bytes_a_block(length):
    outboard = digests.block_digests(DATA[:length])
    assert len(outboard) == 16 * digests.block_count(length)
    expected = [hashlib.sha256(DATA[i : i + BLOCK][: max(0, length - i)]).digest()[:16]
                for i in range(0, length, BLOCK)]  # fmt: skip
    assert outboard == b"".join(expected)


@given(st.integers(0, 3), st.integers(1, 4))
def test_any_run_of_whole_blocks_passes(first, count):
    start = first * BLOCK
    body = DATA[start : start + count * BLOCK]
    digests.check_block_range("x", body, start, digests.block_digests(DATA), len(DATA))


@given(st.integers(0, len(DATA) * 8 - 1))
def test_a_flipped_bit_is_found_in_its_block(bit):
    wrong = bytearray(DATA)
    wrong[bit // 8] ^= 1 << bit % 8
    outboard = digests.block_digests(DATA)
    with pytest.raises(Damaged, match=f"block {bit // 8 // BLOCK}: expected digest"):
        digests.check_block_range("x", wrong, 0, outboard, len(DATA))
    with pytest.raises(Damaged, match="expected sha256"):
        digests.check_object("x", wrong, digests.sha256(DATA), len(DATA))


@pytest.mark.parametrize(
    ("body", "start"),
    [(DATA[1:BLOCK], 1), (DATA[: BLOCK - 1], 0), (DATA + b"x", 0), (DATA[BLOCK:], 0)],
)
def test_a_range_that_is_not_the_blocks_asked_for_is_refused(body, start):
    with pytest.raises(Damaged):
        digests.check_block_range("x", body, start, digests.block_digests(DATA), len(DATA))


def test_an_outboard_of_another_length_is_refused():
    with pytest.raises(Damaged, match="outboard of 64 bytes, found 48"):
        digests.check_block_range("x", DATA, 0, digests.block_digests(DATA)[:48], len(DATA))


def test_a_wrong_length_is_named():
    with pytest.raises(Damaged, match="expected 5 bytes, found 4"):
        digests.check_object("x", b"1234", digests.sha256(b"1234"), 5)


def test_a_chip_digest_depends_on_where_its_parts_end():
    assert len(digests.chip_digest([b"ab", b"c"])) == 8
    assert digests.chip_digest([b"ab", b"c"]) != digests.chip_digest([b"a", b"bc"])
    assert digests.chip_digest([b"ab"]) == digests.chip_digest([bytearray(b"ab")])
