import assert from "node:assert/strict";
import { test } from "node:test";

import { BadInput } from "../viewer/errors.js";
import * as grid from "../viewer/grid.js";
import { golden } from "./faults.js";

const { points, gsd, height, width, cells, distances } = golden("grid");

/**
 * @param {number} found
 * @param {number} expected
 */
function near(found, expected) {
  assert.ok(
    Math.abs(found - expected) <= 1e-9 * Math.max(1, Math.abs(expected)),
    `${found} ${expected}`,
  );
}

test("points have Python's geohashes", () => {
  cells.forEach((/** @type {{geohash: string}} */ { geohash }, /** @type {number} */ i) => {
    const [lon, lat] = points[i % points.length];
    assert.equal(grid.encode(lon, lat, geohash.length), geohash);
  });
});

test("cells have Python's bounds to the last bit, and come back from their indices", () => {
  const all = grid.bounds(cells.map((/** @type {{geohash: string}} */ cell) => cell.geohash));
  cells.forEach(
    (/** @type {{geohash: string, bounds: number[]}} */ cell, /** @type {number} */ i) => {
      assert.deepEqual(grid.cellBounds(cell.geohash), cell.bounds);
      assert.deepEqual([...all.subarray(i * 4, i * 4 + 4)], cell.bounds);
      const [column, row] = grid.cellIndex(cell.geohash);
      assert.equal(grid.fromIndices(column, row, cell.geohash.length), cell.geohash);
    },
  );
});

test("chips lie where Python puts them, and show the same pixels", () => {
  for (const cell of cells) {
    const chips = new grid.ChipGrid(cell.geohash.length, gsd, height, width);
    chips.transform(cell.geohash).forEach((value, i) => near(value, cell.transform[i]));
    assert.deepEqual(chips.crop(cell.geohash), cell.crop);
  }
});

test("distances are Python's", () => {
  points.forEach((/** @type {number[]} */ point, /** @type {number} */ i) => {
    near(grid.distanceM(point, points[points.length - 1 - i]), distances[i]);
  });
});

test("the longest geohash, cell borders and wrapped longitudes are exact", () => {
  assert.equal(grid.encode(180, 90, 12), "zzzzzzzzzzzz");
  assert.equal(grid.encode(190, 0, 5), grid.encode(-170, 0, 5));
  assert.equal(grid.encode(-540, 0, 5), grid.encode(-180, 0, 5));
  for (const name of ["s0000000000b", "u0nd9hk7q2zx", "7zzzzzzzzzzz"]) {
    const [west, south] = grid.cellBounds(name);
    assert.equal(grid.encode(west, south, 12), name);
  }
});

test("boxes meet across the antimeridian", () => {
  assert.ok(grid.boxMeets([179, 0, 180, 1], [170, 0, -170, 1]));
  assert.ok(grid.boxMeets([-180, 0, -179, 1], [170, 0, -170, 1]));
  assert.ok(!grid.boxMeets([0, 0, 1, 1], [170, 0, -170, 1]));
  assert.ok(grid.boxMeets([0, 0, 1, 1], [1, 1, 2, 2]));
  assert.ok(!grid.boxMeets([0, 0, 1, 1], [0, 1.5, 2, 2]));
  assert.ok(grid.boxMeets([9, 9, 9, 9, 0, 0, 1, 1], [0, 0, 1, 1], 4));
});

test("what is no cell, point or chip is refused", () => {
  for (const name of ["", "a", "u0i", "0".repeat(13), "u0\n", "é", null]) {
    assert.throws(() => grid.checkGeohash(name), BadInput);
  }
  assert.throws(() => grid.cellBounds("U0"), BadInput);
  assert.throws(() => grid.encode(NaN, 0, 5), BadInput);
  assert.throws(() => grid.encode(0, 91, 5), BadInput);
  assert.throws(() => grid.encode(0, 0, 13), BadInput);
  assert.throws(() => new grid.ChipGrid(5, 0, 1, 1), BadInput);
});
