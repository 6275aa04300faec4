import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { apply } from "../viewer/codes.js";
import { Damaged } from "../viewer/errors.js";
import { loadLayer } from "../viewer/layer.js";
import { fromBase64 } from "./codefiles.js";
import { golden, randomNumbers } from "./networks.js";

const expected = (await golden("fidelity")).together;
const CHIP = { bands: 1, height: 16, width: 16 };
const [tile, place] = [expected.tile, expected.place].map((one) =>
  loadLayer(fromBase64(one), CHIP),
);
const texts = expected.texts.map(fromBase64);
const when = expected.when.map((/** @type {number | null} */ day) => day ?? NaN);
const made = () => randomNumbers(8, 5 * 256).map((value) => 4 * value);

describe("dates of a place together", () => {
  test("and tiles alone are Python's chips, to the last bit", () => {
    const chips = made();
    apply({ tile, place }, chips, CHIP, texts, when);
    assert.deepEqual(chips, new Float32Array(fromBase64(expected.chips).buffer));
  });

  test("with another mark, or of another date, are damage", () => {
    const cases = [
      { text: Uint8Array.of(), day: when[0] },
      { text: Uint8Array.of(2, 7), day: when[0] },
      { text: texts[0], day: when[0] + 1 },
      { text: texts[0], day: NaN },
    ];
    for (const { text, day } of cases) {
      const chip = made().slice(0, 256);
      assert.throws(() => apply({ tile, place }, chip, CHIP, [text], [day]), Damaged);
    }
  });

  test("are not where there is no such code: then no text has a mark", () => {
    const [one, other] = [made().slice(0, 256), made().slice(0, 256)];
    apply({ tile, place: null }, one, CHIP, [texts[1].subarray(1)], []);
    apply({ tile, place }, other, CHIP, [texts[1]], [NaN]);
    assert.deepEqual(one, other);
  });
});
