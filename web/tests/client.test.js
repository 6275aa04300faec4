import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { MessageChannel } from "node:worker_threads";
import { connect } from "../viewer/client.js";
import { ChipGrid } from "../viewer/grid.js";
import { serve } from "../viewer/worker.js";
import { DEMO, folderFetch, kernels, ROOT } from "./folders.js";

const golden = JSON.parse(
  await readFile(new URL("../../tests/golden/archive.json", import.meta.url), "utf8"),
);
const [CELL, OTHER] = golden.cells;

/**
 * The packaged archive behind a worker's line, opened.
 *
 * @param {import("node:test").TestContext} context
 * @param {(path: string) => void | Promise<void>} [hook] runs before an object is answered
 */
async function demo(context, hook) {
  const { port1, port2 } = new MessageChannel();
  const { fetch, asked } = folderFetch(DEMO, { hook });
  serve(/** @type {any} */ (port2), { fetch, kernels });
  const archive = connect(/** @type {any} */ (port1), ROOT);
  context.after(() => archive.close());
  const summary = await archive.call("open", {});
  return { archive, summary, asked };
}

/** A picture of all of an archive. @param {import("../viewer/client.js").Summary} summary */
function viewOf({ bounds }) {
  return { bbox: bounds, width: 60, height: 40 };
}

test("an archive is summed up in plain values", async (context) => {
  const { summary } = await demo(context);
  assert.deepEqual(structuredClone(summary), summary);
  const { tiles, bands, datetimes, precision, bits, ndvi, generation, footprint, bounds } = summary;
  assert.equal(summary.decodes, true);
  assert.deepEqual(
    { tiles, bands, datetimes, precision, bits, ndvi, generation },
    {
      tiles: 640,
      bands: ["B02", "B03", "B04", "B08"],
      datetimes: null,
      precision: 6,
      bits: 128,
      ndvi: true,
      generation: 1,
    },
  );
  assert.deepEqual(footprint, [bounds]);
  assert.match(summary.attribution, /Copernicus/);
});

test("a search comes as tiles, and its heat as pixels", async (context) => {
  const { archive, summary } = await demo(context);
  const view = viewOf(summary);
  const clear = await archive.call("heat", view);
  assert.equal(clear.pixels.some(Boolean), false);
  /** @type {object[]} */
  const steps = [];
  const onProgress = (/** @type {object} */ step) => steps.push(step);
  const found = await archive.call("search", { like: [CELL], k: 10 }, { onProgress });
  const expected = golden.cases[0].hits;
  assert.deepEqual(
    found.hits.map((tile) => [tile.geohash, tile.source, tile.score]),
    expected.map((/** @type {any[]} */ hit) => hit.slice(0, 3)),
  );
  assert.deepEqual([found.candidates, found.hits[0].bounds.length], [639, 4]);
  assert.deepEqual(
    found.exemplars.map((tile) => [tile.geohash, tile.score]),
    [[CELL, null]],
  );
  assert.ok(found.hits.every((tile) => tile.valid > 0 && Number.isNaN(tile.datetime)));
  assert.deepEqual(steps, [{ done: 1, total: 1 }]);
  const { pixels } = await archive.call("heat", view);
  assert.ok(pixels instanceof Uint8ClampedArray && pixels.length === 60 * 40 * 4);
  assert.ok(pixels.some(Boolean));
});

test("pictures come in batches, cropped, in the order asked for", async (context) => {
  const { archive } = await demo(context);
  const { hits } = await archive.call("search", { like: [CELL], k: 30 });
  const rows = hits.map(({ geohash, datetime, source }) => ({ geohash, datetime, source }));
  for (const show of /** @type {const} */ (["colour", "ndvi"])) {
    /** @type {any[]} */
    const steps = [];
    const onProgress = (/** @type {any} */ step) => steps.push(step);
    const { decoded } = await archive.call("pictures", { rows, show }, { onProgress });
    const pictures = steps.flatMap((step) => step.pictures);
    assert.deepEqual([decoded, steps.length], [30, 3]);
    assert.deepEqual(
      pictures.map(({ index }) => index),
      [...rows.keys()],
    );
    for (const { index, width, height, pixels } of pictures) {
      const [r0, r1, c0, c1] = new ChipGrid(6, 10, 64, 112).crop(rows[index].geohash);
      assert.deepEqual([width, height, pixels.length], [c1 - c0, r1 - r0, 4 * width * height]);
      assert.ok(
        pixels.every(
          (/** @type {number} */ value, /** @type {number} */ i) => i % 4 < 3 || value === 255,
        ),
      );
      assert.ok(new Set(pixels).size > 20);
    }
  }
});

