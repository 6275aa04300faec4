"""`make packaged-demo`: the small archive inside the package, which `serve --demo` shows."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from demo import imagery

from embarchive import jobs
from embarchive.progress import Progress

HOME = Path(__file__).parent.parent / "src" / "embarchive" / "demo"
BANDS = ("B02", "B03", "B04", "B08")


def main() -> None:
    """Build it aside, then put it in the old one's place."""
    scenes, recipe = imagery()
    title = "Sentinel-2, 376 km2, 4 bands"
    recipe = replace(recipe, bands=BANDS, weights="int8", steps=400, title=title)
    with tempfile.TemporaryDirectory() as aside:
        out, progress = Path(aside) / "demo", Progress()
        jobs.build(scenes, str(out), recipe, workers=1, progress=progress)
        progress.close()
        shutil.rmtree(HOME, ignore_errors=True)
        shutil.copytree(out, HOME, ignore=lambda folder, names: {"staging"} & set(names))
    size = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    print(f"src/embarchive/demo: {size:,} bytes")


if __name__ == "__main__":
    main()
