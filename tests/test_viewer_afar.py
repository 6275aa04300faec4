"""The page where there are too many tiles to draw: cells of the pyramid in their place."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from archives import make_cells
from browser import until
from PIL import Image

import embarchive
from embarchive import rows, serve, shards
from embarchive.additions import Addition, add_to_archive
from embarchive.levels import make_pyramid
from embarchive.prefixes import put_shard
from embarchive.store import open_store

SETTLED = "Number(document.body.dataset.settled ?? 0)"
NOTE = "document.querySelector('#layer-note').textContent"
# Two kinds of place, in the west and in the east.
WEST, COUNT = -76.6, 8100


def enlarge(root, decodes=True):
    """The packaged archive with 8,100 places more: the darkest tile's vector in the western half,
    the brightest one's in the eastern."""
    archive = embarchive.open_archive(root)
    table = archive.select(columns=archive.reader.names)
    bright = archive.decode(table).mean(axis=(1, 2, 3))
    ends = [int(bright.argmin()), int(bright.argmax())]
    cells = np.setdiff1d(make_cells(COUNT, WEST, 36.5), table["geohash"].to_pylist())
    lon = embarchive.grid.centers(cells)[:, 0]
    kind = (lon > np.median(lon)).astype(int)
    vectors = rows.embeddings(table)[ends][kind]
    owner = [table["model_id"][end].as_py() if decodes else "" for end in ends]
    space = archive.spaces[0]
    if not decodes:
        space = replace(
            space, space_id="plain", encoder=None, encoder_length=0, backbone=None,
            backbone_length=0, onnx=None, onnx_length=0,
        )  # fmt: skip
    made = rows.make_rows(
        cells,
        [None] * len(cells),
        vectors,
        archive.simhash(space).encode(vectors),
        {
            "model_id": [owner[one] for one in kind],
            "source": ["made"] * len(cells),
            "input_digest": [int(i).to_bytes(8, "big") for i in range(len(cells))],
            "valid_fraction": np.ones(len(cells)),
        },
    )
    prefixes = np.array([name[: archive.settings.shard_prefix] for name in cells.tolist()])
    emb = shards.emb_metadata(archive.settings, space.space_id, space.encoder, space.scale)
    found = tuple(
        put_shard(archive.store, shard, prefix, space.space_id)
        for prefix in np.unique(prefixes).tolist()
        for shard in shards.write_shards(made.filter(pa.array(prefixes == prefix)), emb)
    )
    spaces = () if decodes else (space,)
    one = Addition(archive.settings, shards=found, spaces=spaces, places=len(cells))
    add_to_archive(archive.store, lambda _: one)
    return cells[kind == 0], cells[kind == 1]


@pytest.fixture(scope="module", params=[True, False], ids=["decoded", "bare"])
def large(request, tmp_path_factory):
    """Such an archive with a pyramid, its URL, its cells in the west and in the east."""
    root = tmp_path_factory.mktemp("large") / "a"
    shutil.copytree(serve.demo_root(), root)
    halves = enlarge(root, request.param)
    made = make_pyramid(open_store(root), progress=lambda *_: None)
    assert made["level"] == 5
    with serve.running(root) as url:
        yield embarchive.open_archive(root), url, halves, request.param


def look(page, url, session=""):
    page.goto("about:blank")
    page.goto(f"{url}/viewer/index.html#{session}")
    until(page, f"{SETTLED} > 0")


