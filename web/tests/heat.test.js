import assert from "node:assert/strict";
import { test } from "node:test";
import { ALPHABET, cellBounds, fromIndices } from "../viewer/grid.js";
import { makeShades, paint } from "../viewer/heat.js";

const EIGHT = [..."01234567"].map((letter) => `s${letter}`);

/** @param {string[]} geohash @param {number[]} value */
function shadesOf(geohash, value) {
  return makeShades({ geohash, value: Int32Array.from(value) });
}

/** @param {Uint8ClampedArray} pixels @param {number} width @param {number} x @param {number} y */
function pixel(pixels, width, x, y) {
  return [...pixels.subarray((y * width + x) * 4, (y * width + x) * 4 + 4)];
}

test("the best cell is the most opaque, below the median all is clear", () => {
  const shades = shadesOf(EIGHT, [7, 6, 5, 4, 3, 2, 1, 0]);
  const opacity = EIGHT.map((name) => paint(shades, cellBounds(name), 1, 1)[3]);
  assert.deepEqual(opacity.slice(0, 4), [0, 0, 0, 0]);
  for (let at = 5; at < 8; at++) assert.ok(opacity[at] > opacity[at - 1]);
  assert.equal(opacity[7], 240);
});

test("equal cells look equal", () => {
  const shades = shadesOf(EIGHT, [1, 1, 1, 1, 9, 9, 9, 9]);
  const opacity = EIGHT.map((name) => paint(shades, cellBounds(name), 1, 1)[3]);
  assert.deepEqual(opacity, [240, 240, 240, 240, 0, 0, 0, 0]);
});

test("a cell fills its rectangle and nothing else", () => {
  const [west, south, east, north] = cellBounds("s0");
  const wide = east - west;
  const pixels = paint(shadesOf(["s0"], [3]), [west - wide, south, east + wide, north], 30, 4);
  for (let x = 0; x < 30; x++) {
    assert.equal(pixel(pixels, 30, x, 2)[3] > 0, x >= 10 && x < 20, `column ${x}`);
  }
});

test("north is up, and rows are those of Web Mercator", () => {
  const pixels = paint(shadesOf(["s00", "szz"], [1, 0]), [0, 0, 45, 45], 64, 64);
  assert.ok(pixel(pixels, 64, 0, 63)[3] === 0 && pixel(pixels, 64, 63, 0)[3] === 240);
  const middle = paint(shadesOf(["u"], [0]), [-180, -85.051129, 180, 85.051129], 8, 1000);
  const rows = Array.from({ length: 1000 }, (_, y) => pixel(middle, 8, 4, y)[3] > 0);
  // 45 degrees north lies at 0.359725 of the height
  assert.equal(rows.lastIndexOf(true), 358);
  assert.equal(rows.indexOf(true), 0);
});

test("views across the antimeridian show both sides", () => {
  const [east, west] = ["xbpbpb", "80000n"].map(cellBounds);
  const shades = shadesOf(["x", "8"], [0, 0]);
  const pixels = paint(shades, [170, 10, -170, 20], 20, 2);
  assert.ok(east[0] > 0 && west[0] < 0);
  for (let x = 0; x < 20; x++) assert.equal(pixel(pixels, 20, x, 0)[3], 240, `column ${x}`);
  assert.equal(paint(shades, [-10, 10, 10, 20], 20, 2).some(Boolean), false);
});

test("a cell smaller than a pixel is still seen, and the better one is on top", () => {
  const shades = shadesOf(["s0000000", "s0000001", "s0000002", "s0000003"], [5, 0, 6, 7]);
  const pixels = paint(shades, [-10, -10, 10, 10], 10, 10);
  assert.equal(pixels.filter((value, i) => i % 4 === 3 && value > 0).length, 1);
  assert.equal(pixel(pixels, 10, 5, 4)[3], 240);
});

test("denser is farther from light and from dark ground alike", () => {
  const names = [...ALPHABET].map((letter) => `s${letter}`);
  const shades = shadesOf(names, [...names.keys()]);
  for (const ground of [
    [246, 242, 233],
    [28, 42, 47],
  ]) {
    const contrasts = names.slice(0, 16).map((name) => {
      const [r, g, b, a] = paint(shades, cellBounds(name), 1, 1);
      const over = [r, g, b].map((value, i) => (value * a + ground[i] * (255 - a)) / 255);
      const [x, y] = [light(over), light(ground)];
      return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    });
    for (let at = 1; at < 16; at++)
      assert.ok(contrasts[at] < contrasts[at - 1] + 0.01, `${contrasts}`);
    assert.ok(contrasts[0] > 2.5, `${contrasts}`);
  }
});

/** Relative luminance. @param {number[]} rgb */
function light(rgb) {
  const [r, g, b] = rgb.map((v) =>
    v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

test("a hundred thousand cells are painted in a blink", () => {
  const geohash = Array.from({ length: 100_000 }, (_, i) =>
    fromIndices(20_000 + (i % 400), 10_000 + Math.floor(i / 400), 6),
  );
  const began = performance.now();
  const shades = shadesOf(
    geohash,
    geohash.map((_, i) => (i * 7919) % 512),
  );
  const made = performance.now();
  const [west, south] = cellBounds(geohash[0]);
  const [, , east, north] = cellBounds(geohash[99_999]);
  const pixels = paint(shades, [west, south, east, north], 1024, 768);
  const ended = performance.now();
  console.log(`shades ${(made - began).toFixed(1)} ms, picture ${(ended - made).toFixed(1)} ms`);
  assert.ok(pixels.some(Boolean));
  assert.ok(ended - began < 2000);
});
