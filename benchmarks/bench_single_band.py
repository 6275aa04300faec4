"""What do codes of single bands cost, and does a band that comes later fare worse?

Real data from EMBARCHIVE_DATA or ../shared/data: Sentinel-2 at 120 m, five dates, B02 B03 B04 B08.
Archives of all bands together with 64 numbers a tile; of single bands with 16 (as many bytes a
place and date) and 64 each, from all four bands at once; and with 16 from three bands, to which
B08 is added afterwards. A row an archive and band: the error of the decoded rows of held-out
places, the same for all, beside that of each tile's mean; bytes of vectors and of shards, a place
and date; whether the shared networks stayed what they were; and the megabytes of the embedding data
store paper's table 3, whose single codes cost 253.26 MB and multi-band ones 19.48 MB.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
import sets

import embarchive
from embarchive import fitting, jobs
from embarchive.gather import gather, scene_cells
from embarchive.oneband import single, source_of
from embarchive.recipe import Recipe
from embarchive.scenes import Scene
from embarchive.step_plan import look

NAME, BANDS, LATER = "s2_33TW", ("B02", "B03", "B04", "B08"), "B08"
PAPER = {True: 253.26, False: 19.48}
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """An archive: of single bands or not, numbers a tile, and the bands of each of its builds."""

    title: str
    single: bool
    dim: int
    builds: tuple[tuple[str, ...], ...]


CASES = (
    Case("bands together, 64 numbers", False, 64, (BANDS,)),
    Case("single bands, 16 numbers each", True, 16, (BANDS,)),
    Case("single bands, 16 numbers each, B08 added later", True, 16, (BANDS[:3], BANDS[3:])),
    Case("single bands, 64 numbers each", True, 64, (BANDS,)),
)


def held_out(scenes: Sequence[Scene], recipe: Recipe, paths: list[str]) -> Any:
    """Chips of held-out places, and who they are: a (geohash, datetime, source) each."""
    _, settings = look(paths, recipe)
    cells = np.unique(np.concatenate([scene_cells(scene, settings) for scene in scenes]))
    split = fitting.split_cells(cells, settings, recipe.seed)
    keys, chips = [], []
    for scene in scenes:
        some = gather([scene], settings, cells, sets.ROOM, sets._quiet)
        test = some.only(split.masks(some.geohash)[1])
        keys += [(name, scene.datetime, scene.source) for name in test.geohash.tolist()]
        chips.append(test.pixels)
    return keys, np.concatenate(chips)


def decoded(archive: Any, keys: Sequence[tuple[Any, ...]], band: str) -> Any:
    """What the archive says of a band there."""
    alone = single(archive.settings)
    columns = ["geohash", "datetime", "source", "embedding", "code", "model_id"]
    rows = archive.select(columns=columns, band=band if alone else None)
    names = [rows[name].to_pylist() for name in columns[:3]]
    at = {key: row for row, key in enumerate(zip(*names, strict=True))}
    wanted = [(g, when, source_of(s, band) if alone else s) for g, when, s in keys]
    images = archive.decode(rows.take([at[key] for key in wanted]))
    return images[:, 0 if alone else BANDS.index(band)]


def measure(case: Case, paths: list[str], keys: Any, chips: Any, steps: int) -> list[Row]:
    """The rows of one archive."""
    with tempfile.TemporaryDirectory() as folder:
        out, seen = str(Path(folder) / "archive"), set()
        for bands in case.builds:
            recipe = Recipe(bands=bands, dim=case.dim, single_band=case.single, steps=steps)
            jobs.build(paths, out, recipe, workers=1, progress=lambda *now: None)
            space = embarchive.open_archive(out).spaces[-1]
            seen.add((space.space_id, space.encoder, space.backbone, space.scale))
        archive = embarchive.open_archive(out)
        dates = len(archive) / (len(BANDS) if case.single else 1)
        found = []
        for at, band in enumerate(BANDS):
            truth = chips[:, at]
            gap = (decoded(archive, keys, band) - truth).astype(np.float64)
            mean = truth.mean(axis=(1, 2), keepdims=True)
            flat = float(((mean - truth).astype(np.float64) ** 2).mean())
            mse = float((gap**2).mean())
            found.append(
                {
                    "archive": case.title,
                    "band": band,
                    "test_tiles": len(truth),
                    "held_out_mse": mse,
                    "mse_to_tile_mean": mse / flat,
                    "vector_bytes": case.dim * (len(BANDS) if case.single else 1),
                    "shard_bytes": archive.info()["bytes"]["shards"] / dates,
                    "model_bytes": archive.info()["bytes"]["models"],
                    "same_networks": len(seen) == 1,
                    "paper_mb": PAPER[case.single],
                }
            )
        return found


def main() -> int:
    """Measure all archives and save them; 1 when a new band changed the shared networks."""
    paths, recipe = list(sets.paths_of(NAME)), replace(sets.SETS[NAME].recipe, bands=BANDS)
    scenes, _ = look(paths, recipe)
    keys, chips = held_out(scenes, recipe, paths)
    rows: list[Row] = []
    for case in CASES:
        rows += measure(case, paths, keys, chips, recipe.steps)
        for row in rows[-len(BANDS) :]:
            print(case.title, row["band"], f"{row['mse_to_tile_mean']:.3f}", flush=True)
    report.save("single_band", rows)
    return int(not all(row["same_networks"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
