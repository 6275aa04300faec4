"""A made archive of any size in the real formats, a prefix at a time: clustered vectors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np

from embarchive import grid, manifest, rows, shards
from embarchive.additions import Addition, add_to_archive
from embarchive.quantize import SimHash, fit_simhash
from embarchive.store import open_store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from archives import EMB, FIRST, SCALE, _put, _shard_row, make_settings

DIM, BITS, DATES, KINDS = 64, 128, 4, 200
CELLS = 32**3


def make(root: Path, count: int) -> int:
    """Write an archive of at least `count` rows: every cell of some prefixes on four dates. Gives
    the number of rows."""
    store = open_store(root)
    put = lambda kind, data, prefix=None: _put(store, kind, data, prefix)  # noqa: E731
    kinds = np.random.default_rng(1).normal(0, 25, (KINDS, DIM))
    simhash = fit_simhash(_vectors(kinds, 4000, 0), BITS, 0)
    assert simhash is not None
    model = put("model", b"no weights")
    space = manifest.Space(
        space_id="made-1", encoder=put("model", b"encoder"), encoder_length=7, dim=DIM, metric="l2",
        scale=SCALE, simhash=simhash.to_json(), saturation={},
    )  # fmt: skip
    found = []
    prefixes = _prefixes(-(-count // (CELLS * DATES)))
    for number, prefix in enumerate(prefixes):
        for shard in shards.write_shards(_rows(prefix, kinds, simhash, model, number), EMB):
            put("shard", shard.data, prefix)
            found.append(_shard_row(shard, prefix, space.space_id, put))
    models = ({"model_id": model, "length": 10, "kind": "shared", "region": "made",
               "space_id": space.space_id, "mse": 1e-4},)  # fmt: skip
    addition = Addition(
        settings=make_settings(3), shards=tuple(found), models=models, spaces=(space,),
        scenes=DATES, places=CELLS * len(prefixes),
    )  # fmt: skip
    add_to_archive(store, lambda _: addition)
    return CELLS * DATES * len(prefixes)


def cells(prefix: str) -> Iterator[str]:
    """All cells of a prefix of three characters, sorted."""
    letters = grid.ALPHABET
    return (prefix + a + b + c for a in letters for b in letters for c in letters)


def _prefixes(count: int) -> list[str]:
    """Neighbouring prefixes: those of u and its neighbours in order."""
    letters = grid.ALPHABET
    return [a + b + c for a in "usgevt" for b in letters for c in letters][:count]


def _vectors(kinds: np.ndarray, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, DIM), dtype=np.float32) * 10
    noisy = kinds[rng.integers(len(kinds), size=count)] + noise
    return np.clip(np.rint(noisy), -127, 127).astype(np.int8)


def _rows(
    prefix: str, kinds: np.ndarray, simhash: SimHash, model: str, number: int
) -> rows.pa.Table:
    vectors = _vectors(kinds, CELLS * DATES, number + 1)
    names = np.repeat(np.array(list(cells(prefix))), DATES)
    rng = np.random.default_rng(number)
    fixed = {
        "model_id": [model] * len(names),
        "source": [f"scene-{date}" for date in range(DATES)] * CELLS,
        "input_digest": [int(i).to_bytes(8, "big") for i in range(len(names))],
        "valid_fraction": rng.uniform(0.5, 1, len(names)),
    }
    when = [FIRST + timedelta(days=30 * date) for date in range(DATES)] * CELLS
    return rows.make_rows(names, when, vectors, simhash.encode(vectors), fixed)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), int(sys.argv[2])))
