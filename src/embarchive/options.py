"""The options that commands share, each defined once, and how their text is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from embarchive.engine import ENGINES
from embarchive.recipe import CODECS, ENCODERS

Body = Callable[..., None]
Option = Callable[[Body], Body]


def _numbers(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        sides = tuple(float(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if len(sides) != 4:
        raise click.BadParameter(f"expected W,S,E,N in degrees, found {text!r}")
    return sides


def dates_of(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """A day or a range; a slash alone says neither, though the page takes it for all dates."""
    if text is not None and text.strip() == "/":
        raise click.BadParameter("expected a day, or A/B with .. for an open side, found '/'")
    return text


def names_of(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Names between commas, None without."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _part(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise click.BadParameter(f"expected i/N with i from 0 to N - 1, found {text!r}")
    return int(index), int(count)


# What a table of hits can count, and what scikit-learn takes for a seed.
HITS = click.IntRange(max=2**31 - 1)
SEED = click.IntRange(0, 2**32 - 1)
ARCHIVE = click.argument("archive")
SCENES = click.argument("scenes", nargs=-1, required=True)
COMMON: tuple[Option, ...] = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-v", "--verbose", count=True, help="Log more; twice for tracebacks."),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)
WHERE: tuple[Option, ...] = (
    click.option("--bbox", metavar="W,S,E,N", callback=_numbers, help="Box, degrees."),
    click.option(
        "--datetime",
        metavar="A/B",
        callback=dates_of,
        help="A day, or a range; .. leaves a side open.",
    ),
)
BAND = click.option("--band", metavar="B", help="Of an archive of single bands, only this one.")
POLYGON = click.option("--polygon", metavar="FILE", help="GeoJSON or WKT file.")
EXEMPLARS: tuple[Option, ...] = (
    click.option(
        "--like",
        multiple=True,
        metavar="PLACE",
        help="LON,LAT, GEOHASH, GEOHASH@DATE or an image file; repeatable.",
    ),
    click.option("--unlike", multiple=True, metavar="PLACE", help="What to stay away from."),
    click.option(
        "--op",
        type=click.Choice(["mean", "min", "and", "or", "xor", "majority"]),
        default="mean",
        show_default=True,
        help="mean, min: of distances to several; and, or, xor, majority: of their bits.",
    ),
    click.option("--not", "invert", is_flag=True, help="The least similar instead."),
    click.option("-k", type=HITS, default=50, show_default=True, help="How many hits."),
    click.option("--exact", is_flag=True, help="Rank every candidate, without a shortlist."),
    click.option(
        "--per-place",
        type=click.IntRange(0, 1),
        default=1,
        show_default=True,
        help="1: the best date of a place; 0: every date.",
    ),
    click.option("--space", metavar="ID", help="Embedding space; default the newest."),
)
SCENE_WISHES: tuple[Option, ...] = (
    click.option("--recipe", metavar="FILE", help="TOML file, see docs/recipe.md."),
    click.option("--precision", type=int, metavar="P", help="Geohash length of a tile."),
    click.option("--bands", metavar="A,B,…", callback=names_of, help="Bands to keep, in order."),
    click.option("--dates", metavar="A,B,…", callback=names_of, help="Dates the files lack."),
    click.option("--seed", type=SEED, metavar="N", help="Seed of training."),
)
RECIPE: tuple[Option, ...] = (
    *SCENE_WISHES,
    click.option("--single-band", is_flag=True, default=None, help="Every band a tile of its own."),
    click.option("--codec", type=click.Choice(CODECS), help="What a region's decoder is."),
    click.option("--encoder", type=click.Choice(ENCODERS), help="Which space; tile2vec: a second."),
)
OUT = click.option("--out", required=True, metavar="ARCHIVE", help="Folder or s3:// URL.")
ENGINE: tuple[Option, ...] = (
    click.option("--engine", type=click.Choice(ENGINES), default="serial", show_default=True),
    click.option("--workers", type=click.IntRange(1), metavar="N", help="Parts at once."),
    click.option("--ray-address", metavar="URL", help="ray://HOST:PORT, HOST:PORT or auto."),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(0, min_open=True),
        metavar="F",
        help="GPUs, or a share of one, that Ray sets aside for each worker.",
    ),
)
PLAN = click.option("--plan", metavar="PLAN", help="Default: the only plan in the archive.")
PART = click.option("--part", metavar="i/N", callback=_part, help="One of N, from 0.")
