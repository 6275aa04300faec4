"""What a command is, and what it says: one JSON document, or lines of text."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from embarchive import __version__
from embarchive.errors import BadInput
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
            _check_given(values)
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


def refuse(names: Container[str], without: str) -> None:
    """Refuse options that were given where nothing would heed them. Raises BadInput."""
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is ParameterSource.COMMANDLINE:
            raise BadInput(f"{context.info_name}: {option.opts[0]} goes with {without}")


def _check_given(values: Mapping[str, Any]) -> None:
    """Raises BadInput for an argument or option that is given without text: it would count as not
    given, or as the folder that the process is in."""
    context = click.get_current_context()
    for option in context.command.params:
        value = values.get(option.name or "")
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        texts = value if isinstance(value, tuple | list) else (value,)
        if given and any(isinstance(text, str) and not text.strip() for text in texts):
            dashed = option.opts[0].startswith("-")
            name = option.opts[0] if dashed else option.human_readable_name
            raise BadInput(f"{context.info_name}: {name}: expected text, found none")


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
            text = json.dumps(value, default=str) if isinstance(value, list) else _shown(str(value))
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
    """Rows of values as aligned text, each in one line."""
    texts = [["" if value is None else _shown(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    pairs = [zip(row, widths, strict=True) for row in texts]
    return ["  ".join(text.ljust(width) for text, width in row).rstrip() for row in pairs]


def _shown(text: str) -> str:
    """A text of the archive without what would steer a terminal, as Python writes it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
