"""What a command is, and what it says: one JSON document, or lines of text."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from embarchive import __version__
from embarchive.options import COMMON, Body, Option
from embarchive.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Shell:
    """How a command speaks: one JSON document or lines of text, and progress."""

    as_json: bool
    progress: Progress

    def say(self, document: Mapping[str, Any], lines: Iterable[str] | None = None) -> None:
        """The result of a command; lines: its text form, by default one line a value."""
        if self.as_json:
            from embarchive.save import plain

            click.echo(json.dumps(plain(document), allow_nan=False, indent=2))
        else:
            click.echo("\n".join(lines_of(document) if lines is None else lines))
        sys.stdout.flush()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Satellite scenes as searchable, decodable embeddings in plain files."""


def command(*options: Option) -> Callable[[Body], Body]:
    """Register a function as the command of its name, without the `_` that keeps it from being a
    word of Python, with the options all commands have."""

    def register(body: Body) -> Body:
        def run(as_json: bool, verbose: int, quiet: bool, **values: Any) -> None:
            _log(verbose)
            progress = Progress(quiet)
            try:
                body(Shell(as_json, progress), **values)
            finally:
                progress.close()

        run.__doc__ = body.__doc__
        decorated: Body = run
        for option in reversed((*options, *COMMON)):
            decorated = option(decorated)
        cli.command(name=body.__name__.rstrip("_"))(decorated)
        return body

    return register


def _log(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("embarchive").setLevel(level)


def lines_of(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line a value; values of an inner mapping under dotted names."""
    lines = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += lines_of(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            lines.append(f"{prefix}{key}: {value:,}")
        else:
            text = json.dumps(value, default=str) if isinstance(value, list) else str(value)
            lines.append(f"{prefix}{key}: {text}")
    return lines


def hit_lines(hits: pa.Table) -> list[str]:
    """A table of hits as aligned text, best first."""
    heads = ["geohash", "date", "score", "valid", "source"]
    rows = zip(
        hits["geohash"].to_pylist(),
        [str(day or "-")[:10] for day in hits["datetime"].to_pylist()],
        [f"{score:.4f}" for score in hits["score"].to_pylist()],
        [f"{share:.2f}" for share in hits["valid_fraction"].to_pylist()],
        hits["source"].to_pylist(),
        strict=True,
    )
    return columns([heads, *map(list, rows)])


def size_lines(found: Mapping[str, Any]) -> list[str]:
    """The document of `size` as text: regions, fits, the curve, the choice."""
    names = list(found["regions"][0]["complexity"])
    regions: list[list[Any]] = [["region", "tiles", *names, "tile mean"]]
    for row in found["regions"]:
        level = [f"{value:.3g}" for value in row["complexity"].values()]
        regions.append([row["name"], row["tiles"], *level, f"{row['tile_mean']:.3g}"])
    fits = [["complexity", "form", "held-out R2"]]
    fits += [[row["complexity"], row["form"], f"{row['r2']:.3f}"] for row in found["fits"]]
    curve: list[list[Any]] = [["numbers", "predicted error", "measured"]]
    for row in found["curve"]:
        seen = None if row["measured"] is None else f"{row['measured']:.3g}"
        curve.append([row["size"], f"{row['error']:.3g}", seen])
    best, asked = found["best"], found["error"]
    verdict = f"none: {found['reason']}"
    if found["chosen"] is not None:
        verdict = f"{found['chosen']}, the least that meets {asked:g}"
    told = f"best fit: {best['form']} in {best['complexity']}; errors in {found['unit']}"
    parts = [columns(regions), columns(fits), [told], columns(curve)]
    return [line for part in parts for line in [*part, ""]] + [f"chosen: {verdict}"]


def columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows of values as aligned text."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    pairs = [zip(row, widths, strict=True) for row in texts]
    return ["  ".join(text.ljust(width) for text, width in row).rstrip() for row in pairs]