def picture(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def test_cells_of_the_pyramid_are_drawn_where_tiles_are_too_many(page, large, tmp_path):
    _, url, (west, east), decodes = large
    look(page, url)
    until(page, f"{NOTE}.startsWith('Means of')")
    page.wait_for_timeout(300)
    assert page.evaluate(NOTE) == "Means of 5-letter cells: zoom in to see tiles."
    asked = [request for request in page.seen.requests if "/pyramid/" in request]
    assert len(asked) == 1 and page.seen.faults == []
    weights = [request for request in page.seen.requests if "/models/" in request]
    assert bool(weights) == decodes
    shown = picture(page)
    page.screenshot(path=tmp_path / "afar.png")
    colours = [colour_at(page, shown, half) for half in (west, east)]
    # one colour for each kind of place, neither of them the map's own
    assert all(np.ptp(some, axis=0).max() <= 8 for some in colours)
    dark, light = (some.mean(axis=0) for some in colours)
    assert np.abs(dark - light).max() > 60
    if decodes:
        assert light.mean() > dark.mean()


def colour_at(page, shown, cells):
    """Colours in the midst of some cells, a few pixels from the lines of the map."""
    view = page.evaluate("location.hash").split("view=")[1].split("&")[0]
    lon, lat, zoom = (float(part) for part in view.split(","))
    box = page.locator("#map").bounding_box()
    world = 512 * 2**zoom
    names = sorted({str(name)[:5] for name in cells.tolist()})
    found = []
    for x, y in embarchive.grid.centers(names):
        if not _full(cells, embarchive.grid.encode(x, y, 5).item()):
            continue
        left = box["x"] + box["width"] / 2 + (x - lon) / 360 * world
        top = box["y"] + box["height"] / 2 + (_north(y) - _north(lat)) * world
        if box["x"] + 5 < left < box["x"] + box["width"] - 5 and 60 < top < box["height"] - 60:
            found.append(shown[round(top), round(left)])
    assert len(found) > 20
    return np.array(found)


def _full(cells, name):
    """Whether a cell is full of one kind of place."""
    return sum(one.startswith(name) for one in cells.tolist()) == 32


def _north(lat):
    sine = np.sin(np.radians(lat))
    return 0.5 - np.log((1 + sine) / (1 - sine)) / (4 * np.pi)


MEANS = """async (level) => {
  const at = (name) => new URL(name, location.href).href;
  const { openArchive } = await import(at("archive.js"));
  const { loadKernels } = await import(at("kernels.js"));
  const { meanPixels } = await import(at("afar.js"));
  const { makeFilter } = await import(at("filters.js"));
  await loadKernels();
  const archive = await openArchive(new URL("../", location.href));
  const { pyramid } = archive.generation;
  const space = archive.space().space_id;
  const cells = await archive.reader.level(pyramid, space, level, makeFilter());
  const watch = { signal: new AbortController().signal, turn: async () => {} };
  const pixels = cells.model_id[0] ? await meanPixels(archive, cells, watch) : [];
  return { geohash: cells.geohash, mean: [...cells.mean], pixels: [...pixels] };
}"""


def test_cells_and_their_pixels_are_those_of_python(page, large):
    archive, url, _, decodes = large
    page.goto(f"{url}/viewer/index.html")
    for level in (5, 3):
        cells = archive.pyramid(level)
        found = page.evaluate(MEANS, level)
        assert found["geohash"] == cells["geohash"].to_pylist()
        assert found["mean"] == np.array(cells["mean"].to_pylist()).ravel().tolist()
        expected = archive.decode(cells).mean(axis=(2, 3)) if decodes else np.zeros((0, 1))
        assert np.abs(np.reshape(found["pixels"], expected.shape) - expected).max(initial=0) < 1e-5


def test_near_by_tiles_take_their_place(page, large):
    _, url, (west, _), decodes = large
    look(page, url)
    until(page, f"{NOTE}.startsWith('Means of')")
    x, y = embarchive.grid.centers(west[len(west) // 2 :][:1])[0]
    near = f"view={x:.5f},{y:.5f},12&imagery={int(decodes)}"
    page.evaluate("(hash) => { location.hash = hash; }", near)
    until(page, f"{NOTE} === ''")
    # and from near by the pyramid is not even read
    page.seen.requests.clear()
    look(page, url, near)
    until(page, f"{SETTLED} > 0 && {NOTE} === ''")
    page.wait_for_timeout(500)
    assert not [request for request in page.seen.requests if "/pyramid/" in request]
    assert page.seen.faults == []


def test_decoded_imagery_of_too_many_tiles_is_that_of_cells(page, large):
    _, url, _, decodes = large
    # between what can be decoded and what can be outlined
    look(page, url, "view=-76.2,36.7,10.2&imagery=1")
    if decodes:
        until(page, f"{NOTE}.startsWith('Means of 5-letter cells')")
    else:
        page.wait_for_timeout(1500)
        assert page.evaluate(NOTE) == ""
    assert page.seen.faults == []
