"""The commands that make an archive, and those that come before one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from embarchive.engine import Engine
from embarchive.options import (
    ARCHIVE,
    ENGINE,
    OUT,
    PART,
    PLAN,
    RECIPE,
    SCENE_WISHES,
    SCENES,
)
from embarchive.recipe import Recipe, read_recipe
from embarchive.terminal import Shell, command, size_lines

WISHES = ("vector", "geometry", "lon", "lat", "datetime", "source")


@command(
    SCENES,
    OUT,
    *RECIPE,
    *ENGINE,
    click.option("--dry-run", is_flag=True, help="Say tiles, bytes and time; write nothing."),
)
def build(shell: Shell, scenes: Sequence[str], out: str, **options: Any) -> None:
    """Make an archive from SCENES, or add them to one: plan, train, encode and commit.

    SCENES are rasters, .SAFE or Landsat folders, folders, globs, or STAC Items, whose files may be
    on the network.
    """
    dry = options.pop("dry_run")
    where, recipe = _engine(options), _recipe(**options)
    from embarchive import jobs

    if dry:
        shell.say(jobs.dry_run(list(scenes), out, recipe))
        return
    shell.say(jobs.build(list(scenes), out, recipe, engine=where, progress=shell.progress))


@command(
    ARCHIVE,
    SCENES,
    *RECIPE,
    *ENGINE,
)
def reencode(shell: Shell, archive: str, scenes: Sequence[str], **options: Any) -> None:
    """Train a new encoder on SCENES and encode them in an embedding space of its own, beside
    what ARCHIVE has."""
    where, recipe = _engine(options), _recipe(**options)
    from embarchive import jobs

    progress = shell.progress
    shell.say(jobs.reencode(list(scenes), archive, recipe, engine=where, progress=progress))


@command(
    SCENES,
    OUT,
    *RECIPE,
    click.option("--parts", type=click.IntRange(1), default=1, show_default=True, metavar="N"),
)
def plan(shell: Shell, scenes: Sequence[str], out: str, parts: int, **options: Any) -> None:
    """Write the plan of a build in N parts, for array jobs."""
    recipe = _recipe(**options)
    from embarchive import jobs

    shell.say(jobs.plan(list(scenes), out, recipe, parts=parts))


@command(
    ARCHIVE, PLAN, PART, click.option("--backbone", is_flag=True, help="Only the shared networks.")
)
def train(shell: Shell, archive: str, **options: Any) -> None:
    """Train what a plan needs: the shared networks first, then one decoder a region."""
    from embarchive import jobs

    shell.say(jobs.train(archive, **options, progress=shell.progress))


@command(ARCHIVE, PLAN, PART)
def encode(shell: Shell, archive: str, **options: Any) -> None:
    """Encode the tiles of one part of a plan, or of all."""
    from embarchive import jobs

    shell.say(jobs.encode(archive, **options, progress=shell.progress))


@command(ARCHIVE, PLAN)
def commit(shell: Shell, archive: str, plan: str | None) -> None:
    """Make what the parts of a plan have written the next generation."""
    from embarchive import jobs

    shell.say(jobs.commit(archive, plan=plan, progress=shell.progress))


@command(
    SCENES,
    *SCENE_WISHES,
    click.option("--error", type=float, metavar="E", help="Mean squared error to meet."),
    click.option("--relative", is_flag=True, help="E and errors as shares of the tile mean's."),
)
def size(
    shell: Shell, scenes: Sequence[str], error: float | None, relative: bool, **options: Any
) -> None:
    """Say how many numbers a tile's code needs, from short trainings on some regions."""
    recipe = _recipe(**options)
    from embarchive.step_size import size as choose

    progress = shell.progress
    found = choose(list(scenes), recipe, error=error, relative=relative, progress=progress)
    shell.say(found, size_lines(found))


@command(
    ARCHIVE,
    click.option("--to", required=True, metavar="NEW", help="Folder or s3://bucket/prefix."),
    click.option("--with", "method", required=True, metavar="NAME", help="As int4, pca16+pq8."),
    click.option("--bits", type=int, metavar="N", help="SimHash bits; default as ARCHIVE has."),
)
def quantize(shell: Shell, archive: str, to: str, method: str, bits: int | None) -> None:
    """Write ARCHIVE again with embeddings as codes of a few bytes, and say what they cost."""
    from embarchive.requantize import requantize

    shell.say(requantize(archive, to, method, bits=bits, progress=shell.progress))


@command(
    click.argument("files", nargs=-1, required=True, metavar="VECTORS.parquet..."),
    OUT,
    click.option("--vector", metavar="COL", help="Lists of numbers, or the stem of columns."),
    click.option("--geometry", metavar="COL", help="WKB or geoarrow."),
    click.option("--lon", metavar="COL", help="Longitude, degrees; with --lat."),
    click.option("--lat", metavar="COL", help="Latitude, degrees."),
    click.option("--datetime", metavar="COL", help="Dates, or years."),
    click.option("--source", metavar="COL", help="Where rows are from; default the file's name."),
    click.option("--precision", type=click.IntRange(1, 12), metavar="P", help="Geohash length."),
    click.option("--bits", type=click.IntRange(0), metavar="N", help="SimHash bits a row."),
    click.option("--title", default="", metavar="TEXT"),
    click.option("--attribution", default="", metavar="TEXT"),
    click.option("--licence", default="", metavar="TEXT"),
)
def import_(shell: Shell, files: Sequence[str], out: str, **options: Any) -> None:
    """Make an archive from (Geo)Parquet files of embeddings, or add them to one made so."""
    from embarchive.import_plan import Options
    from embarchive.importing import import_vectors
    from embarchive.layouts import Wishes

    wishes = Wishes(**{field: options.pop(field) for field in WISHES})
    said = Options(**options)
    shell.say(import_vectors(list(files), out, wishes, said, shell.progress))


def _engine(options: dict[str, Any]) -> Engine:
    """The engine that options name, which are taken out of them. Raises BadInput."""
    kind, workers = options.pop("engine"), options.pop("workers")
    return Engine(kind, workers, options.pop("ray_address"), options.pop("gpus_per_worker") or 0.0)


def _recipe(recipe: str | None, **given: Any) -> Recipe:
    base = read_recipe(recipe) if recipe else Recipe()
    return replace(base, **{name: value for name, value in given.items() if value is not None})
