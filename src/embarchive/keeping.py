"""The commands that look after an archive: what is no longer needed, what is in small pieces, and
what makes searches of all of it short, what it looks like from afar; and what others' catalogues
are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from embarchive.options import ARCHIVE
from embarchive.terminal import Shell, command


@command(
    ARCHIVE,
    click.option(
        "--grace", type=float, default=24.0, show_default=True, metavar="HOURS",
        help="More than any job or open reader takes.",
    ),
    click.option("--delete", is_flag=True, help="Remove it; without, nothing is written."),
)  # fmt: skip
def gc(shell: Shell, archive: str, grace: float, delete: bool) -> None:
    """List what nothing in ARCHIVE needs any longer; with --delete remove it."""
    from embarchive.collect import collect
    from embarchive.store import open_store

    found = collect(open_store(archive), grace=grace, delete=delete, progress=shell.progress)
    shell.say(found, _lines(found))


@command(
    ARCHIVE,
    click.option("--below", type=click.IntRange(1), metavar="ROWS", help="Default 16384."),
)
def compact(shell: Shell, archive: str, below: int | None) -> None:
    """Merge small shards of a prefix; rows stay, old shards too until gc."""
    from embarchive.compact import BELOW
    from embarchive.compact import compact as merge
    from embarchive.store import open_store

    found = merge(open_store(archive), below=below or BELOW, progress=shell.progress)
    none = ["nothing to merge: generation {generation} stays".format(**found)]
    shell.say(found, None if found["merged"] or found["segments"] else none)


@command(
    ARCHIVE,
    click.option(
        "--lists",
        type=click.IntRange(1, 1 << 15),
        help="Default 12 cbrt(rows).",
    ),
)
def overview(shell: Shell, archive: str, lists: int | None) -> None:
    """Write lists by which a search of all of ARCHIVE reads a small share of it."""
    from embarchive.make_overview import make
    from embarchive.store import open_store

    shell.say(make(open_store(archive), lists=lists, progress=shell.progress))


@command(
    ARCHIVE,
    click.option(
        "--items", type=click.Choice(["json", "parquet"]),
        help="An Item a shard: a file each, or all in one stac-geoparquet file.",
    ),
    click.option("--base-url", metavar="URL", default="", help="Where the archive is read."),
    click.option("--model", metavar="URL", default="", help="What describes the encoder."),
    click.option("--source-data", metavar="URL", default="", help="The scenes' collection."),
)  # fmt: skip
def stac(shell: Shell, archive: str, items: str | None, **links: str) -> None:
    """Write a STAC collection.json, and Items if wished, beside the data of ARCHIVE."""
    from embarchive.catalog import write_catalog
    from embarchive.collection import Wishes
    from embarchive.store import open_store

    done = write_catalog(open_store(archive), Wishes(items or "", **links), shell.progress)
    lines = [f"wrote {done['collection']}, {done['items']:,} Items, {done['bytes']:,} bytes"]
    if done["undated"]:
        lines.append(f"shards without a date, which an Item must have: {done['undated']:,}")
    if done["lacks"]:
        lines.append("without the embedding extension, which wants the encoder: give --model URL")
    shell.say(done, lines)


@command(ARCHIVE)
def pyramid(shell: Shell, archive: str) -> None:
    """Make the mean embeddings of coarser cells, so that ARCHIVE is drawn at every zoom."""
    from embarchive.levels import make_pyramid
    from embarchive.store import open_store

    found = make_pyramid(open_store(archive), progress=shell.progress)
    same = ["nothing new: generation {generation} has it".format(**found)]
    shell.say(found, None if found["made"] else same)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    verb = "removed" if found["deleted"] else "would remove"
    for one in found["removed"]:
        yield f"{verb} {one['object']}, {one['bytes']:,} bytes, {one['age'] / 3600:.1f} h old"
    yield (
        f"{verb} {len(found['removed']):,} objects, {found['bytes']:,} bytes; "
        f"{found['kept']:,} objects stay"
    )
