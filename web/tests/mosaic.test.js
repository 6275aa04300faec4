import assert from "node:assert/strict";
import { test } from "node:test";
import { makeRaster } from "../viewer/mercator.js";
import { paste } from "../viewer/mosaic.js";

/** A tile of one colour a pixel. @param {number[]} colours @param {number} width */
function tile(colours, width) {
  const pixels = new Uint8ClampedArray(Uint32Array.from(colours).buffer);
  return { pixels, width, height: colours.length / width };
}

test("a tile lies where its cell is, and nothing beside it", () => {
  const mosaic = makeRaster([0, -1, 4, 1], 4, 2);
  paste(mosaic, tile([1, 2, 3, 4], 2), [1, -1, 3, 1]);
  assert.deepEqual([...mosaic.pixels], [0, 1, 2, 0, 0, 3, 4, 0]);
});

test("a tile that the view cuts shows what is in view", () => {
  const mosaic = makeRaster([0, -1, 4, 1], 4, 2);
  paste(mosaic, tile([1, 2, 3, 4], 2), [-1, -1, 1, 1]);
  assert.deepEqual([...mosaic.pixels], [2, 0, 0, 0, 4, 0, 0, 0]);
});

test("a view across the antimeridian shows both sides", () => {
  const mosaic = makeRaster([178, -1, -178, 1], 4, 1);
  paste(mosaic, tile([7], 1), [179, -1, 180, 1]);
  paste(mosaic, tile([8], 1), [-180, -1, -179, 1]);
  assert.deepEqual([...mosaic.pixels], [0, 7, 8, 0]);
});

test("a cell smaller than a pixel is still seen, one out of view is not", () => {
  const mosaic = makeRaster([0, -1, 4, 1], 4, 1);
  paste(mosaic, tile([1, 2, 3, 4], 2), [2.4, -1, 2.6, 1]);
  paste(mosaic, tile([9], 1), [20, -1, 21, 1]);
  assert.deepEqual([...mosaic.pixels].filter(Boolean).length, 1);
});

test("a mosaic of unreasonable size is refused", () => {
  for (const [width, height] of [
    [0, 5],
    [1e5, 1e5],
    [NaN, 1],
  ]) {
    assert.throws(() => makeRaster([0, 0, 1, 1], width, height), /view: expected/);
  }
});
