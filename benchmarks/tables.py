"""Fills the tables of README.md, docs/numbers.md and docs/at-scale.md from results/*.json.

A table stands between `<!-- table NAME -->` and `<!-- end NAME -->`, NAME that of a result.
`python benchmarks/tables.py --check` changes nothing and ends with 1 when one is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
HERE = Path(__file__).parent
PAGES = (
    HERE.parent / "README.md",
    HERE.parent / "docs" / "numbers.md",
    HERE.parent / "docs" / "at-scale.md",
)
_TABLE = re.compile(r"(<!-- table ([\w-]+) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)


def fill(text: str, results: Path) -> str:
    """The text with every table whose result is at hand written anew; others stay."""

    def table(match: re.Match[str]) -> str:
        path = results / f"{SOURCES.get(match[2], match[2])}.json"
        if not path.is_file():
            return match[0]
        document = json.loads(path.read_text(encoding="utf-8"))
        return match[1] + markdown(document, match[2]) + match[4]

    return _TABLE.sub(table, text)


def markdown(document: dict[str, Any], name: str) -> str:
    """The rows of one result as the table of a name, with a line on where they come from."""
    rows = VIEWS.get(name, list)(document["rows"])
    heads = list(rows[0])
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_cell(row[head]) for head in heads)} |" for row in rows]
    source = "`{command}` at {commit}, {date}; {machine}.".format(**document)
    return "\n".join([*lines, "", source, ""])


def storage(rows: list[Row]) -> list[Row]:
    """Of single dates, see `shares`."""
    return shares([row for row in rows if not row["dataset"].endswith("_dates")])


def storage_dates(rows: list[Row]) -> list[Row]:
    """Of all dates of a place, see `shares`."""
    return shares([row for row in rows if row["dataset"].endswith("_dates")])


def shares(rows: list[Row]) -> list[Row]:
    """Median errors as shares of the better of JPEG 2000's two with shared headers: a line a set
    and target, a column a method; by one slope where a method has one."""
    names = dict.fromkeys(row["method"] for row in rows if row["target_bytes"] is not None)
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: row["rate"] == "slope"):
        if row["target_bytes"] in (16, 32, 64):
            values = found.setdefault((row["dataset"], row["target_bytes"]), {})
            values[row["method"]] = row["mse_median"]
    order = list(dict.fromkeys(row["dataset"] for row in rows))
    cells = {row["dataset"]: row["test_cells"] for row in rows}
    view = []
    for (name, target), values in sorted(found.items(), key=lambda one: order.index(one[0][0])):
        best = min(values[method] for method in JPEG2000)
        found_shares = {
            method: values[method] / best if method in values else None
            for method in names
            if not method.startswith("tile mean")
        }
        head = {"dataset": name, "test cells": cells[name], "bytes": target}
        view.append({**head, "JPEG 2000 mse": best, **found_shares})
    return view


def quantisers(rows: list[Row]) -> list[Row]:
    """A line a method, recall a column a set; of one labelled set the rest."""
    full = "EuroSAT, VAE"
    view: dict[str, Row] = {}
    for row in rows:
        if row["dim"] < 32:
            continue
        line = view.setdefault(
            row["method"], {"method": row["method"], "bytes of 64 numbers": None}
        )
        if row["dim"] == 64:
            line["bytes of 64 numbers"] = row["bytes_per_vector"]
        line[f"recall@10, {row['dataset']}"] = row["recall10"]
        if row["dataset"] == full:
            line |= {
                f"in first 100, {full}": row["recall10_rerank"],
                "Spearman": row["spearman"],
                "kNN": row["knn_acc"],
                "linear": row["linear_acc"],
                "smaller on disk": row["disk_ratio"],
            }
    heads = max(view.values(), key=len)
    told = {row["method"]: row["reported"] for row in rows}
    return [
        {head: line.get(head) for head in heads} | {"reported": told[line["method"]]}
        for line in view.values()
    ]


def search_speed(rows: list[Row]) -> list[Row]:
    """Without what only whole archives have."""
    return [{key: row[key] for key in row if key != "peak_mb"} for row in rows if row["ours_times"]]


def search_archive(rows: list[Row]) -> list[Row]:
    """Whole searches of an archive on disk."""
    names = ("mode", "rows", "bits", "qps", "peak_mb")
    return [{key: row[key] for key in names} for row in rows if not row["ours_times"]]


def scale(rows: list[Row]) -> list[Row]:
    """Searches in a box and of everything."""
    names = ("query", "tiles", "engine", "setting", "seconds", "requests", "bytes_read",
             "share_read", "recall10", "peak_mb")  # fmt: skip
    some = [row for row in rows if row["query"] in ("box", "whole") and row["seconds"]]
    some.sort(
        key=lambda row: (
            row["query"],
            row["tiles"],
            row["engine"] != "embarchive",
            row["engine"] != "no overview",
        )
    )
    return [{key: row[key] for key in names} for row in some]


def scale_open(rows: list[Row]) -> list[Row]:
    """Opening, with the plan of a box."""
    names = ("engine", "shards", "tiles", "seconds", "requests", "bytes_read", "peak_mb")
    return [{key: row[key] for key in names} for row in rows if row["query"] == "open"]


def scale_build(rows: list[Row]) -> list[Row]:
    """What is built, and its bytes."""
    names = ("tiles", "engine", "seconds", "peak_mb", "bytes_stored")
    return [{key: row[key] for key in names} for row in rows if row["query"] == "build"]


def scale_lists(rows: list[Row]) -> list[Row]:
    """Which lists, and what share of all rows they make a search read: a column a number."""
    view: dict[str, Row] = {}
    for row in rows:
        if row["share_read"] and not row["seconds"]:
            name = row["engine"] if row["setting"] is None else f"k-means, {row['setting']}"
            view.setdefault(name, {})[f"{row['tiles']:,} tiles"] = row["share_read"]
    heads = dict.fromkeys(head for line in view.values() for head in line)
    return [
        {"rows in": name} | {head: line.get(head) for head in heads} for name, line in view.items()
    ]


def tile2vec(rows: list[Row]) -> list[Row]:
    """Scores, and what they are above the first line, with its interval."""
    view = []
    for row in rows:
        line = {name: row[name] for name in ("vectors", "numbers", "steps")}
        for score in ("knn", "linear", "precision", "far"):
            line[score] = row[score]
            low, high = row[f"{score} gain low"], row[f"{score} gain high"]
            line[f"{score}, gain"] = f"{low:+.3f} to {high:+.3f}" if high else None
        view.append(line)
    return view


def regions(rows: list[Row]) -> list[Row]:
    """A line a region, errors as shares of that of the shared network."""
    view: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["region"] == "-":
            continue
        key = row["dataset"], row["region"]
        line = view.setdefault(
            key, {name: row[name] for name in ("dataset", "region", "tiles", "test_tiles")}
        )
        if row["kind"] != "shared":
            line[f"{row['kind']}, error"] = row["mse_to_shared"]
            line[f"{row['kind']}, bytes a tile"] = row["bytes_a_tile"]
    for row in rows:
        if row["chosen"]:
            view[row["dataset"], row["region"]]["chosen"] = row["kind"]
    return list(view.values())


def single_band(rows: list[Row]) -> list[Row]:
    """A line an archive, a column a band: errors as shares of those of the tile means."""
    names = "vector_bytes shard_bytes model_bytes same_networks paper_mb".split()
    view: dict[str, Row] = {}
    for row in rows:
        line = view.setdefault(row["archive"], {"archive": row["archive"]})
        line[row["band"]] = row["mse_to_tile_mean"]
    for row in rows:
        view[row["archive"]] |= {name: row[name] for name in names}
    return list(view.values())


def paper_table(rows: list[Row]) -> list[Row]:
    """Without what takes the bytes."""
    left_out = ("disk", "row_bytes", "quality")
    return [{key: row[key] for key in row if key not in left_out} for row in rows]


def change(rows: list[Row]) -> list[Row]:
    """A line a set and kind of change, a column a method: precision at 20; then those of changes
    alike."""
    view: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        for measure in ("precision@20", "alike@20"):
            if row[measure] is not None:
                line = view.setdefault(
                    (row["dataset"], row["change"], measure),
                    {"measure": measure, **{key: row[key] for key in list(row)[:4]}},
                )
                line[row["method"]] = row[measure]
    names = dict.fromkeys(key for line in view.values() for key in line)
    order = sorted(view, key=lambda key: key[2], reverse=True)
    return [{name: view[key].get(name) for name in names} for key in order]


JPEG2000 = ("JPEG 2000, tiles, shared headers", "JPEG 2000, scene, headers stripped")
# Tables that are not named after their result.
SOURCES = {
    "storage_dates": "storage", "search_archive": "search_speed", "scale_open": "scale",
    "scale_build": "scale", "scale_lists": "scale",
}  # fmt: skip
VIEWS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "change": change,
    "storage": storage,
    "storage_dates": storage_dates,
    "quantisers": quantisers,
    "search_speed": search_speed,
    "search_archive": search_archive,
    "scale": scale,
    "scale_open": scale_open,
    "scale_build": scale_build,
    "scale_lists": scale_lists,
    "tile2vec": tile2vec,
    "regions": regions,
    "single_band": single_band,
    "paper_table": paper_table,
}


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or with --check only compare."""
    stale = 0
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = fill(old, HERE / "results")
        stale |= new != old
        if "--check" not in arguments:
            page.write_text(new, encoding="utf-8")
    return int(stale and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
