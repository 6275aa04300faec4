import assert from "node:assert/strict";
import { test } from "node:test";

import { Damaged } from "../viewer/errors.js";
import { build, canonicalJson, parseStrictJson } from "../viewer/strictjson.js";
import { golden } from "./faults.js";

const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);

test("documents are taken and refused as in Python", () => {
  const { cap, documents } = golden("strictjson");
  for (const { hex, value, refused } of documents) {
    const read = () => parseStrictJson(Uint8Array.from(Buffer.from(hex, "hex")), "x", cap);
    if (refused) assert.throws(read, Damaged, hex);
    else assert.deepEqual(read(), value, hex);
  }
});

test("an error names the document and is one line", () => {
  for (const text of ["{", '{"a":1,"a":2}', "[1e999]", "\ud800"]) {
    const read = () => parseStrictJson(bytes(text), "generation", 100);
    assert.throws(read, (/** @type {Error} */ error) =>
      /^generation: expected .+$/.test(error.message),
    );
  }
});

test("deep and long documents are refused quickly", () => {
  const deep = "[".repeat(2_000_000);
  assert.throws(() => parseStrictJson(bytes(deep), "x", 4 << 20), Damaged);
  assert.throws(() => parseStrictJson(bytes(deep + "]".repeat(2_000_000)), "x", 4 << 20), Damaged);
  assert.throws(() => parseStrictJson(bytes(`[${"1".repeat(4_000_000)}]`), "x", 4 << 20), Damaged);
});

test("canonical text has sorted keys and no spaces", () => {
  assert.equal(
    canonicalJson({ b: [1, "é"], a: { d: null, c: true } }),
    '{"a":{"c":true,"d":null},"b":[1,"é"]}',
  );
});

test("a value is built with its keys, types, patterns and signs checked", () => {
  const shape = { n: "int", text: "str?", more: "dict of int" };
  const patterns = { text: /^a+$/ };
  const good = { n: 1, text: "aa", more: { x: 1 } };
  const made = build(shape, good, "x", patterns);
  assert.deepEqual(made, good);
  assert.ok(Object.isFrozen(made));
  assert.equal(build(shape, { ...good, text: null }, "x", patterns).text, null);
  const bad = [
    null,
    [],
    1,
    { n: 1 },
    { ...good, z: 1 },
    { ...good, n: -1 },
    { ...good, n: 1.5 },
    { ...good, n: true },
    { ...good, n: null },
    { ...good, text: "b" },
    { ...good, text: 1 },
    { ...good, more: [] },
    { ...good, more: { x: "1" } },
    { ...good, more: { x: null } },
  ];
  for (const values of bad) assert.throws(() => build(shape, values, "x", patterns), Damaged);
});
