"""Drift of decoders: how soon another season is noticed, what a new decoder gains, false alarms.

Real data from EMBARCHIVE_DATA or ../shared/data, real dates only. Of each set an archive of the
first dates; the others are added one after the other, in order, to what the archive then is. A row
an added date: regions watched and clear tiles seen; regions found to drift (of the same month they
are false alarms) and the median number of tiles until then; the median error of the new tiles by
the held decoders, as a multiple of the level at which each was fitted; and where decoders were
fitted anew, the median held-out error before and after, of the level too. Ends with status 1 at a
false alarm.

After figure 6 of the embedding data store paper, which retrains once, at a running error of .002.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import report
from bench_first_light import DATA, quiet, say

from embarchive import jobs
from embarchive.recipe import Recipe
from embarchive.staging import Staging
from embarchive.store import open_store

BOUCONNE = "s2_l3a_bouconne_7dates/2018_3A_Theia_Bouconne.tif"
DATES = ("20180429", "20180513", "20180708", "20180815", "20180915", "20181015", "20181115")
BANDS = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")


@dataclass(frozen=True)
class Case:
    """Scenes by date: those of the first archive, and those that are added, with what they are."""

    title: str
    first: tuple[str, ...]
    added: tuple[tuple[str, str], ...]
    pattern: str
    recipe: Recipe = field(default_factory=Recipe)


CLEAR = ("20230813", "20230815", "20230820")
CLOUDY = tuple((day, "same month, cloudy") for day in ("20230810", "20230818"))
# Each of the clear dates in turn is the one that is added.
S2 = tuple(
    Case(
        "Sentinel-2 120 m",
        tuple(other for other in CLEAR if other != day),
        ((day, "same month"), *(CLOUDY if day == CLEAR[-1] else ())),
        "s2_l2a_33TW_aug2023/*_{}_*",
    )
    for day in reversed(CLEAR)
)
YEARS = ("20100629", "20120731", "20140720", "20170827", "20200831")
NAIP = Case(
    "NAIP 5 m",
    ("20090818",),
    tuple((day, "another year") for day in YEARS),
    "naip_nd_2009_2020/*_{}.tif",
    Recipe(bands=("R", "G", "B", "N")),
)
LATER = tuple((day, "another month") for day in DATES[2:])
SEASONS = Case(
    "Sentinel-2 10 m, Bouconne", DATES[:2], LATER, "*_{}.tif", Recipe(precision=7, bands=BANDS)
)


def write_dates(folder: Path) -> None:
    """The stack of dates as one file a date, values untouched."""
    with rasterio.open(DATA / BOUCONNE) as stack:
        profile = {**stack.profile, "count": len(BANDS), "driver": "GTiff"}
        for at, day in enumerate(DATES):
            pixels = stack.read(list(range(at * len(BANDS) + 1, (at + 1) * len(BANDS) + 1)))
            with rasterio.open(folder / f"bouconne_{day}.tif", "w", **profile) as out:
                out.write(pixels)


def paths(root: Path, case: Case, days: Sequence[str]) -> list[str]:
    """The scenes of some days."""
    found = [str(path) for day in days for path in sorted(root.glob(case.pattern.format(day)))]
    assert found, (case.title, days)
    return found


def add(out: str, scenes: list[str], recipe: Recipe) -> list[dict[str, Any]]:
    """Add scenes; the records of the regions that were watched."""
    made = jobs.plan(scenes, out, recipe, parts=1)
    jobs.train(out, plan=made["plan"], part=None, backbone=False, progress=quiet)
    staging = Staging(open_store(out), made["plan"])
    names = [Path(entry.path).stem for entry in staging.store.list(f"staging/{made['plan']}/drift")]
    records = [staging.read("drift", name) for name in names]
    jobs.encode(out, plan=made["plan"], part=None, progress=quiet)
    jobs.commit(out, plan=made["plan"], progress=quiet)
    return [record for record in records if record is not None and record["tiles"]]


def middle(values: Sequence[float | None]) -> float | None:
    """The median of what there is."""
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None


def row_of(case: Case, day: str, change: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """What an added date gave."""
    fitted = [record for record in found if record["after"] is not None]
    return {
        "dataset": case.title,
        "first dates": " ".join(case.first),
        "added": day,
        "change": change,
        "regions": len(found),
        "clear tiles": sum(record["tiles"] for record in found),
        "drifted": sum(record["alarm"] is not None for record in found),
        "tiles until": middle([record["alarm"] for record in found]),
        "error / level": middle([record["ratio"] for record in found]),
        "highest sum": max((record["highest"] for record in found), default=None),
        "before / level": middle([r["before"] / r["level"] for r in fitted]),
        "after / level": middle([r["after"] / r["level"] for r in fitted]),
        "refitted": sum(record["model"] is not None for record in found),
        "for reencode": sum(record["encoder"] for record in found),
        "clipped": middle([record["clipped"] for record in found]),
    }


def main() -> int:
    """Run all cases, save the rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write_dates(here)
        for case, root in (*((case, DATA) for case in (*S2, NAIP)), (SEASONS, here)):
            began, out = time.monotonic(), str(here / "archive")
            jobs.build(paths(root, case, case.first), out, case.recipe, workers=1, progress=quiet)
            for day, change in case.added:
                found = add(out, paths(root, case, [day]), case.recipe)
                rows.append(row_of(case, day, change, found))
                say(str(rows[-1]))
            say(f"{case.title}: {time.monotonic() - began:.0f} s")
            shutil.rmtree(out)
    say(str(report.save("drift", rows)))
    return int(any(row["drifted"] for row in rows if row["change"] == "same month"))


if __name__ == "__main__":
    sys.exit(main())
