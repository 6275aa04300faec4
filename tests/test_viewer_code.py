"""Archives with a fidelity code in the page: Python's pixels, and what each came from said."""

import numpy as np
import pytest
import rasterio
from browser import until
from test_jobs import quiet, write_scene

import embarchive
from embarchive import fit_layer, jobs, serve
from embarchive.recipe import Recipe

DECODE = """async (names) => {
  const at = (name) => new URL(name, location.href).href;
  const { openArchive } = await import(at("archive.js"));
  const { loadKernels } = await import(at("kernels.js"));
  await loadKernels();
  const archive = await openArchive(new URL("../", location.href));
  const rows = await archive.select({ geohash: names });
  const { images, shape, extra } = await archive.decode(rows);
  return { names: rows.geohash, images: [...images], shape, extra };
}"""
FROM = "[...document.querySelectorAll('.card dd.bytes')].map((one) => one.textContent)"


@pytest.fixture(scope="module", params=["adapter", "full", "dates"])
def coded(request, tmp_path_factory):
    """An archive with a code, that of dates on three days, and its URL."""
    root = tmp_path_factory.mktemp(request.param)
    scenes = [write_scene(root / "field_20230601.tif", 1)]
    if request.param == "dates":
        scenes += [copy(scenes[0], day, shade) for day, shade in (("0609", 0.8), ("0701", 1.2))]
    codec = "full" if request.param == "full" else "adapter"
    recipe = Recipe(
        precision=6, gsd=60.0, region_prefix=4, dim=8, bits=32, steps=60, adapter_steps=5, batch=8,
        quality="40 bytes", codec=codec,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        # However little the filter learned in so few steps, it is part of the code.
        patch.setattr(fit_layer, "LEAST_GAIN", 10.0)
        jobs.build([*map(str, scenes)], str(root / "a"), recipe, workers=1, progress=quiet)
    with serve.running(root / "a") as url:
        yield embarchive.open_archive(root / "a"), url


def copy(scene, day, shade):
    """The scene on another day, in another light."""
    with rasterio.open(scene) as source:
        pixels, profile = source.read(), source.profile
    noise = np.random.default_rng(0).normal(0, 20, pixels.shape)
    path = scene.with_name(f"field_2023{day}.tif")
    with rasterio.open(path, "w", **profile) as out:
        out.write((pixels * shade + noise).astype(np.uint16))
    return path


def said_of(archive, rows):
    """Bytes that each row decodes from beside its vector, and how many dates share them."""
    own = 8 if archive.settings.codec == "full" else 0
    together = archive.space().together is not None
    codes = archive.rows_of(rows)["code"].to_pylist()
    return [[len(code) - own, 3 if together and code[0] == 1 else 1] for code in codes]


def test_a_coded_tile_decodes_to_the_pixels_of_python(page, coded):
    archive, url = coded
    names = archive.select(columns=["geohash"])["geohash"].unique().to_pylist()[::5]
    page.goto(f"{url}/viewer/index.html")
    found = page.evaluate(DECODE, names)
    rows = archive.select(geohash=found["names"])
    assert rows["geohash"].to_pylist() == found["names"]
    expected = archive.decode(rows)
    pixels = np.array(found["images"]).reshape(found["shape"])
    assert pixels.shape == expected.shape and len(names) > 20
    assert archive.space().trained["code"]["filter"]
    assert np.abs(pixels - expected).max() < 1e-3 * np.ptp(expected)
    assert found["extra"] == said_of(archive, rows)


def test_a_card_says_what_its_picture_came_from(page, coded):
    archive, url = coded
    name = archive.select(columns=["geohash"])["geohash"].to_pylist()[7]
    page.goto(f"{url}/viewer/index.html#like={name}&k=12")
    until(page, "document.querySelectorAll('canvas.decoded').length === 12")
    said = page.evaluate(FROM)
    expected = said_of(archive, archive.search(like=[name], k=12))
    assert said == [f"8 + {size}" + " / 3" * (dates == 3) for size, dates in expected]
    assert any("/" in one for one in said) == (archive.space().together is not None)
    assert page.seen.faults == []
