"""Which bands a product's files offer, which of them a recipe takes, and how they scale.

No file is opened here: headers come in, `Band`s go out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from embarchive import folders
from embarchive.bandnames import is_companion, same_key
from embarchive.errors import BadInput
from embarchive.product import Band, Layer, Product, absolute, is_remote, names_of
from embarchive.rasters import Header
from embarchive.recipe import Recipe, parse_date
from embarchive.sensors import Scaling, scaling_by_name


@dataclass(frozen=True)
class Offer:
    """A band that a file offers, and the date it is of (None: the product's)."""

    layer: Layer
    header: Header
    day: datetime | None


def offered(layer: Layer, header: Header, recipe: Recipe) -> list[Offer]:
    """The bands of one layer: one, all of a file, or those of a stack of dates.

    A stack is date-major: all bands of the first date, then all of the second; or, in a file
    named after one band, one band a date. Raises BadInput when the recipe's dates do not fit.
    """
    plain = [i + 1 for i in range(header.count) if i + 1 not in header.alpha]
    if layer.index:
        if layer.index > header.count:
            raise BadInput(f"{header.path}: expected band {layer.index}, found {header.count}")
        return [Offer(layer, header, None)]
    days = _days(header, recipe, len(plain))
    if days and layer.name and len(days) == len(plain):
        return [
            Offer(replace(layer, index=i), header, day) for i, day in zip(plain, days, strict=True)
        ]
    if days:
        names, count = recipe.bands, len(plain) // len(days)
        if len(names) != count:
            names = tuple(f"band{i + 1}" for i in range(count))
        return [
            Offer(replace(layer, name=names[at % count], index=i), header, days[at // count])
            for at, i in enumerate(plain)
        ]
    named = zip(plain, _names(layer, header, plain, recipe), strict=True)
    return [Offer(replace(layer, name=name, index=i), header, None) for i, name in named]


def needed(product: Product, recipe: Recipe) -> list[Layer]:
    """The layers whose files must be opened: those that the recipe names, or the wanted ones,
    and files whose bands are not known yet."""
    asked = {same_key(name) for name in recipe.bands}
    found = []
    for layer in product.layers:
        names = {same_key(name) for name in (layer.name, *layer.aliases)}
        if not layer.index or (asked & names if asked else layer.wanted):
            found.append(layer)
    return found


def choose(product: Product, found: Sequence[Offer], recipe: Recipe) -> list[Offer]:
    """The bands of the recipe, in its order and spelling; else all that are reflectance, each
    name once, in its finest resolution. Raises BadInput for a band that is not there."""
    known: dict[str, Offer] = {}
    for one in sorted(found, key=lambda one: one.header.gsd):
        known.setdefault(same_key(one.layer.name), one)
    for one in found:
        for name in one.layer.aliases:
            known.setdefault(same_key(name), one)
    if recipe.bands:
        missing = [name for name in recipe.bands if same_key(name) not in known]
        if missing:
            layers = [one.layer for one in found] + list(product.layers)
            have = ", ".join(list(dict.fromkeys(one.name for one in layers if one.name))[:40])
            raise BadInput(
                f"scene {product.source}: expected band {', '.join(missing)}, found {have}"
            )
        picked = [(name, known[same_key(name)]) for name in recipe.bands]
        return [replace(one, layer=replace(one.layer, name=name)) for name, one in picked]
    wanted = [one for one in found if one.layer.wanted and not is_companion(one.layer.name)]
    keys = dict.fromkeys(same_key(one.layer.name) for one in wanted or found)
    return [known[key] for key in keys]


def band_of(
    product: Product, one: Offer, recipe: Recipe, when: datetime | None
) -> tuple[Band, str]:
    """A band with its scaling, and the units that gives."""
    layer, header = one.layer, one.header
    at = layer.index - 1
    named = _by_name(product, one, when)
    if layer.scale is not None or layer.offset is not None:
        scale, offset = layer.scale if layer.scale is not None else 1.0, layer.offset or 0.0
        units = product.units or "scaled"
    elif (header.scales[at], header.offsets[at]) != (1.0, 0.0):
        scale, offset, units = header.scales[at], header.offsets[at], "scaled"
    elif named is not None:
        scale, offset, units = named.scale, named.offset, "reflectance"
    else:
        scale, offset, units = 1.0, 0.0, "stored"
    if recipe.scale is not None:
        scale, offset, units = recipe.scale, recipe.offset or 0.0, "scaled"
    elif recipe.offset is not None:
        offset, units = recipe.offset, "scaled"
    if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
        raise BadInput(f"{header.path}: expected a finite scale, found {scale} and {offset}")
    nodata = next(
        (v for v in (recipe.nodata, layer.nodata, header.nodata[at]) if v is not None),
        named.nodata if named is not None else None,
    )
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # what is not finite is never data
    path = absolute(header.path)
    return Band(layer.name, path, layer.index, float(scale), float(offset), nodata), units


def _by_name(product: Product, one: Offer, when: datetime | None) -> Scaling | None:
    """Scaling by the sensor's naming, for integers wide enough to be its digital numbers."""
    if np.dtype(one.header.dtype).kind not in "ui" or np.dtype(one.header.dtype).itemsize < 2:
        return None
    path = names_of(one.header.path)
    parents = " ".join(folder.name for folder in list(path.parents)[:4])
    return scaling_by_name(f"{path.name} {product.source} {parents}", one.layer.name, when)


def _names(layer: Layer, header: Header, plain: list[int], recipe: Recipe) -> list[str]:
    """Names of a file's bands: its file name's, its own, the recipe's in order, or numbers."""
    if len(plain) == 1 and layer.name:
        return [layer.name]
    named = [header.names[i - 1] for i in plain]
    if all(named) and len(set(named)) == len(named):
        return named
    numbers = [f"band{i}" for i in range(1, len(plain) + 1)]
    if layer.name:
        return [f"{layer.name}_{i}" for i in range(1, len(plain) + 1)]
    asked = {same_key(name) for name in recipe.bands}
    if len(recipe.bands) == len(plain) and asked != {same_key(name) for name in numbers}:
        return list(recipe.bands)
    return numbers


def _days(header: Header, recipe: Recipe, count: int) -> tuple[datetime, ...]:
    """The dates of a stack, by the recipe or a timeline file; empty for one moment."""
    if len(recipe.dates) < 2:
        beside = count > 1 and not is_remote(header.path)
        return (folders.timeline(Path(header.path).parent, count) or ()) if beside else ()
    if count % len(recipe.dates) or (
        recipe.bands and count not in (len(recipe.dates), len(recipe.dates) * len(recipe.bands))
    ):
        bands = f" x {len(recipe.bands)} bands" if recipe.bands else ""
        raise BadInput(
            f"{header.path}: expected {len(recipe.dates)} dates{bands} by the recipe, "
            f"found {count} bands"
        )
    return tuple(parse_date(day) for day in recipe.dates)
