/**
 * Web Mercator, in which the map draws, 0..1 from the north-west; and pictures of a view in it.
 */

import { BadInput } from "./errors.js";

/**
 * A picture of a view, RGBA as one number a pixel, clear at first. west, north: its corner;
 * across, down: pixels per unit of the world.
 *
 * @typedef {Readonly<{width: number, height: number, west: number, north: number, across: number,
 *   down: number, pixels: Uint32Array<ArrayBuffer>}>} Raster
 */

/**
 * Where a box lies in a picture: its edges, and the whole pixels between them that are in it.
 *
 * @typedef {{edges: [left: number, top: number, right: number, bottom: number], left: number,
 *   top: number, right: number, bottom: number}} Spot
 */

const MOST_PIXELS = 2 ** 24;

/**
 * West, north, east, south in Web Mercator.
 *
 * @param {ArrayLike<number>} box west south east north, degrees
 */
export function mercator(box) {
  return [(box[0] + 180) / 360, northing(box[3]), (box[2] + 180) / 360, northing(box[1])];
}

/** From 0 at the north to 1 at the south. @param {number} lat degrees */
export function northing(lat) {
  const sine = Math.sin((Math.min(Math.max(lat, -85.051129), 85.051129) * Math.PI) / 180);
  return 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI);
}

/**
 * An empty picture of a view. Throws BadInput.
 *
 * @param {readonly number[]} view west south east north, degrees; west > east across the
 *   antimeridian
 * @param {number} width pixels
 * @param {number} height
 * @returns {Raster}
 */
export function makeRaster(view, width, height) {
  if (!(width >= 1 && height >= 1 && width * height <= MOST_PIXELS)) {
    throw new BadInput(`view: expected at most ${MOST_PIXELS} pixels, found ${width} x ${height}`);
  }
  const [west, north, east, south] = mercator(view);
  const across = width / (east > west ? east - west : east + 1 - west);
  const down = height / (south - north);
  const pixels = new Uint32Array(width * height);
  return Object.freeze({ width, height, west, north, across, down, pixels });
}

/**
 * Where a box lies in a picture, which may show it twice: a turn of the world apart.
 *
 * @param {Raster} raster
 * @param {ArrayLike<number>} box west north east south in Web Mercator
 * @param {number} [at] where the box begins in a longer array
 * @returns {Spot[]}
 */
export function spotsOf({ width, height, west, north, across, down }, box, at = 0) {
  const [from, to] = [(box[at + 1] - north) * down, (box[at + 3] - north) * down];
  const [top, bottom] = pixelsBetween(from, to, height);
  const found = [];
  for (let turn = -1; turn <= 1 && top < bottom; turn++) {
    const begin = (box[at] + turn - west) * across;
    const end = (box[at + 2] + turn - west) * across;
    const [left, right] = pixelsBetween(begin, end, width);
    /** @type {Spot["edges"]} */
    const edges = [begin, from, end, to];
    if (left < right) found.push({ edges, left, top, right, bottom });
  }
  return found;
}

/**
 * The pixels between two edges, at least one where they are in the picture at all.
 *
 * @param {number} from
 * @param {number} to
 * @param {number} size
 */
function pixelsBetween(from, to, size) {
  if (to <= 0 || from >= size) return [0, 0];
  const first = Math.max(0, Math.floor(from));
  return [first, Math.min(size, Math.max(Math.floor(to), first + 1))];
}
