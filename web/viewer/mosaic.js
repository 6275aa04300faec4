/**
 * Decoded tiles side by side: a picture of the map as the archive remembers it.
 *
 * Pictures are linear in Web Mercator, as the map stretches them; within one cell that differs
 * from linear in degrees by less than a pixel of the screen.
 */

import { BadInput } from "./errors.js";
import { mercator, pixelsBetween, TURNS } from "./mercator.js";

/** @typedef {import("./client.js").Picture} Picture */

/**
 * A picture of a view, clear where no tile is.
 *
 * @typedef {Readonly<{view: readonly number[], width: number, height: number,
 *   pixels: Uint32Array<ArrayBuffer>}>} Mosaic
 */

const MOST_PIXELS = 2 ** 24;

/**
 * An empty mosaic. Throws BadInput.
 *
 * @param {readonly number[]} view west south east north, degrees; west > east across the
 *   antimeridian
 * @param {number} width pixels
 * @param {number} height
 * @returns {Mosaic}
 */
export function makeMosaic(view, width, height) {
  if (!(width >= 1 && height >= 1 && width * height <= MOST_PIXELS)) {
    throw new BadInput(`mosaic: expected at most ${MOST_PIXELS} pixels, found ${width} x ${height}`);
  }
  return Object.freeze({ view, width, height, pixels: new Uint32Array(width * height) });
}

/**
 * Put a tile where its cell is, each pixel of the mosaic that of the tile beneath its middle.
 *
 * @param {Mosaic} mosaic
 * @param {Pick<Picture, "pixels" | "width" | "height">} tile
 * @param {ArrayLike<number>} cell west south east north, degrees
 */
export function paste({ view, width, height, pixels }, tile, cell) {
  const [west, north, east, south] = mercator(view);
  const across = width / (east > west ? east - west : east + 1 - west);
  const down = height / (south - north);
  const box = mercator(Array.from(cell));
  const colours = new Uint32Array(tile.pixels.buffer, tile.pixels.byteOffset, tile.pixels.length / 4);
  const from = (box[1] - north) * down;
  const to = (box[3] - north) * down;
  const [top, bottom] = pixelsBetween(from, to, height);
  const rows = places(top, bottom, from, to, tile.height);
  for (const turn of TURNS) {
    const begin = (box[0] + turn - west) * across;
    const end = (box[2] + turn - west) * across;
    const [left, right] = pixelsBetween(begin, end, width);
    const columns = places(left, right, begin, end, tile.width);
    for (let y = top; y < bottom; y++) {
      const line = rows[y - top] * tile.width;
      for (let x = left; x < right; x++) pixels[y * width + x] = colours[line + columns[x - left]];
    }
  }
}

/**
 * For each pixel of first..last, which of `count` pixels between two edges lies beneath its
 * middle.
 *
 * @param {number} first
 * @param {number} last
 * @param {number} from
 * @param {number} to
 * @param {number} count
 */
function places(first, last, from, to, count) {
  return Int32Array.from({ length: Math.max(0, last - first) }, (_, i) => {
    const at = Math.floor(((first + i + 0.5 - from) / (to - from)) * count);
    return Math.min(Math.max(at, 0), count - 1);
  });
}
