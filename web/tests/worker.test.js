import assert from "node:assert/strict";
import { test } from "node:test";
import { MessageChannel } from "node:worker_threads";
import { connect } from "../viewer/client.js";
import { NotAnArchive } from "../viewer/errors.js";
import { serve } from "../viewer/worker.js";
import { bytesFetch, DEMO, folderFetch, kernels, ROOT } from "./folders.js";

/**
 * A page's line to a worker that fetches so.
 *
 * @param {import("node:test").TestContext} context
 * @param {typeof globalThis.fetch} fetch
 */
function lineTo(context, fetch) {
  const { port1, port2 } = new MessageChannel();
  serve(/** @type {any} */ (port2), { fetch, kernels });
  const archive = connect(/** @type {any} */ (port1), ROOT);
  context.after(() => archive.close());
  return archive;
}

test("what is asked while the archive opens is answered once it is open", async (context) => {
  const archive = lineTo(context, folderFetch(DEMO).fetch);
  const opening = archive.call("open", {});
  const cells = archive.call("cells", { bbox: null, limit: 1000 });
  assert.equal((await cells).geohash.length, 640);
  assert.equal((await opening).tiles, 640);
});

test("what is asked of an archive that did not open fails as the opening did", async (context) => {
  const archive = lineTo(context, bytesFetch(() => null).fetch);
  const opening = archive.call("open", {});
  const cells = archive.call("cells", { bbox: null, limit: 1000 });
  await assert.rejects(opening, NotAnArchive);
  await assert.rejects(cells, NotAnArchive);
});

test("a whole view is decoded after what else is asked meanwhile", async (context) => {
  const archive = lineTo(context, folderFetch(DEMO).fetch);
  const { bounds } = await archive.call("open", {});
  const view = { bbox: bounds, limit: 1500, width: 64, height: 64 };
  /** @type {string[]} */
  const order = [];
  const note = (/** @type {string} */ what) => () => void order.push(what);
  const mosaic = archive.call("mosaic", { ...view, show: "colour" }).then(note("mosaic"));
  const { geohash } = await archive.call("cells", { bbox: null, limit: 1000 });
  const found = await archive.call("search", { like: [geohash[0]], k: 639 });
  const rows = found.hits.map(({ geohash, datetime, source }) => ({ geohash, datetime, source }));
  await archive.call("pictures", { rows, show: "ndvi" }).then(note("pictures"));
  await mosaic;
  assert.deepEqual(order, ["pictures", "mosaic"]);
});
