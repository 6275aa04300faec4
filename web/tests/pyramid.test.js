import assert from "node:assert/strict";
import { test } from "node:test";
import { levelOf, meanPixels, paintAfar, threeOf } from "../viewer/afar.js";
import { Archive, openArchive } from "../viewer/archive.js";
import { makeFilter } from "../viewer/filters.js";
import { cellBounds } from "../viewer/grid.js";
import { loadKernels } from "../viewer/kernels.js";
import { Reader } from "../viewer/reader.js";
import { golden } from "./faults.js";
import { bytesFetch, DEMO, folderFetch, kernels, ROOT } from "./folders.js";
import { Store } from "../viewer/store.js";
import { sha256 } from "../viewer/digests.js";

const said = golden("pyramid");
const settings = { dim: 64, bits: 128 };
const everything = makeFilter();
const turn = async () => {};

/** @param {string} text */
const bytesOf = (text) => new Uint8Array(Buffer.from(text, "base64"));

/** A reader of one table, whatever it is, and what was asked for. @param {string} text */
function readerOf(text) {
  const { fetch, asked } = bytesFetch((path) =>
    path.startsWith("pyramid/") ? bytesOf(text) : null,
  );
  return { reader: new Reader(new Store(ROOT, { fetch }), settings), asked };
}

/** @param {any} one */
const named = async ({ data, ref }) => ({ ...ref, sha256: await sha256(bytesOf(data)) });

test("cells are those of Python, to the last bit", async () => {
  const { reader, asked } = readerOf(said.data);
  for (const [level, rows] of Object.entries(said.levels)) {
    const found = await reader.level(said.ref, said.space_id, Number(level), everything);
    assert.deepEqual(found.geohash, rows.geohash);
    assert.deepEqual([...found.count], rows.count);
    assert.deepEqual([...found.mean], rows.mean);
    assert.deepEqual(found.model_id, rows.model_id);
    assert.ok([...found.first, ...found.last].every(Number.isNaN));
  }
  assert.equal(asked.length, 1, "a small table is one request");
});

test("only cells that meet the box", async () => {
  const { reader } = readerOf(said.data);
  const [west, south, east, north] = cellBounds(said.levels[5].geohash[4]);
  const inner = [west + 1e-6, south + 1e-6, east - 1e-6, north - 1e-6];
  const found = await reader.level(said.ref, said.space_id, 5, makeFilter({ bbox: inner }));
  assert.deepEqual(found.geohash, [said.levels[5].geohash[4]]);
  const none = await reader.level(said.ref, said.space_id, 5, makeFilter({ bbox: [0, 0, 1, 1] }));
  assert.equal(none.n, 0);
  assert.equal((await reader.level(said.ref, "other", 5, everything)).n, 0);
});

test("tables that Python refuses are refused", async () => {
  for (const one of said.refused) {
    const { reader } = readerOf(one.data);
    await assert.rejects(
      reader.level(await named(one), said.space_id, 5, everything),
      (/** @type {Error} */ error) => {
        assert.equal(error.name, one.said, error.message);
        assert.match(error.message, /^pyramid [0-9a-f]{12}: expected /);
        return true;
      },
    );
  }
});

test("other bytes, and references that cannot be, are refused", async () => {
  const { reader } = readerOf(said.data.replace("A", "B"));
  await assert.rejects(reader.level(said.ref, said.space_id, 5, everything), { name: "Damaged" });
  for (const odd of [{ level: 12 }, { footer_length: said.ref.length + 1 }, { rows: 3 }]) {
    const good = readerOf(said.data).reader;
    await assert.rejects(good.level({ ...said.ref, ...odd }, said.space_id, 5, everything), {
      name: "Damaged",
    });
  }
});

/** The packaged archive with the pyramid of the golden file. */
async function demo() {
  await loadKernels(kernels);
  const inFolder = folderFetch(DEMO).fetch;
  const alone = bytesFetch(() => bytesOf(said.data)).fetch;
  /** @type {any} */
  const fetch = (/** @type {string} */ url, /** @type {any} */ init) =>
    (url.startsWith(`${ROOT}pyramid/`) ? alone : inFolder)(url, init);
  const archive = await openArchive(ROOT, { fetch });
  return new Archive(archive.store, { ...archive.generation, pyramid: said.ref });
}

test("a cell's pixel is the mean of what its mean embedding decodes to", async () => {
  const archive = await demo();
  const cells = await archive.reader.level(said.ref, said.space_id, 5, everything);
  const signal = new AbortController().signal;
  const found = await meanPixels(archive, cells, { signal, turn });
  const decoder = await archive.models.plainDecoder(cells.model_id[0]);
  const z = Float32Array.from(cells.mean.slice(0, 64), (one) => (one / 256) * decoder.scale);
  const image = decoder.network.decode(z);
  const own = image.subarray(0, image.length / 4);
  assert.ok(Math.abs(found[0] - own.reduce((sum, one) => sum + one, 0) / own.length) < 1e-6);
  assert.equal(found.length, cells.n * 4);
});

test("a view is painted cell by cell, and where there is none it stays clear", async () => {
  const archive = await demo();
  const [west, south, east, north] = cellBounds(said.levels[5].geohash[0]);
  const wide = east - west;
  const view = { width: 30, height: 3, show: /** @type {const} */ ("colour") };
  const signal = new AbortController().signal;
  const bbox = [west - wide, south + 1e-6, east + wide, north - 1e-6];
  const { pixels, level, cells } = await paintAfar(archive, { ...view, bbox }, { signal, turn });
  assert.equal(level, 5);
  assert.ok(pixels && cells >= 1);
  const opaque = Array.from({ length: 30 }, (_, x) => pixels[(30 + x) * 4 + 3]);
  assert.deepEqual(opaque.slice(10, 20), new Array(10).fill(255));
  assert.equal(opaque.filter((one) => one > 0).length % 10, 0);
  const away = { ...view, bbox: [0, 0, 1, 1] };
  assert.equal((await paintAfar(archive, away, { signal, turn })).pixels, null);
  const aborted = AbortSignal.abort();
  await assert.rejects(paintAfar(archive, { ...view, bbox }, { signal: aborted, turn }));
});

test("the level is the finest whose cells stay few", () => {
  const world = [-180, -90, 180, 90];
  assert.equal(levelOf(5, world, world), 2);
  assert.equal(levelOf(1, world, world), 1);
  assert.equal(levelOf(5, [10, 50, 11, 51], world), 5);
  assert.equal(levelOf(5, [10, 50, 14, 54], world), 4);
  // what is beside the archive does not count
  assert.equal(levelOf(5, world, [10, 50, 11, 51]), 5);
  assert.equal(levelOf(6, [179, 0, -179, 1], world), 5);
});

test("cells without a decoder are told apart by how they differ most", () => {
  const mean = Int16Array.from([3, 0, 100, 0, -3, 0, -100, 0, 3, 0, 90, 0, -3, 0, -90, 0]);
  const found = threeOf({ n: 4, mean });
  const first = [0, 3, 6, 9].map((at) => found[at]);
  assert.ok(first[0] > 99 && first[1] < -99 && first[2] > 89 && first[3] < -89);
  assert.ok([2, 5, 8, 11].every((at) => Math.abs(found[at]) < 1e-3));
  assert.deepEqual([...threeOf({ n: 2, mean: new Int16Array(8) })], new Array(6).fill(0));
});
