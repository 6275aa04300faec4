import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loadCoarse } from "../viewer/coarse.js";
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

test("a vector is compared with what codes of a list decode to, less its centroid", () => {
  const coarse = loadCoarse(bytesOf(made.coarse), dim);
  const one = Int8Array.from(coarse.centroids.subarray(7 * dim, 8 * dim));
  const decoded = new Int8Array(dim).map((_, i) => i);
  const [far] = coarse.within(one, 7, decoded);
  // The nearest whole steps to the quantiser's mean, which is within -1 to 1 of steps of a half.
  const steps = coarse.quantiser.steps(new Float64Array(dim));
  assert.ok(steps.every((step) => Math.abs(step) <= 2));
  assert.equal(
    far,
    steps.reduce((sum, step, i) => sum + (step - i) ** 2, 0),
  );
  assert.equal(coarse.distances(one)[7], 0);
});
