import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Coarse, loadCoarse } from "../viewer/coarse.js";
import { Damaged } from "../viewer/errors.js";
import { edited } from "./codefiles.js";
import { bytesOf, made } from "./overviews.js";

const { dim } = made.spaces[1];

describe("centroids", () => {
  for (const { edit, error } of made.edits) {
    test(`with ${JSON.stringify(edit)} are ${error ?? "as Python reads them"}`, () => {
      const bytes = edited(bytesOf(made.coarse), edit);
      if (error) assert.throws(() => loadCoarse(bytes, dim), { name: error });
      else assert.equal(loadCoarse(bytes, dim).count, 90);
    });
  }

  test("of other vectors, cut short or too long are damage", () => {
    const bytes = bytesOf(made.coarse);
    assert.throws(() => loadCoarse(bytes, dim + 1), /expected 1 to 32768 centroids of 13/);
    assert.throws(() => loadCoarse(bytes.subarray(0, -9), dim), Damaged);
    assert.throws(() => loadCoarse(new Uint8Array((64 << 20) + 1), dim), /at most/);
  });
});

test("codes decode to whole steps from their centroid, modulo 256", () => {
  const coarse = loadCoarse(bytesOf(made.coarse), dim);
  assert.deepEqual([coarse.step, coarse.exact], [3, false]);
  const list = 7;
  const own = coarse.centroids.subarray(list * dim, (list + 1) * dim);
  const codes = Int8Array.from({ length: 4 * dim }, (_, at) => [0, 1, -1, 127][at % 4]);
  const rows = coarse.decode(codes, list);
  own.forEach((centroid, i) => {
    const expected = Int8Array.of(centroid, centroid + 3, centroid - 3, centroid + 381);
    assert.deepEqual(rows.subarray(4 * i, 4 * i + 4), expected);
  });
  assert.equal(coarse.distances(Int8Array.from(own))[list], 0);
});

test("codes of step 1 are exact, however far a row is from its centroid", () => {
  const coarse = new Coarse(Int8Array.of(0, 0, 127, -128), 2, 1);
  assert.ok(coarse.exact);
  const rows = Int8Array.of(-128, 127, 0, 127, -128, 0);
  const codes = rows.map((one, at) => one - coarse.centroids[2 + Math.floor(at / 3)]);
  assert.deepEqual(coarse.decode(codes, 1), rows);
});
