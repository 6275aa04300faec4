"""What an archive costs to make, keep and search, from bytes and rates that were measured.

Bytes a tile and tiles a second are those of `first_light` (Sentinel-2 at 10 m for a 10,980 x 10,980
scene of 12 bands), bytes of searches those of `scale`. Prices are list prices of one store and of
one kind of machine as of 2026, in PRICES: yours differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import report

from embarchive.candidates import PROBED
from embarchive.fit_coarse import lists_for

# US dollars: GB-month, PUT, GET, GB out, core-hour (spot).
PRICES = {"gb_month": 0.023, "put": 5e-6, "get": 4e-7, "gb_out": 0.09, "core_hour": 0.02}
# Square kilometres, and dates.
AREAS = {
    "400 scenes": (400 * 109.8**2, 1),
    "a country of 550,000 km2, monthly": (550_000.0, 12),
    "all land, monthly": (149e6, 12),
}
SCENE, SCENE_KM2, SHARD_ROWS, SEARCHES = "made scene, 10980 x 10980 x 12", 109.8**2, 32_768, 10_000
# Of the machine that built the scene; bytes a row in the overview, and of a list: its centroid and
# its row of the index.
CORES, ENTRY, LIST = 2, 29.2, 99
Row = dict[str, Any]


def of_scene(name: str) -> float:
    """A number of the full-size scene."""
    rows = _rows("first_light")
    return float(next(row[SCENE] for row in rows if row[""] == name))


def of_scale(query: str, name: str, tiles: int = 50_000_000) -> float:
    """A number of the largest archive with an overview."""
    rows = [row for row in _rows("scale") if row["engine"] == "embarchive"]
    return float(next(r[name] for r in rows if r["query"] == query and r["tiles"] == tiles))


def _rows(name: str) -> list[Row]:
    path = Path(__file__).parent / "results" / f"{name}.json"
    found: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return found


def of_lists(tiles: float) -> float:
    """Bytes of the lists that a search of everything reads, with the table of all lists."""
    lists = lists_for(round(tiles))
    return PROBED * ENTRY * tiles / lists + LIST * lists


def costs(name: str) -> Row:
    """One archive: a year's dates of an area, one tile a cell and date."""
    area, dates = AREAS[name]
    tiles = area / SCENE_KM2 * of_scene("tiles") * dates
    kept = tiles * (of_scene("bytes a tile, shards") + ENTRY)
    core_hours = area / SCENE_KM2 * dates * of_scene("build, s") * CORES / 3600
    objects = 2 * tiles / SHARD_ROWS + area / SCENE_KM2 * dates * 2
    out = {query: of_scale(query, "bytes_read") for query in ("box", "whole")}
    out["whole"] += max(0.0, of_lists(tiles) - of_lists(50_000_000))
    asked = {query: of_scale(query, "requests") for query in ("box", "whole")}
    return {
        "archive": name,
        "tiles": round(tiles),
        "GB kept": kept / 1e9,
        "core-hours": core_hours,
        "computing, $": core_hours * PRICES["core_hour"],
        "PUTs, $": objects * PRICES["put"],
        "keeping, $ a month": kept / 1e9 * PRICES["gb_month"],
        **{
            f"10,000 searches of {query}, $": SEARCHES
            * (asked[query] * PRICES["get"] + out[query] / 1e9 * PRICES["gb_out"])
            for query in ("box", "whole")
        },
    }


def main() -> int:
    """Compute and save."""
    print(report.save("costs", [costs(name) for name in AREAS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
