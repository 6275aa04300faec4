"""Normalised differences of two bands: which an archive has, and how training aims at them.

An index is (a - b) / (a + b). Squared errors of bands hardly see it where both are dark, so that
training also counts the absolute error of the index itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embarchive.bandnames import same_key
from embarchive.errors import BadInput
from embarchive.model import Array
from embarchive.recipe import Settings

# The least denominator that training divides by; darker pixels are left out of it. Values that are
# no reflectance have no such number: a share of the mean of a + b, which .02 is of reflectances.
FLOOR, FLOOR_SHARE = 0.02, 0.1
# Names of bands as `same_key` has them, a sensor each.
SENSORS: tuple[Mapping[str, str], ...] = (
    {"green": "b3", "red": "b4", "nir": "b8", "swir": "b11"},
    {"green": "b3", "red": "b4", "nir": "b8a", "swir": "b11"},
    {"green": "green", "red": "red", "nir": "nir", "swir": "swir1"},
    {"green": "green", "red": "red", "nir": "nir08", "swir": "swir16"},
    {"green": "g", "red": "r", "nir": "n"},
    {"green": "sr_b3", "red": "sr_b4", "nir": "sr_b5", "swir": "sr_b6"},
)
# Vegetation (Tucker 1979), open water (McFeeters 1996), built-up land (Zha 2003).
DEFAULT = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir"), "ndbi": ("swir", "nir")}


@dataclass(frozen=True)
class IndexTarget:
    """What training aims at beside the bands.

    pairs: positions of a and b; weight: of the mean absolute error of the indices beside the
    mean squared error of normalised bands; floor: least a + b in recipe units, None for
    FLOOR_SHARE of its mean.
    """

    pairs: tuple[tuple[int, int], ...] = ()
    weight: float = 0.0
    floor: float | None = None

    def __bool__(self) -> bool:
        return bool(self.pairs) and self.weight > 0

    def floors(self, mean: Array) -> list[float]:
        """The least a + b of each pair, recipe units, for band means (bands,)."""
        if self.floor is not None:
            return [self.floor] * len(self.pairs)
        return [max(FLOOR_SHARE * float(mean[a] + mean[b]), 1e-6) for a, b in self.pairs]


NO_TARGET = IndexTarget()


def default_indices(bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """NDVI, NDWI and NDBI as far as their bands can be told from the names; NDVI is first."""
    names = {same_key(band): band for band in bands}
    found: dict[str, tuple[str, str]] = {}
    for index, (a, b) in DEFAULT.items():
        for sensor in SENSORS:
            first, second = (names.get(sensor.get(colour, "")) for colour in (a, b))
            if first and second:
                found.setdefault(index, (first, second))
    return found


def index_bands(settings: Settings) -> list[tuple[int, int]]:
    """Positions of the bands of an archive's indices. Raises BadInput for a band it has not."""
    found = []
    for index, pair in settings.indices.items():
        for name in pair:
            if name not in settings.bands:
                raise BadInput(
                    f"index {index}: expected two of the bands {', '.join(settings.bands)}, "
                    f"found {name}"
                )
        found.append((settings.bands.index(pair[0]), settings.bands.index(pair[1])))
    return found


def index_target(settings: Settings, weight: float) -> IndexTarget:
    """What the training of an archive aims at."""
    floor = FLOOR if settings.units == "reflectance" else None
    return IndexTarget(tuple(index_bands(settings)), weight, floor)
