"""Band names out of file names, and which files of a folder are no bands at all; pure.

A file's stem is cut into words at `_ - .` and spaces: one word may name the band (B04,
SR_B4, NIR, NDVI), one the resolution (10m), and what is left is the stem of its scene.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CLOUD_LAYERS = ("SCL", "QA_PIXEL")
INDICES = ("NDVI", "EVI", "SAVI", "NDWI", "NBR", "NDMI", "LAI", "FAPAR")
COLOURS = (
    "BLUE", "GREEN", "RED", "NIR", "NIR08", "NIR09", "MIR", "SWIR", "SWIR1", "SWIR2", "SWIR16",
    "SWIR22", "COASTAL", "CIRRUS", "PAN", "REDEDGE", "REDEDGE1", "REDEDGE2", "REDEDGE3",
    "VV", "VH", "HH", "HV",
)  # fmt: skip
# Layers that ride along with a scene: no reflectance, so left out unless asked for by name.
COMPANIONS = (
    "AOT", "WVP", "BQA", "QA", "QA_RADSAT", "QA_AEROSOL", "SR_QA_AEROSOL", "SR_CLOUD_QA",
    "SR_ATMOS_OPACITY", "ST_QA", "ST_CDIST", "ST_ATRAN", "ST_DRAD", "ST_EMIS", "ST_EMSD",
    "ST_TRAD", "ST_URAD", "SAA", "SZA", "VAA", "VZA", "CLD", "SNW", "CLDPRB", "SNWPRB", "DOY",
    "DEM", "ELEVATION", "MASK", "FMASK", "CLOUDMASK",
)  # fmt: skip
# Pictures and labels: never bands of a scene, unless the file itself is what was given.
PICTURE = re.compile(
    r"(?:^|[_\-. ])(TCI|PVI|L2A_PVI|preview|thumbnail|thumb|overview|visual|quicklook|browse|ql"
    r"|label|labels|labelled|labeled|groundtruth|ground_truth|gt|lulc|cdl)(?=$|[_\-. ])",
    re.IGNORECASE,
)
_WORDS = sorted((*CLOUD_LAYERS, *INDICES, *COLOURS, *COMPANIONS), key=len, reverse=True)
BAND = re.compile(
    r"(?:^|(?<=[_\-. ]))((?:SR_|ST_)?B(?:and)?_?\d{1,2}|B0?8A|"
    + "|".join(_WORDS)
    + r")(?=$|[_\-. ])",
    re.IGNORECASE,
)
RESOLUTION = re.compile(r"(?:^|(?<=[_\-. ]))R?(\d{1,4})m(?=$|[_\-. ])", re.IGNORECASE)
GLUE = re.compile(r"[_\-. ]{2,}")


@dataclass(frozen=True)
class NameParts:
    """band: its name or "", resolution: metres or 0, scene: the rest of the stem."""

    band: str
    resolution: int
    scene: str


def split_stem(stem: str) -> NameParts:
    """Cut a file's stem into band, resolution and scene; the last band word counts."""
    words = list(BAND.finditer(stem))
    band = words[-1].group(1) if words else ""
    rest = stem
    if words:
        rest = rest[: words[-1].start(1)] + rest[words[-1].end(1) :]
    resolution = RESOLUTION.search(rest)
    metres = int(resolution.group(1)) if resolution else 0
    if resolution:
        rest = rest[: resolution.start()] + rest[resolution.end() :]
    rest = GLUE.sub(lambda run: run.group(0)[0], rest).strip("_-. ")
    return NameParts(tidy(band), metres, rest)


def tidy(name: str) -> str:
    """A band's name as archives spell it: B2 stays B2, b04 is B04, Blue stays a word."""
    name = name.strip()
    return name.upper() if re.fullmatch(r"(?i)(SR_|ST_)?B\d{1,2}A?|SCL|QA_PIXEL", name) else name


def same_key(name: str) -> str:
    """What two spellings of one band share: B2, B02, b02 and band_2 give `b2`."""
    plain = name.strip().lower().replace(" ", "_")
    numbered = re.fullmatch(r"(?:b|band_?)0*(\d{1,2})(a?)", plain)
    return f"b{numbered.group(1)}{numbered.group(2)}" if numbered else plain


def is_picture(stem: str) -> bool:
    """A preview, label or quick look by its name."""
    return PICTURE.search(stem) is not None


def is_companion(band: str) -> bool:
    """A layer that rides along with a scene and is no reflectance."""
    return band.upper() in COMPANIONS or band.upper() in CLOUD_LAYERS


def is_cloud_layer(band: str) -> bool:
    """SCL or QA_PIXEL."""
    return band.upper() in CLOUD_LAYERS
