"""Sentinel-2 and Landsat Collection 2: what their names and metadata files say; pure text.

Reflectance = stored * scale + offset. Sentinel-2 digital numbers are reflectance x 10000;
from processing baseline 04.00 on (25 January 2022) 1000 was added to them, and archives of
harmonised copies took it away again, so the offset is decided once, here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from embarchive.dates import find_date

S2_ATTRIBUTION = "Contains modified Copernicus Sentinel data"
S2_LICENCE = "Copernicus Sentinel data terms"
LANDSAT_ATTRIBUTION = "Landsat data courtesy of the U.S. Geological Survey"
LANDSAT_LICENCE = "Public domain"
# band_id of the product metadata -> name
S2_BANDS = tuple("B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12".split())
OFFSET_SINCE = datetime(2022, 1, 25, tzinfo=UTC)
# Names that ESA gives: their digital numbers are as delivered, offset and all.
S2_NATIVE = re.compile(r"S2[A-D]_(?:MSIL[12][AC]|OPER_(?:MSI|PRD))", re.IGNORECASE)
# Names of harmonised copies (Element 84's): the 1000 is gone again.
S2_HARMONISED = re.compile(r"S2[A-D]_\d{1,2}[C-X][A-Z]{2}_\d{8}_\d+_L[12][AC]")
BASELINE = re.compile(r"_N(\d\d)\.?(\d\d)(?=_|\.|$)")
LANDSAT_SURFACE = re.compile(r"L[COTEM]0[4-9]_L2S[PR]_\d{6}_\d{8}_\d{8}_02_")


@dataclass(frozen=True)
class Scaling:
    """Reflectance = stored * scale + offset, stored == nodata is no data."""

    scale: float
    offset: float
    nodata: float


@dataclass(frozen=True)
class SafeMetadata:
    """Of MTD_MSIL*.xml or MTD_TL.xml; offsets: band -> what to add to the stored value."""

    start: datetime | None
    baseline: str
    quantification: float
    offsets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LandsatMetadata:
    """Of *_MTL.json or *_MTL.txt; bands: name -> (file name, scale, offset), reflectance."""

    product: str
    start: datetime | None
    bands: Mapping[str, tuple[str, float, float]]
    quality: str


def is_sentinel2(text: str) -> bool:
    """A Sentinel-2 product, granule or harmonised copy by its name."""
    return bool(S2_NATIVE.search(text) or S2_HARMONISED.search(text))


def baseline_in(text: str) -> str:
    """The processing baseline such as 05.09 in a product or granule name, or ""."""
    found = BASELINE.search(text)
    return f"{found.group(1)}.{found.group(2)}" if found else ""


def needs_offset(baseline: str, day: datetime | None) -> bool:
    """1000 was added to these digital numbers: by the baseline, without one by the date."""
    if re.fullmatch(r"\d\d\.\d\d", baseline):
        return float(baseline) >= 4.0
    return day is not None and day >= OFFSET_SINCE


def scaling_by_name(text: str, band: str, day: datetime | None) -> Scaling | None:
    """Sentinel-2 or Landsat C2 scaling as the names of a file and its folders tell.

    text: those names; band: as in the file; None when the sensor is not recognised.
    """
    if re.fullmatch(r"B\d{1,2}A?", band.upper()):
        if S2_HARMONISED.search(text):
            return Scaling(1e-4, 0.0, 0.0)
        if S2_NATIVE.search(text):
            return Scaling(1e-4, -0.1 if needs_offset(baseline_in(text), day) else 0.0, 0.0)
    if LANDSAT_SURFACE.search(text) and re.fullmatch(r"SR_B\d", band.upper()):
        return Scaling(2.75e-5, -0.2, 0.0)
    return None


def parse_safe(text: str) -> SafeMetadata:
    """The few values needed of Sentinel-2 product (or granule) XML.

    Read by pattern, not by an XML parser: no entity, no include, nothing to expand.
    """
    start = None
    for tag in ("PRODUCT_START_TIME", "DATATAKE_SENSING_START", "SENSING_TIME"):
        if (value := _element(text, tag)) and (start := find_date(value)):
            break
    baseline = _element(text, "PROCESSING_BASELINE") or baseline_in(_element(text, "TILE_ID"))
    quantification = _element(text, "BOA_QUANTIFICATION_VALUE") or _element(
        text, "QUANTIFICATION_VALUE"
    )
    offsets: dict[str, float] = {}
    pattern = r'<(?:BOA|RADIO)_ADD_OFFSET\s+band_id="(\d{1,2})"\s*>\s*(-?\d{1,6}(?:\.\d+)?)\s*<'
    for number, value in re.findall(pattern, text):
        if int(number) < len(S2_BANDS):
            offsets[S2_BANDS[int(number)]] = float(value)
    return SafeMetadata(start, baseline, _number(quantification, 10_000.0), offsets)


def safe_scaling(metadata: SafeMetadata, product: str, band: str) -> Scaling:
    """Of one band of a .SAFE; the metadata's own offset wins, then the baseline."""
    baseline = metadata.baseline or baseline_in(product)
    offset = metadata.offsets.get(band.upper())
    if offset is None:
        offset = -1000.0 if needs_offset(baseline, metadata.start) else 0.0
    return Scaling(1 / metadata.quantification, offset / metadata.quantification, 0.0)