test("tiles of a box are listed and decoded, and tiles that are not listed decoded too", async (context) => {
  const { archive, summary } = await demo(context);
  const { tiles, more } = await archive.call("tiles", { bbox: summary.bounds, limit: 5 });
  assert.deepEqual([tiles.length, more, tiles[0].score], [5, true, null]);
  const far = { geohash: OTHER, datetime: NaN, source: tiles[0].source };
  for (const rows of [
    tiles.map(({ geohash, datetime, source }) => ({ geohash, datetime, source })),
    [far],
  ]) {
    const { decoded } = await archive.call("pictures", { rows, show: "colour" });
    assert.equal(decoded, rows.length);
  }
  const nowhere = { ...far, source: "no such scene" };
  await assert.rejects(archive.call("pictures", { rows: [nowhere], show: "colour" }), {
    name: "BadInput",
    message: /expected tiles of the archive, found dqd/,
  });
});

test("a newer search ends an older one", async (context) => {
  let slow = true;
  const { archive } = await demo(context, async (path) => {
    if (slow && path.startsWith("embeddings")) await new Promise((go) => setTimeout(go, 100));
  });
  const older = archive.call("search", { like: [CELL], k: 3 });
  const newer = archive.call("search", { like: [OTHER], k: 3 });
  const [first, second] = await Promise.allSettled([older, newer]);
  slow = false;
  assert.equal(first.status, "rejected");
  assert.deepEqual(
    second.status === "fulfilled" && second.value.hits.map(({ geohash }) => geohash).length,
    3,
  );
});

test("errors arrive as what they are", async (context) => {
  const { archive } = await demo(context);
  await assert.rejects(archive.call("search", { like: ["dqd000"] }), {
    name: "BadInput",
    message: "geohash dqd000 has no tile in the archive; nearest is dqdjuf",
  });
  await assert.rejects(
    archive.call(/** @type {any} */ ("dance"), {}),
    /expected a verb it knows, found dance/,
  );
});

test("a mosaic has pixels where tiles are, none when they are too many", async (context) => {
  const { archive, summary } = await demo(context);
  const view = { ...viewOf(summary), show: /** @type {const} */ ("colour") };
  const whole = await archive.call("mosaic", { ...view, limit: 1000 });
  assert.deepEqual([whole.tiles, whole.more, whole.pixels?.length], [640, false, 60 * 40 * 4]);
  assert.ok(new Uint32Array(whole.pixels?.buffer ?? new ArrayBuffer(0)).every(Boolean));
  const most = await archive.call("mosaic", { ...view, limit: 100 });
  assert.deepEqual([most.pixels, most.more], [null, true]);
});

test("what is stopped is rejected, and the next thing goes on", async (context) => {
  const { archive, summary } = await demo(context);
  const view = { ...viewOf(summary), show: /** @type {const} */ ("colour") };
  const ended = assert.rejects(archive.call("mosaic", { ...view, limit: 1000 }), /abort/);
  await archive.call("stop", { what: "mosaic" });
  await ended;
  await archive.call("stop", { what: "listing" });
  assert.equal((await archive.call("search", { like: [CELL], k: 3 })).hits.length, 3);
});

test("cells and cost", async (context) => {
  const { archive, summary } = await demo(context);
  assert.equal(
    (await archive.call("cells", { bbox: summary.bounds, limit: 1000 })).geohash.length,
    640,
  );
  assert.deepEqual(await archive.call("cost", { like: [CELL] }), {
    requests: 0,
    bytes: 0,
    rows: 640,
  });
});

test("before open there is no archive, after close no worker", async (context) => {
  const { port1, port2 } = new MessageChannel();
  serve(/** @type {any} */ (port2), { kernels });
  const archive = connect(/** @type {any} */ (port1), ROOT);
  context.after(() => port1.close());
  await assert.rejects(archive.call("cost", { like: [CELL] }), /expected open first/);
  const waiting = archive.call("cost", { like: [CELL] });
  archive.close();
  await assert.rejects(waiting, /found it closed/);
  await assert.rejects(archive.call("cost", { like: [CELL] }), /found it closed/);
});

test("a worker that fails to run rejects what waits", async () => {
  /** @type {any} */
  const worker = { postMessage() {}, onmessage: null, onerror: null };
  const archive = connect(worker, ROOT);
  const waiting = archive.call("open", {});
  worker.onerror({ message: "a syntax error" });
  await assert.rejects(waiting, {
    name: "EmbarchiveError",
    message: "worker: expected it to run, found a syntax error",
  });
});
