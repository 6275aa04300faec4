"""Two spaces of made lists, the cells that Python chooses by them, and centroids with one thing
changed."""

import base64
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from embarchive import candidates, digests, geohash, inverted
from embarchive.coarse import Coarse, dump_coarse, load_coarse
from embarchive.filters import Filter
from embarchive.manifest import TableRef
from embarchive.overview import Overview
from embarchive.reader import Cache
from embarchive.search import Query
from golden.fidelity import apply
from golden.manifest import outcome, table
from golden.model import random_numbers
from golden.quantisers import quantiser

# Space: lists, groups, words and width of their codes, numbers before a matrix, letters of a cell.
SPACES = {"mapped-1": (65, (10, 2, 1, 7), 12), "plain-1": (90, (12, 16, 1, 0), 6)}
CASES = [
    {"like": [0], "k": 3},
    {"like": [1], "k": 9, "op": "min"},
    {"like": [0, 1, 2], "unlike": [3, 4], "k": 7},
    {"like": [2, 4], "unlike": [0], "k": 20, "op": "min"},
    {"like": [3, 2, 1], "k": 1},
    {"like": [4], "k": 4000},
    {"like": [0], "k": 3, "exclude": 5},
]
EDITS = [
    {},
    {"about": {"kind": "quantiser"}},
    {"about": {"version": "2"}},
    {"about": {"bytes": "7"}},
    {"about": {"bytes": "many"}},
    {"about": {"bytes": None}},
    {"drop": "centroids"},
    {"drop": "starts"},
    {"drop": "quantiser"},
    {"add": "more"},
    {"type": ["starts", "<f4"]},
    {"shape": ["centroids", [90, 2, 6]]},
    {"shape": ["centroids", [45, 24]]},
    {"shape": ["starts", [3, 1]]},
    {"set": ["starts", 0, 1]},
    {"set": ["starts", 1, 0]},
    {"set": ["starts", 1, 60]},
    {"set": ["starts", 2, 90]},
    {"set": ["quantiser", 0, 1]},
]


@dataclass(frozen=True)
class Made:
    """Lists of a space: their quantiser as bytes, and their segments in the order of the index."""

    coarse: bytes
    segments: tuple[inverted.Segment, ...]


def made(space):
    """The lists of a space: some without rows, some of two segments, many rows of one value."""
    lists, shape, precision = SPACES[space]
    own = quantiser(*shape, precision)
    dim = len(own.mean)
    centroids = (random_numbers(precision, lists * dim) * 100).astype(np.int8)
    starts = np.array([0, lists // 2, lists - 9], np.int32)
    coarse = Coarse(centroids.reshape(lists, dim), starts, own)
    kinds = (random_numbers(precision + 1, 9 * own.bytes) * 128).astype(np.int8).view(np.uint8)
    places = random_numbers(precision + 2, 900) * 128 + 128
    segments = []
    for number in range(lists):
        for turn in range((number % 7 > 0) + (number % 5 == 0)):
            rows = 1 + (number * 5 + turn) % 9
            at = (number * 13 + turn * 7 + np.arange(rows)) % 900
            codes = kinds.reshape(9, -1)[(number + np.arange(rows) // 2) % 9]
            cells = places[at].astype(np.uint64) * np.uint64(32 ** (precision - 2)) + np.uint64(7)
            segments.append(inverted.pack_segment(number, codes, cells))
    return Made(dump_coarse(coarse), tuple(segments))


def files():
    """What lies in the files of both spaces: their bytes, and the rows of the index."""
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
    first = made("plain-1").coarse
    return {
        "ref": {"sha256": ref.sha256, "length": ref.length, "rows": ref.rows},
        "objects": {sha: base64.b64encode(one).decode() for sha, one in objects.items()},
        "probed": candidates.PROBED,
        "spaces": [searched(space, objects, ref) for space in SPACES],
        "coarse": digests.sha256(first),
        "edits": [{"edit": edit, "error": outcome(edited, first, edit)} for edit in EDITS],
        "tables": {
            name: outcome(inverted.parse_index, table(name))
            for name in ("overview-list", "overview-file", "overview-end", "overview-coarse")
        },
    }


def searched(space, objects, ref):
    """A space, exemplars, and the cells of the searches by them."""
    lists, _, precision = SPACES[space]
    read = lambda path, spans: [objects[path.split("/")[1][:64]][a:b] for a, b in spans]  # noqa: E731
    reader = SimpleNamespace(
        cache=Cache(),
        object=lambda kind, sha, length: objects[sha],
        quantiser=lambda space_id: None,
        store=SimpleNamespace(get_ranges=read),
        settings=SimpleNamespace(precision=precision),
    )
    overview = Overview(reader, ref)
    dim = load_dim(space)
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


def load_dim(space):
    _, (groups, _, width, dim), _ = SPACES[space]
    return dim or groups * width


def chosen(overview, lists, exemplars, case):
    options = {name: case[name] for name in ("k", "op", "exclude") if name in case}
    query = Query(exemplars[case["like"]], exemplars[case.get("unlike", [])], **options)
    found = candidates.find(overview, lists, query, Filter(), 1.0)
    return {"found": list(found.cells), "rows": found.rows}


def edited(data, edit):
    load_coarse(apply(data, edit), load_dim("plain-1"))
