"""Archives with a fidelity code in the page: Python's pixels, and what each came from said."""

import re

import numpy as np
import pytest
from browser import until
from test_jobs import quiet, write_scene

import embarchive
from embarchive import fit_layer, jobs, serve
from embarchive.recipe import Recipe

pytestmark = pytest.mark.xdist_group("browser")

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


@pytest.fixture(scope="module", params=["adapter", "full"])
def coded(request, tmp_path_factory):
    """An archive with a code, and its URL."""
    root = tmp_path_factory.mktemp(request.param)
    scene = write_scene(root / "field_20230601.tif", 1)
    recipe = Recipe(
        precision=6, gsd=60.0, region_prefix=4, dim=8, bits=32, steps=60, adapter_steps=5, batch=8,
        quality="40 bytes", codec=request.param,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        # However little the filter learned in so few steps, it is part of the code.
        patch.setattr(fit_layer, "LEAST_GAIN", 10.0)
        jobs.build([str(scene)], str(root / "a"), recipe, workers=1, progress=quiet)
    with serve.running(root / "a") as url:
        yield embarchive.open_archive(root / "a"), url


def test_a_coded_tile_decodes_to_the_pixels_of_python(page, coded):
    archive, url = coded
    names = archive.select(columns=["geohash"])["geohash"].to_pylist()[::5]
    page.goto(f"{url}/viewer/index.html")
    found = page.evaluate(DECODE, names)
    rows = archive.select(geohash=found["names"], columns=["embedding", "code", "model_id"])
    expected = archive.decode(rows)
    pixels = np.array(found["images"]).reshape(found["shape"])
    assert found["shape"][0] == len(names) and pixels.shape == expected.shape
    assert archive.space().trained["code"]["filter"]
    assert np.abs(pixels - expected).max() < 1e-3 * np.ptp(expected)
    own = 8 if archive.settings.codec == "full" else 0
    assert found["extra"] == [len(code) - own for code in rows["code"].to_pylist()]


def test_a_card_says_what_its_picture_came_from(page, coded):
    archive, url = coded
    name = archive.select(columns=["geohash"])["geohash"].to_pylist()[7]
    page.goto(f"{url}/viewer/index.html#like={name}&k=12")
    until(page, "document.querySelectorAll('canvas.decoded').length === 12")
    said = page.evaluate(FROM)
    assert len(said) == 12 and all(re.fullmatch(r"8 \+ \d+", one) for one in said)
    cells = archive.search(like=[name], k=12)["geohash"].to_pylist()
    sizes = {
        row["geohash"]: len(row["code"])
        for row in archive.select(geohash=cells, columns=["geohash", "code"]).to_pylist()
    }
    own = 8 if archive.settings.codec == "full" else 0
    assert said == [f"8 + {sizes[cell] - own}" for cell in cells]
    assert page.seen.faults == []
