import assert from "node:assert/strict";
import { test } from "node:test";
import * as words from "../viewer/words.js";

test("sizes, counts and days read as people write them", () => {
  assert.equal(words.bytes(64), "64 bytes");
  assert.equal(words.bytes(64_370), "64 kB");
  assert.equal(words.bytes(999_700), "1.0 MB");
  assert.equal(words.counted(1, "tile"), "1 tile");
  assert.equal(words.counted(6125, "tile"), "6,125 tiles");
  assert.equal(words.day(Date.parse("2023-08-15T10:00:00Z") * 1000), "2023-08-15");
  for (const [share, said] of /** @type {[number, string][]} */ ([
    [1, "100 %"],
    [0.9998, "100 %"],
    [0.1234, "12 %"],
    [0.0996, "10 %"],
    [0.012, "1.2 %"],
    [0.01, "1 %"],
    [0.000343, "0.034 %"],
    [0, "0 %"],
  ])) {
    assert.equal(words.percent(share), said);
  }
  assert.equal(words.day(NaN), "");
  assert.equal(words.days([0, 0]), "1970-01-01");
});

test("a box across the antimeridian has the width it has on the ground", () => {
  assert.equal(words.extent([179.9, -0.1, -179.9, 0.1]), words.extent([-0.1, -0.1, 0.1, 0.1]));
});

test("places name their hemispheres", () => {
  assert.equal(words.place(-122.4, 37.7), "37.700° N, 122.400° W");
  assert.equal(words.place(14, -48), "48.000° S, 14.000° E");
});
