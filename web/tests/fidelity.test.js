import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decode, read, room } from "../viewer/fidelity.js";
import { loadLayer } from "../viewer/layer.js";
import { wholeCosines } from "../viewer/transform.js";
import { fromBase64 } from "./codefiles.js";
import { golden } from "./networks.js";

const expected = await golden("fidelity");
const [bands, height, width] = expected.chip;
const { code } = loadLayer(fromBase64(expected.code), { bands, height, width });
/** @type {any[]} */
const cases = expected.streams;
const streams = cases.map(({ stream }) => fromBase64(stream));

test("cosines of every size are Python's whole numbers", () => {
  for (const [size, sum] of expected.cosines) {
    const found = wholeCosines(size).reduce((total, x, i) => total + x * (1 + (i % 1009)), 0);
    assert.equal(found, sum, `size ${size}`);
  }
});

describe("streams", () => {
  test("of pictures and of any bytes say what they say in Python", () => {
    const choice = room(code);
    for (const [i, { step, level, kind }] of cases.entries()) {
      read(code, streams[i], choice);
      assert.deepEqual([choice.step, choice.count], [step, level.length]);
      assert.deepEqual([...choice.kind.subarray(0, choice.count)], kind, `classes of ${i}`);
      assert.deepEqual([...choice.level.subarray(0, choice.count)], level, `levels of ${i}`);
    }
    assert.ok(cases.some(({ level }) => level.some((/** @type {number} */ x) => x > 100_000)));
  });

  test("are Python's pictures to the last bit, alone and beside others", () => {
    const all = decode(code, streams);
    const size = all.length / streams.length;
    for (const [i, { image }] of cases.entries()) {
      const own = new Float32Array(fromBase64(image).buffer);
      assert.deepEqual(all.slice(i * size, (i + 1) * size), own, `stream ${i}`);
    }
    assert.deepEqual(decode(code, [streams[3]]), all.slice(3 * size, 4 * size));
  });

  test("that are none are no pictures, and bytes beyond the end are zeros", () => {
    assert.equal(decode(code, []).length, 0);
    const longer = Uint8Array.of(...streams[1], 0, 0, 0);
    assert.deepEqual(decode(code, [longer]), decode(code, [streams[1]]));
  });
});
