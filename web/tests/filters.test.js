import assert from "node:assert/strict";
import { test } from "node:test";

import { BadInput } from "../viewer/errors.js";
import * as filters from "../viewer/filters.js";
import { golden } from "./faults.js";

const said = golden("filters");

for (const key of ["datetime", "bbox", "geohash"]) {
  test(`a filter by ${key} is read as in Python`, () => {
    for (const [wanted, expected] of said[key]) {
      const make = () => filters.makeFilter({ [key]: wanted });
      if (expected === null) assert.throws(make, BadInput, String(wanted));
      else assert.deepEqual(make(), expected, String(wanted));
    }
  });
}

test("a filter keeps the rows that Python keeps", () => {
  const { geohash, datetime } = said.rows;
  const when = Float64Array.from(datetime, (/** @type {number | null} */ day) => day ?? NaN);
  for (const [wanted, kept] of said.masks) {
    const mask = filters.rowMask({ geohash, datetime: when }, filters.makeFilter(wanted));
    assert.deepEqual(
      [...mask.keys()].filter((i) => mask[i]),
      kept,
      JSON.stringify(wanted),
    );
  }
});

test("a filter is frozen, and says what it asks for", () => {
  const nothing = filters.makeFilter();
  assert.ok(Object.isFrozen(nothing) && filters.isEverything(nothing) && !filters.isDated(nothing));
  assert.deepEqual(filters.span(nothing), [-Infinity, Infinity]);
  const box = filters.makeFilter({ bbox: [170, 0, -170, 10] });
  assert.ok(Object.isFrozen(box.bbox) && !filters.isEverything(box));
  assert.ok(filters.boxMatches([-180, 5, -175, 6], box) && !filters.boxMatches([0, 5, 1, 6], box));
});

test("values of other types are refused", () => {
  assert.throws(() => filters.makeFilter({ bbox: [0, 0, 1, NaN] }), BadInput);
  assert.throws(() => filters.makeFilter({ datetime: /** @type {any} */ (2023) }), BadInput);
  assert.throws(() => filters.makeFilter({ geohash: /** @type {any} */ ([7]) }), BadInput);
});
