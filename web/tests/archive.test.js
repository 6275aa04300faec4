import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { Archive, openArchive } from "../viewer/archive.js";
import { BadInput, GenerationExpired, NotAnArchive } from "../viewer/errors.js";
import { cellBounds } from "../viewer/grid.js";
import { loadKernels } from "../viewer/kernels.js";
import { bytesFetch, DEMO, folderFetch, kernels, ROOT } from "./folders.js";

const golden = JSON.parse(
  await readFile(new URL("../../tests/golden/archive.json", import.meta.url), "utf8"),
);
const CELL = golden.cells[5];

before(() => loadKernels(kernels));

/** The archive in the package, and what was asked of its folder. */
async function demo() {
  const { fetch, asked } = folderFetch(DEMO);
  return { archive: await openArchive(ROOT, { fetch }), asked };
}

/** @param {Record<string, any>} query as Python takes it */
function wantedOf({ per_place: perPlace, ...query }) {
  return /** @type {import("../viewer/archive.js").Wanted} */ ({ ...query, perPlace });
}

test("every search of the packaged archive is Python's, to the last bit", async () => {
  const { archive } = await demo();
  for (const { hits: expected, error, ...query } of golden.cases) {
    const found = archive.search(wantedOf(query));
    if (error) {
      await assert.rejects(found, { name: "BadInput", message: error });
      continue;
    }
    const { hits } = await found;
    const rows = hits.geohash.map((name, i) => [
      name,
      hits.source[i],
      hits.score[i],
      hits.hamming?.[i],
    ]);
    assert.deepEqual(rows, expected, JSON.stringify(query));
  }
});

test("opening takes two requests, a first search two more, the next none", async () => {
  const { archive, asked } = await demo();
  assert.equal(asked.length, 2);
  const cost = await archive.cost({ like: [CELL] });
  assert.deepEqual(cost, { requests: 1, bytes: 56_509, rows: 640 });
  const found = await archive.search({ like: [CELL] });
  assert.deepEqual([found.requests, found.bytesRead, asked.length], [1, 56_509, 4]);
  assert.deepEqual(await archive.cost({ like: [CELL] }), { requests: 0, bytes: 0, rows: 640 });
  assert.equal((await archive.search({ like: [golden.cells[9]] })).requests, 0);
  assert.equal(asked.length, 4);
});

test("codes are read only of rows that decode from them", async () => {
  const { archive } = await demo();
  const rows = await archive.select({ geohash: CELL });
  const names = ["embedding", "model_id"];
  const plain = await archive.withVectors(rows);
  assert.ok(names.every((name) => name in plain) && !("code" in plain));
  const { generation: old } = archive;
  const [{ space_id }] = old.spaces;
  for (const [name, has] of [
    ["other", false],
    [space_id, true],
  ]) {
    const layered = { ...old.spaces[0], space_id: String(name), code: "c".repeat(64) };
    const changed = new Archive(archive.store, { ...old, spaces: [...old.spaces, layered] });
    assert.equal("code" in (await changed.withVectors(rows)), has);
  }
});

test("an archive says what it is", async () => {
  const { archive } = await demo();
  assert.deepEqual(
    [archive.tiles, archive.datetimes, archive.settings.bands.length],
    [640, null, 4],
  );
  assert.deepEqual(archive.bounds, archive.generation.parts[0].bbox);
  assert.throws(() => archive.space("other"), /space: expected one of .*, found other/);
});

test("heat has every candidate place, hits their bounds", async () => {
  const { archive } = await demo();
  const { heat, hits, candidates, spaceId } = await archive.search({ like: [CELL], k: 3 });
  assert.deepEqual([candidates, heat?.geohash.length, heat?.value.length], [639, 639, 639]);
  assert.ok(!heat?.geohash.includes(CELL));
  assert.deepEqual([...hits.bounds.slice(0, 4)], cellBounds(hits.geohash[0]));
  assert.equal(heat?.value[heat.geohash.indexOf(hits.geohash[0])], hits.hamming?.[0]);
  assert.equal(spaceId, archive.space().space_id);
});

