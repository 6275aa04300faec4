"""The page on an archive with an overview: the hits of Python, from a small share of the tiles."""

import numpy as np
import pytest
from browser import until
from faults import serving
from test_overview import DIM, QUIET, addition
from test_viewer import CARDS, after, visit
from test_viewer_faults import load, said

import embarchive
from embarchive import make_overview
from embarchive.additions import add_to_archive
from embarchive.store import open_store

# Neighbouring boxes with a kilotile each.
PREFIXES = tuple(f"u{a}{b}" for a in "013" for b in "bcfguvyz89")
SPENT = "document.querySelector('#spent').textContent"
ANSWER = """async (queries) => {
  const at = (name) => new URL(name, location.href).href;
  const { openArchive } = await import(at("archive.js"));
  const { loadKernels } = await import(at("kernels.js"));
  await loadKernels();
  const answers = [];
  for (const query of queries) {
    const archive = await openArchive(new URL("../", location.href));
    const { hits, compared, heat, bytesRead } = await archive.search(query);
    const { geohash, source, score, hamming } = hits;
    const plain = { geohash, source, score: [...score], hamming: [...hamming] };
    answers.push({ ...plain, compared, bytesRead, heat: heat.geohash.length });
  }
  return answers;
}"""


def spread(count, seed):
    """Rows around three of 60 points of 16 numbers, others in each box."""
    kinds = np.random.default_rng(1).normal(0, 25, (60, DIM))
    rng = np.random.default_rng(seed)
    own = kinds[(seed * 2 + rng.integers(3, size=count)) % 60]
    return np.clip(np.rint(own + rng.normal(0, 6, own.shape)), -127, 127).astype(np.int8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen") / "archive"
    store = open_store(folder)
    add_to_archive(store, lambda _: addition(store, PREFIXES, 100, drawn=spread))
    make_overview.make(store, progress=QUIET)
    return folder


@pytest.fixture
def shown(root):
    """The archive on a server with faults: server, URL, and the archive."""
    with serving() as server:
        yield server, load(server, root), embarchive.open_archive(root)


def queries(archive):
    names = archive.select(columns=["geohash"])["geohash"].to_pylist()
    return [
        {"like": [names[700]], "k": 24},
        {"like": names[3000:3003], "unlike": [names[20_000]], "k": 12},
        {"like": [names[9000], names[26_000]], "k": 50, "op": "min"},
        {"like": [names[700]], "k": 24, "exact": True},
        {"like": [names[700]], "k": 24, "invert": True},
    ]


def test_hits_are_those_of_python_and_few_bytes_were_read(page, shown):
    _, url, archive = shown
    asked = queries(archive)
    page.goto(f"{url}/viewer/index.html")
    answers = page.evaluate(ANSWER, asked)
    for query, found in zip(asked, answers, strict=True):
        hits = archive.search(**query)
        for column in ("geohash", "source", "score", "hamming"):
            assert found[column] == hits[column].to_pylist()
        share = found["compared"] / len(archive)
        assert share == pytest.approx(float(hits.schema.metadata[b"share_read"]), abs=1e-6)
        # Seventeen lists of 364, of the mean size, or 64 rows a hit.
        few = max(17 / 364, 64 * query["k"] / len(archive))
        assert (share <= few) is not bool(query.get("exact") or query.get("invert"))
    near, everything = answers[0], answers[3]
    assert near["geohash"] == everything["geohash"]
    assert near["bytesRead"] < everything["bytesRead"] / 4
    assert near["heat"] <= near["compared"]


def test_the_page_says_what_share_it_compared(page, shown):
    _, url, archive = shown
    query = queries(archive)[0]["like"][0]
    assert visit(page, url, f"like={query}&k=24") == "ready"
    assert page.evaluate(CARDS) == archive.search(query, k=24)["geohash"].to_pylist()
    share = float(archive.search(query, k=24).schema.metadata[b"share_read"])
    said = page.evaluate(SPENT)
    assert f"Compared {100 * share:.2g} % of 30,720 tiles" in said
    assert " kB read in " in said and "every byte checked" in said
    until(page, "document.querySelectorAll('.card').length === 24")
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    assert after(page, page.locator("#exact").check) == "ready"
    assert "exact=1" in page.url
    assert page.evaluate(CARDS) == archive.search(query, k=24, exact=True)["geohash"].to_pylist()
    assert "Compared 100 % of 30,720 tiles" in page.evaluate(SPENT)
    assert page.seen.faults == []


@pytest.mark.parametrize("what", ["index", "centroids", "list"])
def test_a_flipped_bit_is_said_in_one_line_and_nothing_is_shown(page, shown, what):
    server, url, archive = shown
    index = archive.overview.index
    lists, coarse = index["file"][0].as_py(), index["coarse"][0].as_py()
    path = {
        "index": f"overview/{archive.head.generation.overview.sha256}.parquet",
        "centroids": f"models/{coarse}.safetensors",
        "list": f"overview/{lists}.parquet",
    }[what]
    key = next(key for key in server.objects if key.endswith(path))
    data = bytearray(server.objects[key])
    for row in index.to_pylist() if what == "list" else [{"offset": len(data) // 2}]:
        data[row["offset"]] ^= 1
    server.objects[key] = bytes(data)
    query = queries(archive)[0]["like"][0]
    assert visit(page, url, f"like={query}") == "damaged"
    words = {"list": "list", "index": "overview/", "centroids": "models/"}[what]
    assert words in said(page) and "expected" in said(page) and "\n" not in said(page)
    assert page.evaluate(CARDS) == []
    assert page.seen.errors == page.seen.violations == []
