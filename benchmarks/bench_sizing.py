"""How well complexity and code size foretell a network's loss, held out, beside the paper's R2.

Real data from EMBARCHIVE_DATA or ../shared/data. Of each set, the trainings of `embarchive size`
with the default recipe; then each form fitted to each complexity, every region foretold by a fit
to the others. `size alone` is the same without complexity; `same regions` is R2 on the regions
that were fitted to. Paper: tables 1 (multi-band) and 2 (single-band) of the
embedding data store paper, 100 regions; it does not say whether they were held out.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import report
from bench_first_light import DATA, SETS, quiet, say

from embarchive import sizing, step_size

TITLES = ("Sentinel-2 120 m, 5 dates", "NAIP 5 m, 6 dates", "Sentinel-2 10 m (BigEarthNet)")
PAPER = {
    ("gzip", "linear"): (0.196, 0.183),
    ("gzip", "polynomial"): (0.402, 0.456),
    ("gzip", "exponential"): (0.852, 0.869),
    ("pca", "linear"): (0.197, 0.229),
    ("pca", "polynomial"): (0.402, 0.491),
    ("pca", "exponential"): (0.849, 0.869),
    ("kernel_pca", "linear"): (0.197, 0.218),
    ("kernel_pca", "polynomial"): (0.418, 0.495),
    ("kernel_pca", "exponential"): (0.849, 0.858),
}


def rows_of(title: str, found: list[sizing.Region]) -> list[dict[str, Any]]:
    """The nine fits of one set."""
    rows = []
    for name in sizing.COMPLEXITIES:
        points = sizing.points_of(step_size.SIZES, found, name, False)
        blind = replace(points, complexity=np.zeros_like(points.loss))
        for form in sizing.FORMS:
            same = sizing.fit(points, form).predict(points.size, points.complexity)
            multi, single = PAPER[name, form]
            rows.append(
                {
                    "dataset": title,
                    "regions": len(found),
                    "complexity": name,
                    "form": form,
                    "r2": sizing.held_out_r2(points, form),
                    "r2, size alone": sizing.held_out_r2(blind, form),
                    "r2, same regions": sizing.r2(points.loss, same),
                    "paper r2 (multi)": multi,
                    "paper r2 (single)": single,
                }
            )
    return rows


def main() -> int:
    """Measure every set, save the rows."""
    rows = []
    for one in SETS:
        if one.title not in TITLES:
            continue
        paths, began = [str(DATA / path) for path in one.paths], time.monotonic()
        found, steps = step_size.measure(paths, one.recipe, step_size.SIZES, quiet)
        say(f"{one.title}: {len(found)} regions, {steps} steps, {time.monotonic() - began:.0f} s")
        rows += rows_of(one.title, found)
    say(str(report.save("sizing", rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
