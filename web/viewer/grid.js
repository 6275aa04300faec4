/**
 * Geohash cells, and the pixels of a chip on the ground.
 *
 * A geohash of length p is a dyadic box: (5 p + 1) / 2 halvings of longitude and 5 p / 2 of
 * latitude, rounded down. Bounds are sums of dyadic fractions and so exact.
 */

import { BadInput } from "./errors.js";

/** @typedef {[west: number, south: number, east: number, north: number]} Box degrees */

export const ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz";
const LONGEST = 12;
// WGS84 semi-major axis (metres) and squared eccentricity; mean radius for distances.
const AXIS = 6_378_137;
const E2 = 6.694379990141316e-3;
const RADIUS = 6_371_008.8;
const RADIAN = Math.PI / 180;
const DIGITS = new Int8Array(128).fill(-1);
[...ALPHABET].forEach((letter, digit) => (DIGITS[letter.charCodeAt(0)] = digit));

/**
 * The text itself when it is a geohash of 1 to 12 characters. Throws BadInput.
 *
 * @param {unknown} text
 * @returns {string}
 */
export function checkGeohash(text) {
  if (typeof text === "string" && isGeohash(text)) return text;
  const found = JSON.stringify(String(text).slice(0, 80));
  throw new BadInput(`geohash: expected 1 to 12 characters of ${ALPHABET}, found ${found}`);
}

/**
 * Whether a text is a geohash.
 *
 * @param {string} text
 */
export function isGeohash(text) {
  if (text.length < 1 || text.length > LONGEST) return false;
  for (let i = 0; i < text.length; i++) if (!(DIGITS[text.charCodeAt(i)] >= 0)) return false;
  return true;
}

/**
 * How often longitude and latitude are halved. Throws BadInput outside 1..12.
 *
 * @param {number} precision
 * @returns {[across: number, up: number]}
 */
function halvings(precision) {
  if (!Number.isInteger(precision) || precision < 1 || precision > LONGEST) {
    throw new BadInput(`precision: expected 1 to 12, found ${precision}`);
  }
  return [(5 * precision + 1) >> 1, (5 * precision) >> 1];
}

/**
 * The geohash of a point in degrees. Longitude is wrapped to -180..180; 180 and the poles fall
 * into the last cell. Throws BadInput.
 *
 * @param {number} lon
 * @param {number} lat
 * @param {number} precision
 * @returns {string}
 */
export function encode(lon, lat, precision) {
  if (!Number.isFinite(lon) || !Number.isFinite(lat) || Math.abs(lat) > 90) {
    throw new BadInput("point: expected finite degrees with latitude in -90..90");
  }
  const [across, up] = halvings(precision);
  const x = Math.abs(lon) > 180 ? ((((lon + 180) % 360) + 360) % 360) - 180 : lon;
  return fromIndices(axisIndex(x, 360, across), axisIndex(lat, 180, up), precision);
}

/**
 * The geohash of a cell by column (from the west) and row (from the south).
 *
 * @param {number} column
 * @param {number} row
 * @param {number} precision
 * @returns {string}
 */
export function fromIndices(column, row, precision) {
  let [across, up] = halvings(precision);
  let name = "";
  for (let at = 0; at < precision; at++) {
    let digit = 0;
    for (let bit = 0; bit < 5; bit++) {
      const lengthwise = (at * 5 + bit) % 2 === 0;
      const from = lengthwise ? (column >>> --across) & 1 : (row >>> --up) & 1;
      digit = (digit << 1) | from;
    }
    name += ALPHABET[digit];
  }
  return name;
}

/**
 * Column (from the west) and row (from the south) of a cell. Throws BadInput.
 *
 * @param {string} name
 * @returns {[column: number, row: number]}
 */
export function cellIndex(name) {
  let column = 0;
  let row = 0;
  if (!isGeohash(name)) checkGeohash(name);
  for (let at = 0; at < name.length; at++) {
    const digit = DIGITS[name.charCodeAt(at)];
    const odd = ((digit >> 3) & 1) * 2 + ((digit >> 1) & 1);
    const even = ((digit >> 4) & 1) * 4 + ((digit >> 2) & 1) * 2 + (digit & 1);
    // Three bits of the even letters are of the column, two of the odd ones.
    column = at % 2 === 0 ? column * 8 + even : column * 4 + odd;
    row = at % 2 === 0 ? row * 4 + odd : row * 8 + even;
  }
  return [column, row];
}

/**
 * Bounds of one cell, exact. Throws BadInput.
 *
 * @param {string} name
 * @returns {Box}
 */
export function cellBounds(name) {
  const [column, row] = cellIndex(name);
  const wide = 360 / 2 ** ((5 * name.length + 1) >> 1);
  const tall = 180 / 2 ** ((5 * name.length) >> 1);
  const west = column * wide - 180;
  const south = row * tall - 90;
  return [west, south, west + wide, south + tall];
}

/**
 * Bounds of cells, exact: west south east north of each, n * 4. Throws BadInput.
 *
 * @param {ArrayLike<string>} names
 * @returns {Float64Array}
 */
