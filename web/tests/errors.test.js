import assert from "node:assert/strict";
import { test } from "node:test";

import * as errors from "../viewer/errors.js";

test("an error crosses to another thread and comes back with its class", () => {
  for (const kind of Object.values(errors)) {
    if (!(kind.prototype instanceof Error)) continue;
    const made = new /** @type {typeof errors.Damaged} */ (kind)("x: expected 1, found 2");
    const back = errors.fromPlain(structuredClone(errors.toPlain(made)));
    assert.equal(back.constructor, kind);
    assert.equal(back.name, kind.name);
    assert.equal(back.message, made.message);
  }
});

test("an error of another kind stays a plain one", () => {
  assert.deepEqual(errors.toPlain(new RangeError("odd")), { kind: "Error", message: "odd" });
  assert.deepEqual(errors.toPlain("odd"), { kind: "Error", message: "odd" });
  const back = errors.fromPlain({ kind: "constructor", message: "odd" });
  assert.equal(back.constructor, Error);
});

test("an expired generation is a missing object", () => {
  assert.ok(new errors.GenerationExpired("x") instanceof errors.Missing);
  assert.ok(new errors.Missing("x") instanceof errors.EmbarchiveError);
});
