import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { BadInput } from "../viewer/errors.js";
import { chooseRow, nearestCell, parse } from "../viewer/exemplars.js";

const golden = JSON.parse(
  await readFile(new URL("../../tests/golden/exemplars.json", import.meta.url), "utf8"),
);

/** What Python says of files and vectors, which the page does not take.
 * @param {string} message */
function said(message) {
  const quoted = message.replace(/found '(.*)'$/, 'found "$1"').replace(/^date:/, "datetime:");
  return quoted.replace(", LON,LAT, an image file or a vector", " or LON,LAT");
}

for (const { text, error, ...expected } of golden.parsed) {
  test(`"${text}" is what it is in Python`, () => {
    if (!error) {
      const { geohash, when, said: name } = parse(text, 6);
      assert.deepEqual({ geohash, start: when.start, end: when.end, said: name }, expected);
      return;
    }
    assert.throws(
      () => parse(text, 6),
      (found) => {
        assert.ok(found instanceof BadInput);
        if (text !== "nan,0") assert.equal(found.message, said(error));
        return true;
      },
    );
  });
}

for (const { rows, place, row, error } of golden.chosen) {
  test(`the row of ${JSON.stringify(rows)} for ${place} is Python's`, () => {
    const table = {
      geohash: rows.map(() => "u33dc0"),
      datetime: Float64Array.from(rows, (/** @type {any} */ [when]) => when ?? NaN),
      valid_fraction: Float32Array.from(rows, (/** @type {any} */ [, valid]) => valid),
    };
    if (error)
      assert.throws(() => chooseRow(table, parse(place, 6)), { name: "BadInput", message: error });
    else assert.equal(chooseRow(table, parse(place, 6)), row);
  });
}

test("the nearest cell is Python's, also across the antimeridian", () => {
  for (const [cell, names, nearest] of golden.nearest)
    assert.equal(nearestCell(cell, names), nearest);
});
