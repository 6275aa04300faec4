"""Three spaces of made lists, the cells that Python chooses by them, centroids with one thing
changed, and lists that no writer wrote."""

import base64
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from embarchive import candidates, digests, geohash, inverted
from embarchive.coarse import Coarse, dump_coarse, load_coarse
from embarchive.filters import Filter
from embarchive.manifest import TableRef
from embarchive.overview import Overview
from embarchive.reader import Cache
from embarchive.search import Query
from golden.fidelity import apply, text
from golden.manifest import outcome, table
from golden.model import random_numbers

# Space: lists, numbers of a row, step of their codes, letters of a cell. Of the last all lists lie
# in one place, the first has no rows, and the next more than a search reads.
SPACES = {"exact-1": (65, 20, 1, 12), "stepped-1": (90, 12, 3, 6), "uneven-1": (40, 5, 1, 5)}
CASES = [
    {"like": [0], "k": 3},
    {"like": [1], "k": 9, "op": "min"},
    {"like": [0, 1, 2], "unlike": [3, 4], "k": 7},
    {"like": [2, 4], "unlike": [0], "k": 20, "op": "min"},
    {"like": [3, 2, 1], "k": 1},
    {"like": [4], "k": 4000},
    {"like": [0], "k": 3, "exclude": 5},
    {"like": [1], "k": 1, "exclude": 1000},
]
EDITS = [
    {},
    {"about": {"kind": "quantiser"}},
    {"about": {"version": "1"}},
    {"about": {"step": None}},
    {"about": {"step": ""}},
    {"about": {"step": "0"}},
    {"about": {"step": "03"}},
    {"about": {"step": "127"}},
    {"about": {"step": "128"}},
    {"about": {"step": "0127"}},
    {"about": {"step": "+3"}},
    {"about": {"step": "x"}},
    {"drop": "centroids"},
    {"drop": "starts"},
    {"add": "quantiser"},
    {"type": ["starts", "<f4"]},
    {"shape": ["centroids", [90, 2, 6]]},
    {"shape": ["centroids", [45, 24]]},
    {"shape": ["starts", [3, 1]]},
    {"set": ["starts", 0, 1]},
    {"set": ["starts", 1, 0]},
    {"set": ["starts", 1, 81]},
    {"set": ["starts", 2, 90]},
]


# 256 small numbers, see `hostile`, as Zstandard packs them.
PACKED = (
    "KLUv/WAAAPUCALKOEwnwOfr/f4FkSgHIpB8BDxlLwyEU6IswjMewfPCjWqEZmMkpzxGfn+"
    "3OHRBa7TIB4yxCMRqvCxBDDyJ3mGP2LwHlRb9yrmmp+H2wslPMAwQAWxJMmouzVOqABdA="
)


@dataclass(frozen=True)
class Made:
    """Lists of a space: their quantiser as bytes, and their segments in the order of the index."""

    coarse: bytes
    segments: tuple[inverted.Segment, ...]


