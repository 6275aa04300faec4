/**
 * Scores of cells as a picture of the map: each cell's rectangle in the colour of its rank.
 *
 * The best cell is the most opaque; what ranks below the median is left clear. One hue of middling
 * lightness that grows lighter and denser reads on a light and a dark map, and without colour
 * vision. Pictures are linear in Web Mercator, as the map stretches them.
 */

import { cellBounds } from "./grid.js";
import { makeRaster, mercator, spotsOf } from "./mercator.js";

/**
 * Cells to paint, worst first. box: west north east south of each in Web Mercator, 0..1 from the
 * north-west; shade: 1..255.
 *
 * @typedef {Readonly<{box: Float64Array, shade: Uint8Array}>} Shades
 */

// Red, green, blue, opacity of the median and of the best.
const RAMP = Object.freeze([
  [120, 24, 104, 28],
  [236, 44, 116, 240],
]);
const COLOURS = colours();

/**
 * The cells that are better than the median, by rank; cells of one value share the best rank of
 * them.
 *
 * @param {{geohash: readonly string[], value: Int32Array | Float64Array}} heat value: less is better
 * @returns {Shades}
 */
export function makeShades({ geohash, value }) {
  const shades = shadesOf(value);
  const order = byShade(shades);
  const box = new Float64Array(order.length * 4);
  order.forEach((cell, at) => box.set(mercator(cellBounds(geohash[cell])), at * 4));
  return Object.freeze({ box, shade: Uint8Array.from(order, (cell) => shades[cell]) });
}

/**
 * RGBA of a view. Throws BadInput.
 *
 * @param {Shades} shades
 * @param {readonly number[]} view west south east north, degrees; west > east across the
 *   antimeridian
 * @param {number} width pixels
 * @param {number} height
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function paint({ box, shade }, view, width, height) {
  const raster = makeRaster(view, width, height);
  for (let cell = 0; cell < shade.length; cell++) {
    for (const { left, top, right, bottom } of spotsOf(raster, box, cell * 4)) {
      for (let y = top; y < bottom; y++) {
        raster.pixels.fill(COLOURS[shade[cell]], y * width + left, y * width + right);
      }
    }
  }
  return new Uint8ClampedArray(raster.pixels.buffer);
}

/**
 * The shade of each value, 0 of those that more than half are better than.
 *
 * @param {Int32Array | Float64Array} value
 */
function shadesOf(value) {
  const sorted = value.slice().sort();
  const median = sorted[sorted.length >> 1];
  const shades = new Int32Array(value.length);
  for (let cell = 0; cell < shades.length; cell++) {
    const one = value[cell];
    if (one <= median) shades[cell] = shadeOf(firstOf(sorted, one) / shades.length);
  }
  return shades;
}

/** @param {number} better share of cells that are better, 0..1 */
function shadeOf(better) {
  return better < 0.5 ? 255 - Math.round(better * 2 * 254) : 0;
}

/**
 * Cells of a shade above 0, the least shade first.
 *
 * @param {Int32Array} shades
 */
function byShade(shades) {
  const starts = new Int32Array(257);
  for (const shade of shades) starts[shade + 1] += 1;
  for (let shade = 1; shade < 257; shade++) starts[shade] += starts[shade - 1];
  const clear = starts[1];
  const order = new Int32Array(shades.length);
  shades.forEach((shade, cell) => (order[starts[shade]++] = cell));
  return order.subarray(clear);
}

/**
 * The first position of a value that is among sorted ones.
 *
 * @param {Int32Array | Float64Array} sorted
 * @param {number} value
 */
function firstOf(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** RGBA of each shade, as a pixel of four bytes. */
function colours() {
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let shade = 1; shade < 256; shade++) {
    const t = (shade - 1) / 254;
    bytes.set(
      RAMP[0].map((low, i) => low + (RAMP[1][i] - low) * t),
      shade * 4,
    );
  }
  return new Uint32Array(bytes.buffer);
}
