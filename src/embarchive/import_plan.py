"""What an import of vectors decides before it writes: cells, shards, int8 scale, SimHash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import digests, geohash, grid, survey
from embarchive.archive import Archive, open_archive
from embarchive.commit import find_head
from embarchive.errors import BadInput
from embarchive.layouts import Layout, Wishes, look
from embarchive.manifest import Space
from embarchive.progress import Report
from embarchive.quantize import LIMIT, Int8, SimHash, check_bits, fit_simhash
from embarchive.recipe import Settings
from embarchive.storage import Store
from embarchive.strictjson import canonical_json

# Numbers of the sample beyond this percentile are clipped. Recall@10 of int8 against floats, 4,000
# GeoCLIP vectors of 512 numbers and their first 64 components: .995 and .986; of 1.05 times the
# largest .993 and .985, of 99.9 % .993 and .985, of 99 % .973 and .949.
CLIPPED = 99.99
# Bytes of SimHash planes, which every reader fetches with the generation.
PLANES = 1 << 18


@dataclass(frozen=True)
class Options:
    """What a user may say of an import; None: decided from the rows."""

    precision: int | None = None
    bits: int | None = None
    title: str = ""
    attribution: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Job:
    """An import that is decided. held: the archive that it adds to, None for a new one."""

    layouts: tuple[Layout, ...]
    wishes: Wishes
    settings: Settings
    space: Space
    found: survey.Survey
    held: Archive | None

    @property
    def simhash(self) -> SimHash | None:
        """What makes the bits of rows."""
        return SimHash.from_json(self.space.simhash) if self.settings.bits else None


def decide(
    store: Store,
    out: str,
    paths: Sequence[str | Path],
    wishes: Wishes,
    options: Options,
    progress: Report,
) -> Job:
    """The settings and the space of an import. Raises BadInput."""
    layouts = tuple(look(path, wishes) for path in paths)
    held = open_archive(out) if find_head(store) else None
    for layout in layouts:
        _agree("numbers in a vector", layouts[0].dim, layout.dim, layout, "the first file")
        _agree("letters in a geohash", layouts[0].precision, layout.precision, layout, "the first")
        _agree_step(layouts[0].step, layout, f"those of {layouts[0].path.name}")
    if held is not None:
        return _appended(held, layouts, wishes, options, progress)
    found = survey.survey(layouts, progress)
    precision = options.precision or layouts[0].precision or found.precision
    if layouts[0].precision and precision > layouts[0].precision:
        raise BadInput(
            f"import: expected a precision of at most the {layouts[0].precision} letters of the "
            f"geohashes, found {precision}"
        )
    seen = survey.sample(layouts)
    scales = {layout.step for layout in layouts}
    step = layouts[0].step if len(scales) == 1 else None
    quantiser = Int8(step) if step else calibrate(seen)
    bits = default_bits(layouts[0].dim) if options.bits is None else options.bits
    shard = survey.shard_prefix(found, precision, layouts[0].dim)
    settings = _settings(precision, shard, layouts[0].dim, bits, options)
    space = _space(settings, quantiser, fit_simhash(quantiser.encode(seen), bits, 0), len(seen))
    return Job(layouts, wishes, settings, space, found, None)


def calibrate(sample: NDArray[np.float32]) -> Int8:
    """The int8 scale for vectors like those of a sample (n, dim)."""
    largest = np.percentile(np.abs(sample), CLIPPED, method="higher")
    return Int8(float(np.float32(largest / LIMIT)) or 1.0)


def default_bits(dim: int) -> int:
    """SimHash bits of vectors of so many numbers: a quarter of the embedding below 64, 128 up to
    128, then one a number as long as the planes stay small.

    The exact top 10 in a shortlist of 200, 4,000 GeoCLIP vectors of 512 numbers: 128 bits .909,
    256 .979, 512 .999, 1024 1.
    """
    if dim <= 128:
        return min(2 * dim // 8 * 8, 128)
    return max(min(dim, PLANES // dim) // 64 * 64, 64)


def _settings(precision: int, shard: int, dim: int, bits: int, options: Options) -> Settings:
    check_bits(bits, dim, "import")
    north = 180 / 2 ** geohash.halvings(precision)[1]
    return Settings(
        precision=precision,
        gsd=float(grid.metres_per_degree(0.0)[1]) * north,
        height=1,
        width=1,
        bands=(),
        units="",
        region_prefix=shard,
        shard_prefix=shard,
        indices={},
        dim=dim,
        bits=bits,
        codec="none",
        min_cover=0.0,
        min_valid=0.0,
        title=options.title,
        attribution=options.attribution,
        licence=options.licence,
    )


def _space(settings: Settings, quantiser: Int8, simhash: SimHash | None, tiles: int) -> Space:
    bits = simhash.to_json() if simhash else {}
    identity = canonical_json({"dim": settings.dim, "scale": quantiser.scale, "simhash": bits})
    return Space(
        space_id=f"imported-{digests.sha256(identity)[:16]}",
        encoder=None,
        encoder_length=0,
        dim=settings.dim,
        metric="l2",
        scale=quantiser.scale,
        simhash=bits,
        trained={"tiles": tiles},
    )


def _appended(
    held: Archive,
    layouts: tuple[Layout, ...],
    wishes: Wishes,
    options: Options,
    progress: Report,
) -> Job:
    """An import into an archive, in its newest space."""
    s, space = held.settings, held.space()
    if space.encoder is not None or s.bands:
        raise BadInput(
            f"import: expected a new archive or one of imported vectors, found {held.root}, which "
            "was built from scenes"
        )
    if s.packed:
        raise BadInput(
            f"import: expected an archive of int8 vectors, found {held.root}, made by `quantize`: "
            "add to the one that it was made of"
        )
    for layout in layouts:
        _agree_step(space.scale, layout, "those of the archive")
        _agree("numbers in a vector", s.dim, layout.dim, layout, "the archive")
        if layout.precision is not None and layout.precision < s.precision:
            _agree("letters in a geohash", s.precision, layout.precision, layout, "the archive")
    for name, wish in (("precision", options.precision), ("bits", options.bits)):
        if wish not in (None, getattr(s, name)):
            raise BadInput(
                f"import: expected the archive's {name}, {getattr(s, name)}, found {wish}"
            )
    return Job(layouts, wishes, s, space, survey.survey(layouts, progress), held)


def _agree(what: str, expected: Any, found: Any, layout: Layout, whose: str) -> None:
    if expected != found:
        raise BadInput(f"{layout.said}: expected {expected} {what} as in {whose}, found {found}")


def _agree_step(step: float | None, layout: Layout, whose: str) -> None:
    """Raises BadInput where int8 numbers of no known scale, whose step is 1, and floats would share
    a step. step: that of the others."""
    bare, found = step == 1.0, layout.step == 1.0
    if bare != found:
        kinds = "floats", "int8 numbers of no known scale"
        raise BadInput(
            f"{layout.said}: expected vectors of {kinds[bare]}, as {whose}, found {kinds[found]}: "
            "import them apart"
        )
