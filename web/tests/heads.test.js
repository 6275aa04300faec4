import assert from "node:assert/strict";
import { test } from "node:test";

import { Damaged } from "../viewer/errors.js";
import * as heads from "../viewer/heads.js";
import { golden } from "./faults.js";

const made = golden("heads");
const bytes = (/** @type {string} */ hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const read = { ...made.packed, "no head": made.none, "pieces that touch": made.touching };

for (const [name, { held, spans, found }] of Object.entries(read)) {
  test(`${name}: the same is at hand as in Python`, () => {
    const head = heads.parse("blocks/x", bytes(held), made.length);
    assert.deepEqual(head.spans, spans);
    const got = made.asked.map((/** @type {[number, number]} */ span) => head.get(...span));
    assert.deepEqual(
      got.map((/** @type {Uint8Array | null} */ one) => one && Buffer.from(one).toString("hex")),
      found,
    );
  });
}

for (const [name, { held, error }] of Object.entries(made.hostile)) {
  test(`${name} is refused as in Python`, () => {
    assert.throws(
      () => heads.parse("blocks/x", bytes(held), made.length),
      (/** @type {Error} */ found) => found instanceof Damaged && found.message === error,
    );
  });
}

test("a turned bit gives a head or damage, never another error", () => {
  const right = bytes(made.packed.two.held);
  let refused = 0;
  for (let bit = 0; bit < 8 * 40; bit++) {
    const wrong = right.slice();
    wrong[bit >> 3] ^= 1 << (bit & 7);
    try {
      const head = heads.parse("x", wrong, made.length);
      for (const [start, end] of head.spans) {
        assert.equal(head.get(start, end)?.length, end - start);
      }
    } catch (error) {
      assert.ok(error instanceof Damaged, String(error));
      refused += 1;
    }
  }
  assert.ok(refused > 250);
});

test("the head stands behind the digests", () => {
  const data = Uint8Array.from({ length: 40 }, (_, i) => i);
  assert.deepEqual(heads.split("x", data, 20_000), [data.slice(0, 32), data.slice(32)]);
  assert.equal(heads.split("x", data.subarray(0, 32), 20_000)[1].length, 0);
  assert.throws(() => heads.split("x", data.subarray(0, 31), 20_000), /of 32 bytes, found 31/);
  assert.equal(heads.most(20_000), 32 + heads.MAX_HEAD);
});
