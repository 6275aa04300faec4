"""The commands that read an archive, and the process of all: parse, call the library, print.

Exit status: 0 done, 1 a check failed, 2 bad input (one line on standard error), 130
interrupted. With --json one JSON document goes to standard output; progress goes to
standard error. What is heavy or optional is imported by the command that needs it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embarchive import asking, keeping, making  # noqa: F401  # their commands
from embarchive.errors import BadInput, EmbarchiveError, reason_of
from embarchive.options import ARCHIVE, BAND, EXEMPLARS, POLYGON, WHERE, names_of
from embarchive.terminal import Shell, cli, columns, command, hit_lines, refuse

if TYPE_CHECKING:
    from embarchive.archive import Archive

EXTRAS = {
    "torch": "encode",
    "rasterio": "encode",
    "sklearn": "report",
    "onnx": "encode",
    "onnxscript": "encode",
    "duckdb": "sql",
    "geopandas": "geo",
    "ray": "cluster",
    "matplotlib": "report",
}


@command(ARCHIVE)
def info(shell: Shell, archive: str) -> None:
    """Say what an archive holds."""
    from embarchive.archive import open_archive

    shell.say(open_archive(archive).info())


@command(ARCHIVE)
def verify(shell: Shell, archive: str) -> None:
    """Hash every object of the newest generation again; status 1 when one is damaged."""
    from embarchive.store import open_store
    from embarchive.verify import verify as check

    found = check(open_store(archive), partial(shell.progress, "verify"))
    bad = [f"bad {b['object']}: expected {b['expected']}, found {b['found']}" for b in found["bad"]]
    verdict = f"{'ok' if found['ok'] else 'damaged'}, {found['checked']} objects checked"
    shell.say(found, [*bad, verdict])
    if not found["ok"]:
        raise click.exceptions.Exit(1)


@command(
    ARCHIVE,
    *EXEMPLARS,
    *WHERE,
    BAND,
    POLYGON,
    click.option("--queries", metavar="FILE", help="Many searches: what to be like, one a line."),
    click.option("--out", metavar="FILE", help="Write hits: .parquet .geojson .csv .json."),
)
def search(
    shell: Shell, archive: str, out: str | None, queries: str | None, **options: Any
) -> None:
    """Find the tiles most like some places, points or images."""
    from embarchive.archive import open_archive
    from embarchive.find import together
    from embarchive.save import records, table_kind, write_table

    if out:
        table_kind(out)
    like = options.pop("like")
    if queries and like:
        raise BadInput("search: expected either --like or --queries, found both")
    likes = _lines(queries) if queries else [like]
    tables = open_archive(archive).search_many(likes, **options)
    spent = {key.decode(): text.decode() for key, text in tables[0].schema.metadata.items()}
    hits = together(likes, tables) if queries else tables[0]
    lines = hit_lines(hits)
    if queries:
        blocks = zip(likes, tables, strict=True)
        lines = [line for like, some in blocks for line in [f"like {like}", *hit_lines(some), ""]]
    if out:
        write_table(hits, out)
    document = {
        "hits": records(hits),
        "seconds": float(spent["seconds"]),
        "requests": int(spent["requests"]),
        "bytes_read": int(spent["bytes_read"]),
        "space_id": spent["space_id"],
    }
    summary = "{} hits in {seconds:.3f} s, {requests} requests, {bytes_read:,} bytes"
    shell.say(document, [*lines, summary.format(len(hits), **document)])


@command(
    ARCHIVE,
    click.option("--geohash", multiple=True, metavar="G", help="A cell or a prefix; repeatable."),
    *WHERE,
    BAND,
    POLYGON,
    click.option("--level", type=int, metavar="N", help="Means of cells so long, of the pyramid."),
    click.option("--out", required=True, metavar="FILE", help="OUT.tif or OUT.png."),
)
def decode(
    shell: Shell, archive: str, geohash: Sequence[str], level: int | None, out: str, **options: Any
) -> None:
    """Decode tiles to one image, of each cell its latest good date; or cells of the pyramid."""
    from embarchive import oneband
    from embarchive.archive import open_archive
    from embarchive.rows import ORDER
    from embarchive.save import image_kind, write_cells, write_images

    image_kind(out)
    opened = open_archive(archive)
    if level is not None:
        refuse({"datetime", "band"}, "tiles, not with --level")
        where = {key: options[key] for key in ("bbox", "polygon")}
        space = next((one.space_id for one in opened.spaces[::-1] if one.backbone), None)
        cells = opened.pyramid(level, geohash=list(geohash) or None, space=space, **where)
        write_cells(opened, cells, out)
        shell.say({"out": out, "cells": len(cells)}, [f"{out}: {len(cells)} cells"])
        return
    if oneband.single(opened.settings) and options["band"] is None:
        raise BadInput(f"decode: expected --band, one of {', '.join(opened.bands)}")
    wanted = [*ORDER, "model_id", "valid_fraction"]
    rows = opened.select(geohash=list(geohash) or None, columns=wanted, **options)
    write_images(opened, rows, out)
    tiles = len(set(rows["geohash"].to_pylist()))
    shell.say({"out": out, "tiles": tiles}, [f"{out}: {tiles} tiles"])


@command(
    ARCHIVE,
    click.option("--out", required=True, metavar="FILE", help="F.parquet, F.geojson or F.csv."),
    *WHERE,
    POLYGON,
    click.option("--space", metavar="ID", help="Embedding space; default the newest."),
    click.option(
        "--columns", metavar="A,B,…", callback=names_of, help="Default: all but bits, code."
    ),
    BAND,
    click.option("--int8", is_flag=True, help="Vectors as stored, not as float32."),
)
def export(shell: Shell, archive: str, out: str, **options: Any) -> None:
    """Write rows with their vectors as GeoParquet, GeoJSON or CSV."""
    from embarchive import exporting
    from embarchive.archive import open_archive

    wanted = exporting.Wanted(**options)
    done = exporting.export(open_archive(archive), out, wanted, shell.progress)
    shell.say(done, [f"{out}: {done['rows']:,} rows, {done['bytes']:,} bytes"])


@command(
    ARCHIVE,
    click.argument("statement", required=False),
    click.option("--print", "script", is_flag=True, help="Print SQL for the plain duckdb client."),
    *EXEMPLARS,
    *WHERE,
)
def sql(shell: Shell, archive: str, statement: str | None, script: bool, **options: Any) -> None:
    """Run a statement over the views tiles, shards and models.

    With --print: the script with which the plain duckdb client does the search, or without
    --like makes the view tiles. That client checks no hashes.
    """
    if bool(statement) == script:
        raise BadInput("sql: expected either a statement or --print")
    if not script:
        refuse(options, "--print")
    elif not options["like"]:
        refuse(options.keys() - {"bbox", "datetime", "space"}, "--like")
    from embarchive import sql as door
    from embarchive.archive import open_archive
    from embarchive.save import plain

    opened = open_archive(archive)
    if script:
        text = door.plain_sql(opened, **options) if options["like"] else _view(opened, **options)
        shell.say({"sql": text}, [text.rstrip()])
        return
    table = door.run(opened.sql(), statement or "")
    # Two columns may have one name.
    cells = [plain(column.to_pylist()) for column in table.columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    shell.say({"columns": table.column_names, "rows": rows}, columns([table.column_names, *rows]))


@command(
    click.argument("archive", required=False),
    click.option("--demo", is_flag=True, help="Serve the archive that comes with embarchive."),
    click.option("--host", default="127.0.0.1", show_default=True),
    click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True),
)
def serve(shell: Shell, archive: str | None, demo: bool, host: str, port: int) -> None:
    """Serve an archive over HTTP with byte ranges, until interrupted; port 0: any free one."""
    if bool(archive) == demo:
        raise BadInput("serve: expected either an archive or --demo")
    from embarchive import serve as server

    application = server.app(archive or server.demo_root())
    listening = server.listen(host, port)
    url = server.url_of(listening)
    shell.say({"url": url}, [f"{archive or 'the demo archive'} is served; open {url} in a browser"])
    server.serve_on(application, listening)


@command(ARCHIVE)
def publish(shell: Shell, archive: str) -> None:
    """Put the page that searches an archive in a browser beside its data."""
    from embarchive.publish import publish as put

    done = put(archive)
    lines = [f"wrote {len(done['files'])} files, {done['bytes']:,} bytes"]
    lines += [f"removed {path}, of an older page" for path in done["removed"]]
    lines += [f"kept {path}, which is not of `embarchive publish`" for path in done["kept"]]
    shell.say(done, [*lines, f"the page is {done['page']}"])


# ------------------------------------------------------------ the process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit status."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_text(line)
        with cli.make_context("embarchive", line) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        bare.show()
        return 2
    except click.ClickException as error:
        where = error.ctx.command_path if getattr(error, "ctx", None) else "embarchive"  # type: ignore[attr-defined]
        return _fail(f"{error.format_message()} (see {where} --help)")
    except EmbarchiveError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(f"{line[0]} needs the {extra} extra: pip install 'embarchive[{extra}]'")
    except BrokenPipeError:
        # The reader has gone; nothing more may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename or line[0]}: {reason_of(error)}")
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    return 0


def _fail(message: str, status: int = 2) -> int:
    logging.getLogger("embarchive").debug("", exc_info=True)
    click.echo(f"embarchive: {' '.join(message.split())}", err=True)
    return status


def _check_text(line: Sequence[str]) -> None:
    """Raises BadInput for bytes that are no UTF-8, which neither files nor JSON could hold."""
    for word in line:
        try:
            word.encode()
        except UnicodeEncodeError:
            found = ascii(os.fsencode(word))[1:60]
            raise BadInput(f"command line: expected text in UTF-8, found {found}") from None


def _lines(path: str) -> list[str]:
    """The lines of a text file that say something."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected lines of text, found other bytes") from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise BadInput(f"{path}: expected an exemplar a line, found none")
    return found


def _view(archive: Archive, bbox: Any, datetime: str | None, space: str | None, **_: Any) -> str:
    """A script for the plain duckdb client that makes the view tiles."""
    from embarchive import queries
    from embarchive.filters import make_filter
    from embarchive.reads import choose

    wanted, here = make_filter(bbox, None, None, datetime), archive.space(space)
    where = " AND ".join(queries.conditions(wanted)) or "true"
    quantiser = archive.quantiser(here)
    relation = queries.plain_relation(quantiser)
    body = f"CREATE TEMP VIEW tiles AS\nSELECT * FROM {relation}\nWHERE {where}"
    if not archive.plan(wanted, space).reads:
        raise BadInput("sql: no shard of the archive can match, nothing to read")
    parts = [part.sha256 for part in choose(archive.parts, wanted)]
    return queries.plain_script(
        archive.root, parts, archive.generation, here.space_id, wanted, body, quantiser
    )


if __name__ == "__main__":
    sys.exit(main())
