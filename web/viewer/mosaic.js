/**
 * Decoded tiles side by side: a picture of the map as the archive remembers it.
 *
 * Pictures are linear in Web Mercator, as the map stretches them; within one cell that differs
 * from linear in degrees by less than a pixel of the screen.
 */

import { mercator, spotsOf } from "./mercator.js";

/** @typedef {import("./client.js").Picture} Picture */
/** @typedef {import("./mercator.js").Raster} Raster */

/**
 * Put a tile where its cell is, each pixel of the picture that of the tile beneath its middle.
 *
 * @param {Raster} raster
 * @param {Pick<Picture, "pixels" | "width" | "height">} tile
 * @param {ArrayLike<number>} cell west south east north, degrees
 */
export function paste(raster, tile, cell) {
  const { buffer, byteOffset, length } = tile.pixels;
  const colours = new Uint32Array(buffer, byteOffset, length / 4);
  for (const { edges, left, top, right, bottom } of spotsOf(raster, mercator(cell))) {
    const rows = beneath(top, bottom, edges[1], edges[3], tile.height);
    const columns = beneath(left, right, edges[0], edges[2], tile.width);
    rows.forEach((row, y) => {
      const line = (top + y) * raster.width + left;
      columns.forEach((column, x) => {
        raster.pixels[line + x] = colours[row * tile.width + column];
      });
    });
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
function beneath(first, last, from, to, count) {
  return Int32Array.from({ length: last - first }, (_, i) => {
    const at = Math.floor(((first + i + 0.5 - from) / (to - from)) * count);
    return Math.min(Math.max(at, 0), count - 1);
  });
}
