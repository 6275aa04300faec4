import assert from "node:assert/strict";
import { test } from "node:test";

import { parseParts } from "../viewer/partrefs.js";
import { golden } from "./faults.js";

const COLUMNS = JSON.parse(golden("manifest").columns).parts;

/** @param {any} values */
function messageOf(values) {
  try {
    parseParts(values, "parts");
  } catch (error) {
    return `${error}`;
  }
  return "";
}

test("no parts are no columns' rows, and no list's", () => {
  const none = Object.fromEntries(Object.keys(COLUMNS).map((key) => [key, []]));
  assert.deepEqual(parseParts(none, "parts"), []);
  assert.deepEqual(parseParts([], "parts"), []);
});

test("an error names the column, what was expected and what was found", () => {
  const short = { ...COLUMNS, rows: COLUMNS.rows.slice(1) };
  assert.equal(messageOf(short), "Damaged: parts: expected rows of 3 parts, found 2");
  const text = { ...COLUMNS, rows: "640" };
  assert.equal(messageOf(text), 'Damaged: parts: expected rows to be list, found "640"');
  const sides = { ...COLUMNS, bbox: [...COLUMNS.bbox, 0] };
  assert.equal(messageOf(sides), "Damaged: parts: expected bbox of 3 parts, found 4");
  assert.match(messageOf(null), /^Damaged: parts: expected keys .*, found null$/);
  assert.match(messageOf({ ...COLUMNS, more: [] }), /^Damaged: parts: expected keys .* more/);
});

test("an older reference has its prefix, a column has none", () => {
  const keys = Object.keys(COLUMNS);
  const row = Object.fromEntries(keys.map((key) => [key, COLUMNS[key][0]]));
  const older = { ...row, bbox: COLUMNS.bbox.slice(0, 4), prefix: "d" };
  assert.deepEqual(parseParts([older], "parts"), parseParts(COLUMNS, "parts").slice(0, 1));
  const { prefix: _prefix, ...without } = older;
  assert.match(messageOf([without]), /^Damaged: parts: expected keys /);
  assert.match(messageOf({ ...COLUMNS, prefix: ["d", "u0", "u0"] }), /^Damaged: parts: expected /);
});
