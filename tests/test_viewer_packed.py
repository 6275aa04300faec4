"""Archives of quantised embeddings in the page: the hits and the pixels of Python."""

from pathlib import Path

import numpy as np
import pytest
from browser import until

import embarchive
from embarchive import serve
from embarchive.requantize import requantize

DEMO = Path(embarchive.__file__).parent / "demo"
ANSWER = """async (queries) => {
  const at = (name) => new URL(name, location.href).href;
  const { openArchive } = await import(at("archive.js"));
  const { loadKernels } = await import(at("kernels.js"));
  await loadKernels();
  const archive = await openArchive(new URL("../", location.href));
  const answers = [];
  for (const query of queries) {
    const { hits } = await archive.search(query);
    const { geohash, source, score, hamming, embedding } = hits;
    const { images, shape } = await archive.decode(hits);
    const plain = { hamming: hamming && [...hamming], embedding: [...embedding] };
    answers.push({ geohash, source, score: [...score], ...plain, images: [...images], shape });
  }
  return answers;
}"""
CARDS = "[...document.querySelectorAll('.card')].map((card) => card.dataset.geohash)"
FROM = "[...document.querySelectorAll('.card dd.bytes')].map((one) => one.textContent)"
METHODS = {"pca16+pq8": 0, "int4": None, "simhash64": 64}


@pytest.fixture(scope="module", params=METHODS)
def packed(request, tmp_path_factory):
    """The packaged archive quantised, opened, and its URL."""
    to = tmp_path_factory.mktemp("packed") / "archive"
    bits = METHODS[request.param]
    requantize(str(DEMO), str(to), request.param, bits=bits, progress=lambda *_: None)
    with serve.running(to) as url:
        yield embarchive.open_archive(to), url


def queries(archive):
    names = archive.select(columns=["geohash"])["geohash"].to_pylist()
    return [
        {"like": [names[7]], "k": 9},
        {"like": names[100:103], "unlike": [names[400]], "k": 6},
        {"like": [names[500]], "k": 5, "op": "min", "invert": True, "exact": True},
        {"like": [names[9]], "k": 4, "bbox": [-75.68, 37.62, -75.58, 37.71]},
    ]


def test_hits_and_pixels_are_those_of_python(page, packed):
    archive, url = packed
    asked = queries(archive)
    page.goto(f"{url}/viewer/index.html")
    for query, found in zip(asked, page.evaluate(ANSWER, asked), strict=True):
        hits = archive.search(**query, columns=["embedding", "code"])
        for column in ("geohash", "source", "score"):
            assert found[column] == hits[column].to_pylist()
        if archive.settings.bits:
            assert found["hamming"] == hits["hamming"].to_pylist()
        assert found["embedding"] == np.array(hits["embedding"].to_pylist()).ravel().tolist()
        expected = archive.decode(hits)
        pixels = np.array(found["images"]).reshape(found["shape"])
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).max() < 1e-3 * np.ptp(expected)


def test_cards_are_decoded_and_say_how_few_bytes_they_came_from(page, packed):
    archive, url = packed
    name = archive.select(columns=["geohash"])["geohash"].to_pylist()[7]
    page.goto(f"{url}/viewer/index.html#like={name}&k=12")
    until(page, "document.querySelectorAll('canvas.decoded').length === 12")
    assert page.evaluate(CARDS) == archive.search(name, k=12)["geohash"].to_pylist()
    assert all(text.startswith(str(archive.settings.packed)) for text in page.evaluate(FROM))
    assert page.seen.faults == []
