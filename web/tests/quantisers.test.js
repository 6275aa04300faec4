import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BadInput, Damaged } from "../viewer/errors.js";
import { fetchQuantiser, loadQuantiser } from "../viewer/quantisers.js";
import { edited, fromBase64 } from "./codefiles.js";
import { golden } from "./networks.js";

const expected = await golden("quantisers");
const [, mapped] = expected.cases;
const load = (/** @type {any} */ one, bytes = fromBase64(one.file)) =>
  loadQuantiser(bytes, one.dim, one.bytes);

describe("codes", () => {
  for (const [i, one] of expected.cases.entries()) {
    test(`of quantiser ${i} decode to Python's numbers`, () => {
      const quantiser = load(one);
      const q = quantiser.decode(Uint8Array.from(one.packed));
      assert.deepEqual([...q], one.decoded);
      assert.deepEqual([...quantiser.restore(q)], one.restored);
      assert.equal(quantiser.dim * 9, q.length);
    });
  }

  test("of no rows are no vectors, of half a row bad input", () => {
    const quantiser = load(mapped);
    assert.equal(quantiser.decode(new Uint8Array(0)).length, 0);
    assert.throws(() => quantiser.decode(new Uint8Array(3)), BadInput);
    assert.throws(() => quantiser.restore(new Int8Array(11)), BadInput);
  });
});

describe("a file", () => {
  for (const { edit, error } of expected.edits) {
    test(`with ${JSON.stringify(edit)} is ${error ?? "a quantiser"}`, () => {
      const bytes = edited(fromBase64(mapped.file), edit);
      if (error) assert.throws(() => load(mapped, bytes), { name: error });
      else assert.equal(load(mapped, bytes).name, "made-by+hand");
    });
  }

  test("of other vectors, or cut short, or too long is damage", () => {
    const bytes = fromBase64(mapped.file);
    assert.throws(() => loadQuantiser(bytes, 8, mapped.bytes), /expected 8 numbers in 2/);
    assert.throws(() => loadQuantiser(bytes, 7, 3), /expected 7 numbers in 3/);
    assert.throws(() => load(mapped, bytes.subarray(0, -9)), Damaged);
    assert.throws(() => load(mapped, new Uint8Array((64 << 20) + 1)), /expected at most/);
  });

  test("may have tensors with names of the language, which are damage too", () => {
    for (const add of ["toString", "__proto__", "constructor"]) {
      const bytes = edited(fromBase64(mapped.file), { add });
      assert.throws(() => load(mapped, bytes), Damaged);
    }
  });
});

test("a space of plain embeddings has none, one of codes must name its own", async () => {
  const objects = { object: async () => fromBase64(mapped.file) };
  const space = /** @type {any} */ ({ space_id: "s", dim: mapped.dim });
  assert.equal(await fetchQuantiser(objects, space), null);
  await assert.rejects(fetchQuantiser(objects, space, mapped.bytes), Damaged);
  await assert.rejects(fetchQuantiser(objects, undefined, mapped.bytes), Damaged);
  const named = { ...space, quantiser: "0".repeat(64), quantiser_length: 9 };
  assert.equal((await fetchQuantiser(objects, named, mapped.bytes))?.dim, 10);
});
