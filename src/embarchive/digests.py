"""The one place where bytes are hashed: whole objects, their 16 KiB blocks, chips.

An object's *outboard* is the first 16 bytes of the SHA-256 of each 16 KiB block, one after
another: 1/1024 of the object's length, enough to check any range rounded to blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from embarchive.errors import Damaged

BLOCK = 16_384
DIGEST = 16
CHIP_DIGEST = 8

Bytes = bytes | bytearray | memoryview


def sha256(data: Bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def block_digests(data: Bytes) -> bytes:
    """The outboard of an object: 16 bytes per 16 KiB block, the last block may be short."""
    view = memoryview(data)
    return b"".join(short(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK))


def short(data: Bytes) -> bytes:
    """The first 16 bytes of the SHA-256 of a piece of an object."""
    return hashlib.sha256(data).digest()[:DIGEST]


def check_short(name: str, data: Bytes, digest: bytes) -> None:
    """Raises Damaged unless a piece of an object has this digest, see `short`."""
    if short(data) != digest:
        raise Damaged(f"{name}: expected digest {digest.hex()}, found {short(data).hex()}")


def block_count(length: int) -> int:
    """Blocks of an object of so many bytes."""
    return -(-length // BLOCK)


def check_object(name: str, data: Bytes, sha256_: str, length: int) -> None:
    """Raises Damaged unless the whole object has this length and SHA-256."""
    if len(data) != length:
        raise Damaged(f"{name}: expected {length} bytes, found {len(data)}")
    check_hash(name, data, sha256_)


def check_hash(name: str, data: Bytes, sha256_: str) -> None:
    """Raises Damaged unless the whole object has this SHA-256."""
    found = sha256(data)
    if found != sha256_:
        raise Damaged(f"{name}: expected sha256 {sha256_}, found {found}")


def check_block_range(
    name: str, data: Bytes, start: int, outboard: bytes, object_length: int
) -> None:
    """Raises Damaged unless bytes [start, start + len(data)) are what the outboard says.

    start: a multiple of 16 KiB; data: whole blocks, or up to the end of the object.
    """
    if len(outboard) != DIGEST * block_count(object_length):
        expected = DIGEST * block_count(object_length)
        raise Damaged(f"{name}: expected an outboard of {expected} bytes, found {len(outboard)}")
    end = start + len(data)
    if start % BLOCK or end > object_length or (end % BLOCK and end != object_length):
        raise Damaged(f"{name}: expected whole 16 KiB blocks, found bytes {start} to {end}")
    first = start // BLOCK
    expected_digests = outboard[DIGEST * first : DIGEST * (first + block_count(len(data)))]
    found = block_digests(data)
    if found != expected_digests:
        bad = next(
            i
            for i in range(0, len(found), DIGEST)
            if found[i : i + DIGEST] != expected_digests[i : i + DIGEST]
        )
        raise Damaged(
            f"{name}: block {first + bad // DIGEST}: expected digest "
            f"{expected_digests[bad : bad + DIGEST].hex()}, found "
            f"{found[bad : bad + DIGEST].hex()}"
        )


def chip_digest(parts: Iterable[Bytes]) -> bytes:
    """8 bytes that name a chip's input: the parts' bytes, each with its length before it."""
    total = hashlib.sha256()
    for part in parts:
        view = memoryview(part).cast("B")
        total.update(len(view).to_bytes(8, "little"))
        total.update(view)
    return total.digest()[:CHIP_DIGEST]
