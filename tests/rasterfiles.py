"""Small rasters, and product folders made of them, for the tests of scenes."""

import json
import warnings

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32633"
PLACE = Affine(10, 0, 500_000, 0, -10, 5_100_000)


def write(path, values=None, crs=UTM, transform=PLACE, names=(), tags=None, mask=None, **profile):
    """A GeoTIFF of values (bands, h, w), by default 1 x 20 x 20 counted from 1."""
    if values is None:
        values = np.arange(1, 401, dtype=np.uint16).reshape(1, 20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    scales, offsets = profile.pop("scales", None), profile.pop("offsets", None)
    size = dict(zip(("count", "height", "width"), values.shape, strict=True))
    profile = {"driver": "GTiff", "dtype": values.dtype, **size, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", crs=crs, transform=transform, **profile) as out,
        ):
            out.write(values)
            if names:
                out.descriptions = tuple(names)
            if tags:
                out.update_tags(**tags)
            if scales:
                out.scales, out.offsets = scales, offsets
            if mask is not None:
                out.write_mask(mask)
    return path


MTD = """<n1:Level-2A_User_Product><PRODUCT_START_TIME>2023-08-15T10:00:31.024Z</PRODUCT_START_TIME>
<PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
{offsets}</n1:Level-2A_User_Product>"""
OFFSETS = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13))


def write_safe(root, offsets=OFFSETS, metadata=True):
    """A .SAFE L2A tree: B02 at 10, 20 and 60 m, B05 at 20 m, B01 at 60 m, SCL, TCI, AOT."""
    name = "S2A_MSIL2A_20230815T100031_N0509_R122_T33TWL_20230815T160000.SAFE"
    folder = root / name
    images = folder / "GRANULE" / "L2A_T33TWL_A042547_20230815T100026" / "IMG_DATA"
    listed = {10: ["B02", "TCI", "AOT"], 20: ["B02", "B05", "SCL"], 60: ["B01", "B02", "SCL"]}
    for metres, bands in listed.items():
        size = 120 // metres
        for band in bands:
            values = np.full((1, size, size), 4 if band == "SCL" else 2000, np.uint16)
            path = images / f"R{metres}m" / f"T33TWL_20230815T100031_{band}_{metres}m.jp2"
            write(path, values, transform=Affine(metres, 0, 500_000, 0, -metres, 5_100_000))
    if metadata:
        (folder / "MTD_MSIL2A.xml").write_text(MTD.format(offsets=offsets))
    return folder


LANDSAT = "LC08_L2SP_190028_20230815_20230819_02_T1"


def landsat_metadata(level=2):
    """The parsed MTL of a scene with bands 3 and 4."""
    start = "SR_" if level == 2 else ""
    contents = {f"FILE_NAME_BAND_{n}": f"{LANDSAT}_{start}B{n}.TIF" for n in (3, 4)}
    contents |= {"FILE_NAME_QUALITY_L1_PIXEL": f"{LANDSAT}_QA_PIXEL.TIF"}
    groups = {
        "PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": LANDSAT, **contents},
        "IMAGE_ATTRIBUTES": {
            "DATE_ACQUIRED": "2023-08-15",
            "SCENE_CENTER_TIME": "09:45:12.5Z",
            "SUN_ELEVATION": "30.0",
        },
        "LEVEL1_RADIOMETRIC_RESCALING": {
            f"REFLECTANCE_{kind}_BAND_{n}": value
            for n in (3, 4)
            for kind, value in (("MULT", "2.0E-05"), ("ADD", "-0.1"))
        },
    }
    if level == 2:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
            f"REFLECTANCE_{kind}_BAND_{n}": value
            for n in (3, 4)
            for kind, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))
        }
    return {"LANDSAT_METADATA_FILE": groups}


def odl(value, name=None):
    """A parsed MTL as Landsat's text format."""
    if not isinstance(value, dict):
        return f'{name} = "{value}"\n'
    inner = "".join(odl(item, key) for key, item in value.items())
    return f"GROUP = {name}\n{inner}END_GROUP = {name}\n" if name else f"{inner}END\n"


def write_landsat(folder, text=False):
    """A Landsat C2 L2 folder: bands 3 and 4, thermal B10, QA_PIXEL with two cloudy pixels."""
    quality = np.full((1, 20, 20), 1 << 6, np.uint16)
    quality[0, 0, :2] = 1 << 3, 1 << 4
    for band in ("SR_B3", "SR_B4", "ST_B10"):
        write(folder / f"{LANDSAT}_{band}.TIF", nodata=0)
    write(folder / f"{LANDSAT}_QA_PIXEL.TIF", quality, nodata=1)
    values = landsat_metadata()
    path = folder / f"{LANDSAT}_MTL.{'txt' if text else 'json'}"
    path.write_text(odl(values) if text else json.dumps(values))
    return folder


def stac_item(name, assets, **properties):
    """A STAC Item; assets: key -> asset fields."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "properties": {"datetime": "2023-08-15T10:00:31Z", **properties},
        "assets": {key: {"type": "image/tiff", **asset} for key, asset in assets.items()},
    }