def made(space):
    """The lists of a space: some without rows, some of two segments, many rows of one value. Rows
    reach the edges of int8; codes of second segments are such as no row has."""
    lists, dim, step, precision = SPACES[space]
    uneven = space == "uneven-1"
    centroids = drawn(precision, lists, dim, 0 if uneven else 127)
    centroids[1:20:2] = centroids[:20:2]
    coarse = Coarse(centroids, np.array([0, lists // 2, lists - 9], np.int32), step)
    kinds, any_codes = drawn(precision + 1, 9, dim, 150), drawn(precision + 3, 9, dim, 150)
    places = random_numbers(precision + 2, 900) * 128 + 128
    segments = []
    for number in range(lists):
        for turn in range((number % 7 > 0) + (number % 5 == 1)):
            rows = 1 + (number * 5 + turn) % 9 + 400 * (uneven and number == 1)
            at = (number * 13 + turn * 7 + np.arange(rows)) % 900
            kind = (number + np.arange(rows) // 2) % 9
            codes = any_codes[kind] if turn else coarse.encode(kinds[kind], np.full(rows, number))
            cells = places[at].astype(np.uint64) * np.uint64(32 ** (precision - 2)) + np.uint64(7)
            segments.append(stored(inverted.pack_segment(number, codes, cells), dim))
    return Made(dump_coarse(coarse), tuple(segments))


def stored(segment, dim):
    """A segment with its codes in blocks as they are: frames that no packing changes."""
    codes, _ = inverted.unpack_segment(segment.data, segment.rows, dim)
    end = 4 + int.from_bytes(segment.data[:4], "little")
    packed = frame(codes.tobytes())
    return replace(segment, data=listed(packed, segment.data[end:]))


def frame(data, block=100):
    """A frame of Zstandard that holds its blocks as they are (RFC 8878)."""
    found = bytes.fromhex("28b52ffda0") + len(data).to_bytes(4, "little")
    for start in range(0, len(data), block):
        some = data[start : start + block]
        last = start + block >= len(data)
        found += (last + 8 * len(some)).to_bytes(3, "little") + some
    return found


def listed(packed, cells, more=0):
    """A list that says how long its packed codes are, or `more`."""
    return (len(packed) + more).to_bytes(4, "little") + packed + cells


def drawn(seed, rows, dim, most):
    """Rows int8 (rows, dim) of numbers up to `most`, clipped."""
    found = np.rint(random_numbers(seed, rows * dim) * most)
    return np.clip(found, -128, 127).astype(np.int8).reshape(rows, dim)


def files():
    """What lies in the files of the spaces: their bytes, and the rows of the index."""
    found, rows = [], []
    for space in SPACES:
        own = made(space)
        data, turn = bytearray(b"PAR1"), []
        for one in own.segments:
            turn.append({"list": one.number, "offset": len(data), "length": len(one.data),
                         "rows": one.rows, "digest": digests.short(one.data)})  # fmt: skip
            data += one.data + b"...."
        found.append(bytes(data))
        about = {
            "space_id": space, "file": digests.sha256(found[-1]), "file_length": len(data),
            "coarse": digests.sha256(own.coarse), "coarse_length": len(own.coarse),
        }  # fmt: skip
        rows += [about | row for row in turn]
    return found, rows


def make():
    data, (found, rows) = table("overview"), files()
    objects = {digests.sha256(one): one for one in [data, *found]}
    objects |= {digests.sha256(one.coarse): one.coarse for one in map(made, SPACES)}
    assert inverted.parse_index(data).to_pylist() == sorted(rows, key=lambda row: row["space_id"])
    ref = TableRef(digests.sha256(data), len(data), len(rows))
    first = made("stepped-1").coarse
    return {
        "ref": {"sha256": ref.sha256, "length": ref.length, "rows": ref.rows},
        "objects": {sha: text(one) for sha, one in objects.items()},
        "probed": candidates.PROBED,
        "spaces": [searched(space, objects, ref) for space in SPACES],
        "coarse": digests.sha256(first),
        "edits": [{"edit": edit, "error": outcome(edited, first, edit)} for edit in EDITS],
        "segments": [
            {
                "name": name,
                "data": text(data),
                "rows": rows,
                "dim": dim,
                "precision": precision,
                "error": outcome(inverted.unpack_segment, data, rows, dim, 32**precision),
            }
            for name, (data, rows, dim, precision) in hostile().items()
        ],
        "tables": {
            f"overview-{name}": outcome(inverted.parse_index, table(f"overview-{name}"))
            for name in ("list", "file", "end", "coarse", "overlap")
        },
    }


def searched(space, objects, ref):
    """A space, exemplars, and the cells of the searches by them."""
    lists, dim, _, precision = SPACES[space]
    read = lambda path, spans: [objects[path.split("/")[1][:64]][a:b] for a, b in spans]  # noqa: E731
    reader = SimpleNamespace(
        cache=Cache(),
        object=lambda kind, sha, length: objects[sha],
        quantiser=lambda space_id: None,
        store=SimpleNamespace(get_ranges=read),
        settings=SimpleNamespace(precision=precision),
    )
    overview = Overview(reader, ref)
    own = overview.lists(SimpleNamespace(space_id=space, dim=dim))
    exemplars = (random_numbers(9, 5 * dim) * 128).astype(np.int8).reshape(5, dim)
    cells = np.concatenate([cells for _, _, cells in overview.read(own, np.arange(lists))])
    names = geohash.spell(np.unique(cells), precision).tolist()
    cases = [{**case, "exclude": names[: case.get("exclude", 0)]} for case in CASES]
    return {
        "space_id": space,
        "dim": dim,
        "precision": precision,
        "exemplars": exemplars.tolist(),
        "cells": names,
        "rows": own.total,
        "cases": [{**case, **chosen(overview, own, exemplars, case)} for case in cases],
    }


def chosen(overview, lists, exemplars, case):
    options = {name: case[name] for name in ("k", "op", "exclude") if name in case}
    query = Query(exemplars[case["like"]], exemplars[case.get("unlike", [])], **options)
    found = candidates.find(overview, lists, query, Filter(), 1.0, math.inf)
    return {"found": list(found.cells), "rows": found.rows}


def edited(data, edit):
    load_coarse(apply(data, edit), SPACES["stepped-1"][1])


def hostile():
    """Lists, those of four rows of 64 numbers mostly: their bytes, rows, numbers of a row, and
    letters of a cell."""
    numbers, real = drawn(4, 4, 64, 2).tobytes(), base64.b64decode(PACKED)
    whole = frame(numbers)
    packed = {
        "packed numbers": real,
        "numbers in blocks": whole,
        "a frame that does not say its length": whole[:4] + b"\0X" + whole[9:],
        "two frames": frame(numbers[:70]) + frame(numbers[70:]),
        "a frame of more numbers": frame(numbers + b"0"),
        "a frame of fewer numbers": frame(numbers[1:]),
        "a frame that says it is longer": whole[:5] + b"\1\1" + whole[7:],
        "packed numbers that say they are more": real[:5] + b"\1" + real[6:],
        "a frame that is cut off": whole[:-1],
        "packed numbers that are cut off": real[:-1],
        "a frame without its blocks": whole[:9],
        "a frame and more": whole + b"more",
        "no frame": b"",
        "four other bytes": b"PAR1",
        "numbers as they are": numbers,
    }
    cells = {
        "the last cells": [0xFF, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0],
        "a cell beyond": [0xFF, 0xFF, 0xFF, 0xFF, 3, 0, 1, 0],
        "a cell of nine bytes": [0, 0, 0, *[0xFF] * 8, 0x7F],
        "a cell of ten bytes": [0, 0, 0, *[0x80] * 9, 1],
        "fewer cells": [1, 1, 1],
        "more cells": [1, 1, 1, 1, 1],
        "a cell that is cut off": [1, 1, 1, 1, 0x80],
        "no cells": [],
    }
    last = bytes([*[0xFF] * 8, 0x0F, 0, 0, 0])
    found = {name: (listed(data, bytes(4)), 4, 64, 6) for name, data in packed.items()}
    found |= {name: (listed(real, bytes(data)), 4, 64, 6) for name, data in cells.items()}
    return found | {
        "the last cells of twelve letters": (listed(real, last), 4, 64, 12),
        "cells beyond eleven letters": (listed(real, last), 4, 64, 11),
        "a length beyond the list": (listed(real, bytes(4), 5), 4, 64, 6),
        "a length within the frame": (listed(real, bytes(4), -1), 4, 64, 6),
        "half a length": (b"\x05\0", 4, 64, 6),
        "too many numbers": (listed(real, bytes(4)), 1 << 26, 64, 6),
    }
