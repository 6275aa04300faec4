import assert from "node:assert/strict";
import { test } from "node:test";
import { arcOf, extentOf } from "../viewer/views.js";

/**
 * An archive of parts and their shards, of which only boxes are known.
 *
 * @param {number[][]} parts
 * @param {number[][]} shards
 */
function archiveOf(parts, shards) {
  const side = (/** @type {number} */ i) => parts.map((box) => box[i]);
  let read = 0;
  /** @type {any} */
  const archive = {
    generation: { parts: parts.map((bbox) => ({ bbox })) },
    bounds: [
      Math.min(...side(0)),
      Math.min(...side(1)),
      Math.max(...side(2)),
      Math.max(...side(3)),
    ],
    shards: async () => (read++, shards.map((bbox) => ({ bbox }))),
  };
  return { archive, reads: () => read };
}

test("the arc is the shorter one around the world", () => {
  assert.deepEqual(
    arcOf([
      [10, 0, 11, 1],
      [14, 0, 15, 1],
    ]),
    [10, 15],
  );
  assert.deepEqual(
    arcOf([
      [-180, 0, -178, 1],
      [179, 0, 180, 1],
    ]),
    [179, -178],
  );
  assert.deepEqual(
    arcOf([
      [-180, 0, 180, 1],
      [5, 0, 6, 1],
    ]),
    [-180, 180],
  );
  assert.deepEqual(
    arcOf([
      [-120, 0, -70, 1],
      [0, 0, 60, 1],
      [90, 0, 150, 1],
    ]),
    [-120, 150],
  );
  assert.deepEqual(
    arcOf([
      [-180, 0, -60, 1],
      [-170, 0, -165, 1],
      [150, 0, 180, 1],
    ]),
    [150, -60],
  );
});

test("an archive on both sides of the antimeridian is small, and its footprint two boxes", async () => {
  const shards = [
    [-180, 66, -179, 67],
    [-179, 66, -178, 68],
    [176, 65, 180, 67],
  ];
  const { archive } = archiveOf([[-180, 65, 180, 68]], shards);
  assert.deepEqual(await extentOf(archive), {
    bounds: [176, 65, -178, 68],
    footprint: [
      [176, 65, 180, 67],
      [-180, 66, -178, 68],
    ],
  });
});

test("another archive is what its parts say, and no part is read", async () => {
  const parts = [
    [10, 0, 11, 1],
    [14, 0, 15, 1],
  ];
  const { archive, reads } = archiveOf(parts, []);
  assert.deepEqual(await extentOf(archive), { bounds: [10, 0, 15, 1], footprint: parts });
  const many = archiveOf(Array(5).fill([-180, 0, 180, 1]), []);
  assert.deepEqual((await extentOf(many.archive)).bounds, [-180, 0, 180, 1]);
  assert.equal(reads() + many.reads(), 0);
  const wide = archiveOf(
    [[-120, 0, 150, 1]],
    [
      [-120, 0, -70, 1],
      [0, 0, 60, 1],
      [90, 0, 150, 1],
    ],
  );
  assert.deepEqual((await extentOf(wide.archive)).bounds, [-120, 0, 150, 1]);
});
