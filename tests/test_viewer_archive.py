"""The page's reader against Python's: the same hits to the last bit, in few requests."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from archives import make_archive, make_cells

import embarchive
from embarchive.serve import running

VIEWER = Path(__file__).parent.parent / "web" / "viewer"
SCRIPT = """
const [viewer, url, text] = process.argv.slice(1);
const { readFile } = await import("node:fs/promises");
const { openArchive } = await import(`${viewer}/archive.js`);
const { loadKernels } = await import(`${viewer}/kernels.js`);
const { makeFilter } = await import(`${viewer}/filters.js`);
const { planOf } = await import(`${viewer}/reads.js`);
await loadKernels((name) => readFile(`${viewer}/${name}`));
const { queries, bbox } = JSON.parse(text);

async function answer(query) {
  const archive = await openArchive(url);
  const opened = archive.store.requests;
  const { requests: expected } = await archive.cost(query);
  const { hits, bytesRead } = await archive.search(query);
  const requests = archive.store.requests - opened;
  return { ...plain(hits), opened, requests, expected, bytesRead };
}

// The rows of a box, first some columns and then others.
async function table(whole, ahead) {
  const columns = ["bits", "embedding", "model_id", "valid_fraction", "mse"];
  const archive = await openArchive(url);
  const filter = makeFilter({ bbox });
  const { reads } = await archive.plan(filter);
  const before = archive.store.requests;
  const plan = planOf(reads.map((read) => ({ ...read, whole })));
  const rows = await archive.reader.rows(plan, filter, ["bits"], { ahead });
  const full = await archive.reader.more(rows, columns);
  const { requests, bytesRead } = archive.store;
  return { ...plain(full), requests: requests - before, bytesRead };
}

function plain(rows) {
  const names = Object.keys(rows).filter((name) => name !== "shard" && name !== "n");
  const value = (one) => (Number.isNaN(one) ? null : one);
  return Object.fromEntries(names.map((name) => [name, Array.from(rows[name], value)]));
}

const answers = [];
for (const query of queries) answers.push(await answer(query));
const tables = [await table(true, []), await table(false, ["embedding"]), await table(false, [])];
console.log(JSON.stringify({ answers, tables }));
"""
CELLS = make_cells(50_000)
BOX = [13.3, 52.3, 13.5, 52.4]
QUERIES = [
    {"like": [str(CELLS[100])], "k": 50, "bbox": BOX},
    {"like": [str(CELLS[100])], "k": 50, "bbox": [13.9, 52.5, 14.1, 52.7]},
    {"like": [str(CELLS[25_000])], "k": 50},
    {"like": CELLS[:3].tolist(), "unlike": CELLS[40_000:40_002].tolist(), "k": 20},
    {"like": [str(CELLS[7])], "k": 200, "op": "min", "invert": True},
    {"like": [str(CELLS[9])], "k": 20, "exact": True, "datetime": "2023-05-01"},
]


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    root = tmp_path_factory.mktemp("big")
    make_archive(root, 50_000, shard_prefix=2)
    with running(root) as url:
        yield url, asked(url)


def asked(url):
    """What node answers to the queries."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    text = json.dumps({"queries": QUERIES, "bbox": BOX})
    run = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT, VIEWER.as_posix(), url, text],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_hits_are_those_of_python_to_the_last_bit(big, number):
    url, found = big
    expected = embarchive.open_archive(url).search(**QUERIES[number])
    answer = found["answers"][number]
    for column in ("geohash", "source", "score", "hamming", "model_id"):
        assert answer[column] == expected[column].to_pylist()
    assert answer["datetime"] == expected["datetime"].cast("int64").to_pylist()


def test_a_search_in_50k_tiles_takes_less_than_12_requests(big):
    for answer in big[1]["answers"]:
        assert answer["opened"] == 2
        assert answer["requests"] < 12 and answer["expected"] < 12
        assert answer["bytesRead"] < 7_000_000


def test_ranges_give_the_rows_of_whole_shards(big):
    whole, *ranged = big[1]["tables"]
    for column in ("geohash", "source", "bits", "embedding", "model_id", "valid_fraction", "mse"):
        assert all(table[column] == whole[column] for table in ranged)
    assert len(whole["embedding"]) == 64 * len(whole["geohash"]) > 64 * 100


def test_columns_fetched_ahead_save_requests(big):
    whole, ahead, later = (table["requests"] for table in big[1]["tables"])
    assert whole < ahead < later < 12
