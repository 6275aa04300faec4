"""The document of `evaluate` as Markdown with plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embarchive.errors import BadInput, MissingExtra
from embarchive.save import plain

Doc = dict[str, Any]


def write_report(document: Doc, folder: str | Path) -> list[str]:
    """Write report.md, report.json and plots (PNG) to a new or empty folder; their names.
    Raises BadInput, or MissingExtra without matplotlib."""
    where = check_folder(folder)
    pyplot = _pyplot()
    try:
        where.mkdir(parents=True, exist_ok=True)
        pictures = _plots(document, where, pyplot)
        text = json.dumps(plain(document), indent=1, allow_nan=False)
        (where / "report.json").write_text(text + "\n", encoding="utf-8")
        (where / "report.md").write_text(markdown(document, pictures), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"out: cannot write {folder}: {error.strerror or error}") from None
    return ["report.md", "report.json", *pictures]


def check_folder(folder: str | Path) -> Path:
    """A folder that a report may be written to; asked before the work. Raises BadInput, or
    MissingExtra without matplotlib."""
    _pyplot()
    where = Path(folder)
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise BadInput(f"out: expected a new or empty folder, found files in {folder}")
    return where


def markdown(document: Doc, pictures: Sequence[str] = ()) -> str:
    """The report as text; pictures: names of plots to show."""
    told = document["labels"]
    parts = [
        f"# Space {document['space']}",
        f"{document['rows']:,} of {document['tiles']:,} rows, vectors of {document['dim']} "
        f"numbers, {document['queries']:,} queries; 95 % intervals over {document['blocks']} "
        "spatial blocks.",
        "## Quantisers",
        f"Share of the {document['k']} nearest rows of other places, by the stored numbers, that "
        "the code finds; found among its first 100 (what a rerank can reach); Spearman correlation "
        "of distances.",
        _table(
            ["code", "bytes", "recall@10", "95 %", "in first 100", "Spearman"],
            [
                [r["name"], r["bytes"], r["recall10"], _span(r, "recall10"),
                 r["recall10_rerank"], r["spearman"]]
                for r in document["quantisers"]
            ],
        ),
        "## Intrinsic dimension",
        "By maximum likelihood (Levina & Bickel), TwoNN (Facco et al.), and components that hold "
        "95 % of the variance of 60 neighbours.",
        _table(
            ["of", "rows", "MLE", "TwoNN", "local PCA"],
            [["all", document["rows"], *_sizes(document["dimension"]["whole"])]]
            + [
                [f"{r['geohash_min']} to {r['geohash_max']}", r["rows"], *_sizes(r)]
                for r in document["dimension"]["shards"]
            ],
        ),
    ]  # fmt: skip
    if told:
        parts += _labels(told)
    parts += [f"![{name}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _labels(told: Doc) -> list[str]:
    names = list(told["classes"])
    few = told["left_out"]
    left = f" Classes of fewer than 5 places, left out: {len(few)} ({', '.join(few)[:200]})."
    return [
        "## Probes",
        f"{told['tiles']:,} labelled places in {told['blocks']} blocks; each predicted from blocks "
        "that it is not in. p: McNemar, beside the stored numbers." + (left if few else ""),
        _table(
            ["code", "bytes", "kNN", "95 %", "p", "linear", "95 %", "p"],
            [
                [r["name"], r["bytes"], r["knn_acc"], _span(r, "knn"), r["knn_mcnemar_p"],
                 r["linear_acc"], _span(r, "linear"), r["linear_mcnemar_p"]]
                for r in told["probes"]
            ],
        ),
        "### F1 of the line, by class, and what a code takes from it",
        _table(
            ["class", "places", "stored", *(r["name"] for r in told["probes"][1:])],
            [
                [name, told["classes"][name], told["probes"][0]["f1"][name],
                 *(-r["f1_drop"][name] for r in told["probes"][1:])]
                for name in names
            ],
        ),
    ]  # fmt: skip


def _sizes(row: Doc) -> list[Any]:
    return [row["mle"], row["two_nn"], row["local_pca"]]


def _span(row: Doc, name: str) -> str:
    ends = [row[f"{name}_low"], row[f"{name}_high"]]
    return " to ".join(_cell(end) for end in ends)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _plots(document: Doc, where: Path, pyplot: Any) -> list[str]:
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for row in document["quantisers"]:
        axes.plot(row["bytes"], row["recall10"], "o", color="#1b6ca8")
        axes.annotate(row["name"], (row["bytes"], row["recall10"]), xytext=(5, 4),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xscale="log", xlabel="bytes a row", ylabel="recall@10", ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    figure.savefig(where / "recall.png", dpi=120)
    pyplot.close(figure)
    if not document["labels"]:
        return ["recall.png"]
    rows = document["labels"]["probes"]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    names = list(document["labels"]["classes"])
    for at, row in enumerate(rows[1:]):
        places = [i + (at - len(rows) / 2) * 0.09 for i in range(len(names))]
        axes.bar(places, [row["f1_drop"][name] for name in names], width=0.08, label=row["name"])
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set(ylabel="loss of F1")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(where / "f1_drop.png", dpi=120)
    pyplot.close(figure)
    return ["recall.png", "f1_drop.png"]


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra(
            "a report needs the report extra: pip install 'embarchive[report]'"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
