"""The commands that ask an archive for more than a search: change, view, path, evaluate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from embarchive.errors import BadInput
from embarchive.options import ARCHIVE, BAND, HITS, POLYGON, SEED, WHERE, dates_of
from embarchive.terminal import Shell, columns, command, refuse

if TYPE_CHECKING:
    import pyarrow as pa


def _spans(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    return None if text is None else [span.strip() for span in text.split(",")]


_BBOX, _DATETIME = WHERE
_SPACE = click.option("--space", metavar="ID", help="Embedding space; default the newest.")
_UNLIKE = click.option("--unlike", multiple=True, metavar="PLACE", help="What to stay away from.")
_TABLE = "Write all of it: .parquet .geojson .csv .json."
_KINDS = ("heat", "threshold", "outlier", "surprise", "gradient")


@command(
    ARCHIVE,
    click.option(
        "--before", metavar="A/B", callback=dates_of, help="The first window: a day, or a range."
    ),
    click.option(
        "--after", metavar="C/D", callback=dates_of, help="The window to compare with it."
    ),
    click.option("--windows", metavar="A/B,C/D,…", callback=_spans, help="Two windows or more."),
    click.option(
        "--like",
        multiple=True,
        metavar="PLACE",
        help="Changed like this: LON,LAT or GEOHASH, with @D1..D2 in windows of its own.",
    ),
    _UNLIKE,
    click.option("-k", type=HITS, default=50, show_default=True, help="How many hits."),
    click.option(
        "--floor", type=float, metavar="F", help="Share of places that changed too little."
    ),
    click.option("--valid", type=float, metavar="V", help="Least valid fraction; default 0.8."),
    click.option("--plain", is_flag=True, help="Differences as they are, not beside the usual."),
    _BBOX,
    POLYGON,
    _SPACE,
    BAND,
    click.option("--out", metavar="FILE", help="Write hits: .parquet .geojson .csv .json."),
)
def change(
    shell: Shell,
    archive: str,
    before: str | None,
    after: str | None,
    windows: Sequence[str] | None,
    out: str | None,
    **options: Any,
) -> None:
    """Find the places that changed most between dates, or with --like those that changed alike."""
    if (before is None) != (after is None) or (before is None) == (windows is None):
        raise BadInput("change: expected either --before and --after or --windows")
    spans = windows or [before or "", after or ""]
    from embarchive.archive import open_archive

    given = {name: value for name, value in options.items() if value is not None}
    hits = _written(out, lambda: open_archive(archive).change(*spans, **given))
    said = _said(hits)
    floor = f", changes below {said['floor']:.4f} left out" if options["like"] else ""
    summary = f"{len(hits)} hits of {said['places']} places{floor}"
    heads = ("geohash", "date", "score", "change", "valid", "source")
    names = ("geohash", "datetime", "score", "change", "valid_fraction", "source")
    shell.say({"hits": _records(hits), **said}, [*_lines(hits, heads, names), summary])


@command(
    ARCHIVE,
    click.option("--kind", type=click.Choice(_KINDS), required=True),
    click.option(
        "--like",
        multiple=True,
        metavar="PLACE",
        help="LON,LAT, GEOHASH, GEOHASH@DATE or an image file; of heat, threshold, gradient.",
    ),
    _UNLIKE,
    click.option("--threshold", type=float, metavar="T", help="Only scores up to this."),
    click.option(
        "--seed", type=SEED, default=0, show_default=True, help="Of the outliers' sample."
    ),
    click.option(
        "-k",
        type=click.IntRange(1, 2**31 - 1),
        default=50,
        show_default=True,
        help="How many to print.",
    ),
    *WHERE,
    POLYGON,
    _SPACE,
    BAND,
    click.option("--out", metavar="FILE", help=_TABLE),
)
def view(shell: Shell, archive: str, k: int, out: str | None, **options: Any) -> None:
    """A number for every place: how like, how odd, how unlike what lies around."""
    if options["kind"] != "outlier":
        refuse({"seed"}, "--kind outlier")
    from embarchive.archive import open_archive

    table = _written(out, lambda: open_archive(archive).view(**options))
    said, head = _said(table), table.slice(0, k)
    summary = f"{len(table)} of {said['places']} places, {len(head)} shown"
    heads, names = (
        ("geohash", "date", "score", "source"),
        ("geohash", "datetime", "score", "source"),
    )
    document = {"rows": _records(head), "count": len(table), **said}
    shell.say(document, [*_lines(head, heads, names), summary])


@command(
    ARCHIVE,
    click.option("--from", "a", required=True, metavar="PLACE", help="Where the path begins."),
    click.option("--to", "b", required=True, metavar="PLACE", help="Where it ends."),
    click.option("--steps", type=int, default=8, show_default=True, help="Ends included."),
    *WHERE,
    POLYGON,
    _SPACE,
    BAND,
    click.option("--out", metavar="FILE", help="A picture .png, or .parquet .geojson .csv .json."),
)
def path(shell: Shell, archive: str, out: str | None, **options: Any) -> None:
    """Walk from one tile's vector to another's, by the nearest tile at each step."""
    from embarchive.archive import open_archive
    from embarchive.save import path_kind, write_path

    picture = out is not None and path_kind(out)
    opened = open_archive(archive)
    if picture and not opened.space(options["space"]).backbone:
        here = opened.space(options["space"])
        what = "imported ones" if here.kind == "none" else f"those of {here.kind}"
        raise BadInput(f"path: expected rows that have a decoder for a picture, found {what}")
    table = _written(None if picture else out, lambda: opened.path(**options))
    if out is not None and picture:
        write_path(opened, table, out)
    heads = ("step", "geohash", "date", "score", "source")
    names = ("step", "geohash", "datetime", "score", "source")
    shell.say({"steps": _records(table), **_said(table)}, _lines(table, heads, names))


def _written(out: str | None, ask: Any) -> pa.Table:
    """What is asked for, also written to a file whose suffix was looked at before."""
    from embarchive.save import table_kind, write_table

    if out:
        table_kind(out)
    table = ask()
    if out:
        write_table(table, out)
    return table


def _records(table: pa.Table) -> list[dict[str, Any]]:
    from embarchive.save import records

    return records(table)


def _said(table: pa.Table) -> dict[str, Any]:
    """The metadata of an answer as values."""
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return {key: text if key == "space_id" else json.loads(text) for key, text in found.items()}


def _lines(table: pa.Table, heads: Sequence[str], names: Sequence[str]) -> list[str]:
    """Columns of a table as aligned text."""

    def text(name: str, value: Any) -> str:
        if name == "datetime":
            return str(value or "-")[:10]
        digits = {"score": 4, "change": 4, "valid_fraction": 2}
        return f"{value:.{digits[name]}f}" if name in digits else str(value)

    cells = [[text(name, value) for value in table[name].to_pylist()] for name in names]
    return columns([heads, *zip(*cells, strict=True)])


@command(
    ARCHIVE,
    click.option("--with", "methods", metavar="NAME", multiple=True, help="Quantiser; repeatable."),
    click.option("--labels", metavar="FILE", help="Classes of places: CSV or GeoJSON."),
    click.option("--column", metavar="NAME", default="label", show_default=True),
    _SPACE,
    BAND,
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option("--out", metavar="FOLDER", help="Write a report with plots."),
)
def evaluate(shell: Shell, archive: str, out: str | None, **options: Any) -> None:
    """Measure how well the vectors serve: quantisers, intrinsic dimension, probes of labels."""
    if options["labels"] is None:
        refuse({"column"}, "--labels")
    from embarchive.archive import open_archive
    from embarchive.evaluate import evaluate as measure
    from embarchive.report import check_folder, markdown, write_report

    if out:
        check_folder(out)
    options["methods"] = options["methods"] or None
    found = measure(open_archive(archive), progress=partial(shell.progress, "evaluate"), **options)
    if out:
        write_report(found, out)
    shell.say(found, markdown(found).splitlines())
