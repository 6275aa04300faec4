import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Damaged } from "../viewer/errors.js";
import { decode } from "../viewer/fidelity.js";
import { apply, loadLayer } from "../viewer/layer.js";
import { edited, fromBase64 } from "./codefiles.js";
import { golden, kernelsFromFiles, randomNumbers } from "./networks.js";

before(kernelsFromFiles);
const expected = await golden("fidelity");
const [bands, height, width] = expected.chip;
const CHIP = { bands, height, width };
const PLAIN = fromBase64(expected.code);
const FILTERED = fromBase64(expected.filtered.code);
const streams = expected.filtered.streams.map(fromBase64);
const made = () => randomNumbers(8, 3 * bands * height * width).map((value) => 4 * value);

describe("a file", () => {
  for (const { edit, error } of expected.edits) {
    test(`with ${JSON.stringify(edit)} is ${error ?? "a layer"}`, () => {
      const bytes = edited(FILTERED, edit);
      if (error) assert.throws(() => loadLayer(bytes, CHIP), { name: error });
      else assert.equal(loadLayer(bytes, CHIP).code.order.length, 150);
    });
  }

  test("of other chips, or cut short, or too long is damage", () => {
    const chips = [
      { ...CHIP, bands: 4 },
      { ...CHIP, height: 11 },
    ];
    for (const chip of chips) assert.throws(() => loadLayer(PLAIN, chip), /expected \d bands/);
    assert.throws(() => loadLayer(PLAIN.subarray(0, -9), CHIP), Damaged);
    assert.throws(() => loadLayer(new Uint8Array((64 << 20) + 1), CHIP), /code: expected at most/);
  });

  test("may have tensors with names of the language, which are damage too", () => {
    for (const add of ["toString", "__proto__", "filter.toString"]) {
      assert.throws(() => loadLayer(edited(FILTERED, { add }), CHIP), Damaged);
    }
  });
});

describe("chips", () => {
  test("have what streams say in their block, and are as they were around it", () => {
    const layer = loadLayer(PLAIN, CHIP);
    const [chips, old] = [made(), made()];
    apply(layer, chips, CHIP, streams);
    const coded = decode(layer.code, streams);
    let inside = 0;
    chips.forEach((value, i) => {
      const [row, column] = [(Math.floor(i / width) % height) - 2, (i % width) - 3];
      const isIn = row >= 0 && row < 12 && column >= 0 && column < 10;
      assert.equal(value, isIn ? coded[inside++] : old[i]);
    });
    assert.equal(inside, coded.length);
  });

  test("on their embeddings, and behind a filter, are Python's", () => {
    const chips = made();
    apply(loadLayer(FILTERED, CHIP), chips, CHIP, streams);
    const { std, step, pixels } = expected.filtered;
    for (const [i, pixel] of pixels.entries()) {
      assert.ok(Math.abs(chips[i * step] - pixel) < 1e-5 * std, `pixel ${i * step}`);
    }
  });
});