test("a selection is what the filter says", async () => {
  const { archive } = await demo();
  const [west, south, east, north] = cellBounds(CELL);
  const bbox = [west + 1e-5, south + 1e-5, east - 1e-5, north - 1e-5];
  const rows = await archive.select({ bbox, columns: ["embedding", "mse"] });
  assert.deepEqual([rows.geohash, rows.n, rows.embedding.length], [[CELL], 1, 64]);
  const all = await archive.select();
  const start = CELL.slice(0, 5);
  const own = all.geohash.filter((name) => name.startsWith(start));
  assert.equal(all.n, 640);
  assert.deepEqual((await archive.select({ geohash: start })).geohash, own);
  assert.equal((await archive.select({ datetime: "2020-01-01/.." })).n, 0);
  await assert.rejects(archive.select({ columns: ["height"] }), BadInput);
});

test("cells of a view are as many as asked at most, none where there are far more", async () => {
  const { archive } = await demo();
  const all = await archive.cells({ limit: 1000 });
  assert.deepEqual([all.geohash.length, all.more], [640, false]);
  assert.deepEqual(await archive.cells({ limit: 639 }), {
    geohash: all.geohash.slice(0, 639),
    more: true,
  });
  assert.deepEqual(await archive.cells({ limit: 100 }), { geohash: [], more: true });
  const { geohash: few, more } = await archive.cells({ bbox: cellBounds(CELL), limit: 100 });
  assert.deepEqual(
    [few.length > 3 && few.length < 10, more, few.includes(CELL)],
    [true, false, true],
  );
});

test("the first places of a box are those with the least geohash", async () => {
  const { archive } = await demo();
  const { rows, more } = await archive.places({ bbox: archive.bounds, limit: 24 });
  const { geohash } = await archive.cells({ limit: 1000 });
  assert.deepEqual([rows.geohash, more], [geohash.slice(0, 24), true]);
  assert.ok(rows.valid_fraction.every((share) => share > 0));
});

test("rows decode to images, also those that were only listed", async () => {
  const { archive } = await demo();
  const { rows } = await archive.places({ bbox: cellBounds(CELL), limit: 4 });
  const { images, shape } = await archive.decode(rows);
  assert.deepEqual(shape, [4, 4, 64, 112]);
  assert.equal(images.length, 4 * 4 * 64 * 112);
  assert.ok(images.every(Number.isFinite) && images.some((value) => value > 0.01));
  const { hits } = await archive.search({ like: [rows.geohash[0]], k: 2 });
  const again = await archive.select({ geohash: hits.geohash[1] });
  const one = archive.decode(again).then((found) => found.images);
  assert.deepEqual((await archive.decode(hits)).images.slice(4 * 64 * 112), await one);
});

test("a search that was ended is not answered", async () => {
  const { archive, asked } = await demo();
  const wanted = { like: [CELL] };
  await assert.rejects(archive.search(wanted, { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.ok(!asked.some((path) => path.startsWith("embeddings")));
});

test("progress counts shards", async () => {
  const { archive } = await demo();
  /** @type {object[]} */
  const steps = [];
  await archive.search({ like: [CELL] }, { onProgress: (step) => steps.push(step) });
  assert.deepEqual(steps, [{ done: 1, total: 1 }]);
});

test("a folder without a pointer is no archive, a lost object an expired generation", async () => {
  const nothing = bytesFetch(() => null).fetch;
  await assert.rejects(openArchive(ROOT, { fetch: nothing }), NotAnArchive);
  const { fetch } = folderFetch(DEMO);
  /** @type {any} */
  const losing = (/** @type {string} */ url, /** @type {RequestInit} */ how) =>
    url.includes("embeddings") ? nothing(url, how) : fetch(url, how);
  const archive = await openArchive(ROOT, { fetch: losing });
  await assert.rejects(archive.search({ like: [CELL] }), GenerationExpired);
});