def parse_mtl_text(text: str) -> dict[str, Any]:
    """Landsat's MTL.txt (ODL) as nested mappings of strings, like its JSON twin."""
    root: dict[str, Any] = {}
    stack = [root]
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP" and len(stack) < 16:
            stack.append(stack[-1].setdefault(value, {}))
        elif key == "END_GROUP" and len(stack) > 1:
            stack.pop()
        elif value:
            stack[-1][key] = value.strip('"')
    return root


def read_landsat(mtl: Mapping[str, Any]) -> LandsatMetadata | None:
    """Reflectance bands of a parsed MTL; None when it is not Collection 2.

    Level 2: surface reflectance. Level 1: reflectance at the top of the atmosphere, divided
    by the sine of the sun's elevation. The panchromatic and thermal bands have other units
    or resolution and are left out.
    """
    root = mtl.get("LANDSAT_METADATA_FILE")
    if not isinstance(root, Mapping) or "PRODUCT_CONTENTS" not in root:
        return None
    contents, attributes = _group(root, "PRODUCT_CONTENTS"), _group(root, "IMAGE_ATTRIBUTES")
    surface = _group(root, "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")
    numbers = surface or _group(root, "LEVEL1_RADIOMETRIC_RESCALING")
    sine = 1.0
    if not surface:
        sine = math.sin(math.radians(_number(attributes.get("SUN_ELEVATION"), 90.0))) or 1.0
    pan = "" if surface or "B8" not in _bands_of(contents) else "8"
    bands: dict[str, tuple[str, float, float]] = {}
    for band, name in _bands_of(contents).items():
        digits = band.rpartition("B")[2]
        scale = numbers.get(f"REFLECTANCE_MULT_BAND_{digits}")
        offset = numbers.get(f"REFLECTANCE_ADD_BAND_{digits}")
        if scale is None or offset is None or digits == pan or band.startswith("ST_"):
            continue
        bands[band] = (name, _number(scale, 1.0) / sine, _number(offset, 0.0) / sine)
    day = f"{attributes.get('DATE_ACQUIRED', '')} {attributes.get('SCENE_CENTER_TIME', '')}"
    return LandsatMetadata(
        product=str(contents.get("LANDSAT_PRODUCT_ID", "")),
        start=find_date(day.replace("Z", "")),
        bands=bands,
        quality=str(contents.get("FILE_NAME_QUALITY_L1_PIXEL", "")),
    )


def _bands_of(contents: Mapping[str, Any]) -> dict[str, str]:
    """Band word of the file name -> file name, for FILE_NAME_BAND_*."""
    found = {}
    for key, name in contents.items():
        match = re.search(r"_((?:SR_|ST_)?B\d{1,2})\.TIF$", str(name), re.IGNORECASE)
        if key.startswith("FILE_NAME_BAND_") and match:
            found[match.group(1).upper()] = str(name)
    return found


def _group(root: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = root.get(name)
    return group if isinstance(group, Mapping) else {}


def _element(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}(?:\s[^<>]{{0,200}})?>([^<]{{1,200}})</{tag}>", text)
    return found.group(1).strip() if found else ""


def _number(text: Any, default: float) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return default
    return value if math.isfinite(value) and value != 0 else default
