import assert from "node:assert/strict";
import { before, test } from "node:test";
import { refine, tensors, WIDTHS } from "../viewer/refine.js";
import { golden, kernelsFromFiles, randomNumbers } from "./networks.js";

before(kernelsFromFiles);
const { filters, widths } = await golden("fidelity");

/** Weights as tests/golden/fidelity.py makes them. @param {any} shape */
function mending(shape) {
  const shapes = Object.entries(tensors(shape)).sort(([a], [b]) => (a < b ? -1 : 1));
  const made = shapes.map(([name, sizes], number) => {
    const inputs = sizes.slice(1).reduce((a, b) => a * b, 1);
    const values = randomNumbers(300 + number, sizes[0] * inputs);
    const scaled = values.map((value) =>
      sizes.length > 1 ? value / Math.sqrt(inputs) : value / 2,
    );
    return [name, name === "std" ? scaled.map((value) => 1 + value) : scaled];
  });
  return Object.fromEntries(made);
}

test("pictures of any shape are mended as in Python, whichever filter was there before", () => {
  const all = filters.map((/** @type {any} */ one) => ({ ...one, weights: mending(one.shape) }));
  for (const { shape, weights, std, step, pixels } of [...all, ...all]) {
    const images = randomNumbers(8, 3 * shape.bands * shape.height * shape.width);
    refine(weights, shape, images);
    for (const [i, pixel] of pixels.entries()) {
      assert.ok(Math.abs(images[i * step] - pixel) < 1e-5 * std, `pixel ${i * step}`);
    }
  }
});

test("a filter may be as wide as in Python", () => {
  assert.deepEqual([...WIDTHS], widths);
});