export function bounds(names) {
  const out = new Float64Array(names.length * 4);
  for (let i = 0; i < names.length; i++) out.set(cellBounds(names[i]), i * 4);
  return out;
}

/**
 * Longitude and latitude of a cell's centre, exact.
 *
 * @param {string} name
 * @returns {[lon: number, lat: number]}
 */
export function center(name) {
  const [west, south, east, north] = cellBounds(name);
  return [(west + east) / 2, (south + north) / 2];
}

/**
 * Whether two boxes touch; west > east in `bbox` means across the antimeridian.
 *
 * @param {ArrayLike<number>} box west south east north
 * @param {ArrayLike<number>} bbox
 * @param {number} [at] where the first box begins in a longer array
 */
export function boxMeets(box, bbox, at = 0) {
  const eastward = box[at] <= bbox[2];
  const westward = box[at + 2] >= bbox[0];
  const within = bbox[0] > bbox[2] ? eastward || westward : eastward && westward;
  return within && box[at + 1] <= bbox[3] && box[at + 3] >= bbox[1];
}

/**
 * Metres per degree of longitude and of latitude, from WGS84's radii of curvature; beyond 89
 * degrees they stay what they are there.
 *
 * @param {number} lat
 * @returns {[east: number, north: number]}
 */
export function metresPerDegree(lat) {
  const angle = Math.min(Math.max(lat, -89), 89) * RADIAN;
  const w = 1 - E2 * Math.sin(angle) ** 2;
  const east = ((AXIS * Math.cos(angle)) / Math.sqrt(w)) * RADIAN;
  return [east, ((AXIS * (1 - E2)) / w ** 1.5) * RADIAN];
}

/**
 * Great-circle metres between two points (longitude, latitude) on the mean sphere.
 *
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function distanceM(a, b) {
  const across = Math.sin(((b[0] - a[0]) * RADIAN) / 2) ** 2;
  const up = Math.sin(((b[1] - a[1]) * RADIAN) / 2) ** 2;
  const chord = up + Math.cos(a[1] * RADIAN) * Math.cos(b[1] * RADIAN) * across;
  return 2 * RADIUS * Math.asin(Math.sqrt(Math.min(Math.max(chord, 0), 1)));
}

/**
 * The pixels of a chip: height x width squares of `gsd` metres, centred on a cell, on the
 * equirectangular plane of the cell's centre.
 */
export class ChipGrid {
  /**
   * @param {number} precision
   * @param {number} gsd metres
   * @param {number} height pixels
   * @param {number} width pixels
   */
  constructor(precision, gsd, height, width) {
    halvings(precision);
    if (!(Number.isFinite(gsd) && gsd > 0 && height >= 1 && width >= 1)) {
      throw new BadInput(
        `chip: expected a gsd and a size above 0, found ${gsd} ${height} ${width}`,
      );
    }
    this.precision = precision;
    this.gsd = gsd;
    this.height = height;
    this.width = width;
    Object.freeze(this);
  }

  /**
   * The affine [a, b, c, d, e, f] of a chip: x = a col + b row + c, y = d col + e row + f,
   * degrees; pixel corners at whole numbers. x may pass 180 at the antimeridian.
   *
   * @param {string} name
   * @returns {[number, number, number, number, number, number]}
   */
  transform(name) {
    const [lon, lat] = center(name);
    const [dx, dy] = this.#steps(lat);
    return [dx, 0, lon - (dx * this.width) / 2, 0, -dy, lat + (dy * this.height) / 2];
  }

  /**
   * First row, end row, first column, end column of the pixels whose centre lies in the cell;
   * at least one pixel each way.
   *
   * @param {string} name
   * @returns {[r0: number, r1: number, c0: number, c1: number]}
   */
  crop(name) {
    const [west, south, east, north] = cellBounds(name);
    const [dx, dy] = this.#steps((south + north) / 2);
    const [r0, r1] = inner(this.height, (north - south) / 2 / dy);
    const [c0, c1] = inner(this.width, (east - west) / 2 / dx);
    return [r0, r1, c0, c1];
  }

  /**
   * Degrees of longitude and latitude a pixel.
   *
   * @param {number} lat
   */
  #steps(lat) {
    const [east, north] = metresPerDegree(lat);
    return [this.gsd / east, this.gsd / north];
  }
}

/**
 * @param {number} size pixels
 * @param {number} half pixels from the centre to the cell's side
 */
function inner(size, half) {
  const first = Math.min(Math.max(Math.ceil(size / 2 - half - 0.5), 0), (size - 1) >> 1);
  return [first, size - first];
}

/**
 * Column or row of the cell that holds a coordinate: start <= degrees < end, exactly.
 *
 * @param {number} degrees
 * @param {number} turn
 * @param {number} depth
 */
function axisIndex(degrees, turn, depth) {
  const step = turn / 2 ** depth;
  let index = Math.floor((degrees + turn / 2) / step);
  // The sum above rounds; cell borders are exact, so one comparison each way repairs it.
  if (degrees < index * step - turn / 2) index -= 1;
  if (degrees >= (index + 1) * step - turn / 2) index += 1;
  return Math.min(Math.max(index, 0), 2 ** depth - 1);
}
